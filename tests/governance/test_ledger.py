"""The governance database: serialised, durable, quick to open, silent about data and passwords."""

from __future__ import annotations

import copy
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from fedcredit.errors import ConfigError, StorageError
from fedcredit.governance import ledger as module
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import COUNTERS, REVOCATIONS
from tests.support.databases import new_postgres

ROOT = Path(__file__).resolve().parents[2]
SECRET = "91110000710931234X"


def add(tx: sa.Connection, number: int, what: str = "n") -> None:
    tx.execute(
        COUNTERS.insert().values(institution="b", what=what, period=number, questions=number)
    )


def write_in_one(ledger: Ledger, work: Callable[[sa.Connection], object]) -> None:
    with ledger.transaction() as tx:
        work(tx)


def total(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(COUNTERS))


@pytest.fixture(params=["file", "memory", "postgresql"])
def any_ledger(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "postgresql":
        with new_postgres() as url:
            opened = Ledger(url, party="tax")
            yield opened
            opened.close()
    else:
        url = "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'g.db'}"
        opened = Ledger(url, party="tax")
        yield opened
        opened.close()


def test_a_transaction_stands_as_a_whole_or_not_at_all(any_ledger: Ledger):
    with any_ledger.transaction() as tx:
        add(tx, 1)
        add(tx, 2)
    with pytest.raises(ZeroDivisionError):
        write_in_one(any_ledger, lambda tx: (add(tx, 3), 1 / 0))
    with any_ledger.reading() as connection:
        assert total(connection) == 2


def test_threads_read_and_add_without_losing_one(any_ledger: Ledger):
    """A counter that is read, then written: only serialised transactions keep every step."""
    with any_ledger.transaction() as tx:
        add(tx, 0)
    seen, errors = [], []

    def work() -> None:
        try:
            for _ in range(20):
                with any_ledger.transaction() as tx:
                    value = tx.scalar(sa.select(COUNTERS.c.questions))
                    tx.execute(COUNTERS.update().values(questions=value + 1))
                with any_ledger.reading() as connection:
                    seen.append(connection.scalar(sa.select(COUNTERS.c.questions)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert max(seen) == 80
    with any_ledger.reading() as connection:
        assert connection.scalar(sa.select(COUNTERS.c.questions)) == 80


def test_a_reader_sees_no_half_of_a_transaction(any_ledger: Ledger):
    inside, go_on = threading.Event(), threading.Event()
    found = []

    def write() -> None:
        with any_ledger.transaction() as tx:
            add(tx, 1)
            inside.set()
            assert go_on.wait(20)
            add(tx, 2)

    def read() -> None:
        with any_ledger.reading() as connection:
            found.append(total(connection))

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(20)
    reader = threading.Thread(target=read)
    reader.start()
    if not any_ledger._memory:
        reader.join(20)
        assert found == [0]
    go_on.set()
    writer.join(20)
    reader.join(20)
    assert found in ([0], [2])


def test_reading_is_one_state_and_never_writes(ledger: Ledger):
    with ledger.reading() as connection:
        assert total(connection) == 0
        thread = threading.Thread(target=lambda: _add_one(ledger))
        thread.start()
        thread.join(20)
        assert total(connection) == 0
    with ledger.reading() as connection:
        assert total(connection) == 1
    with pytest.raises(StorageError, match="cannot be read"), ledger.reading() as connection:
        add(connection, 2)
    with ledger.transaction() as tx:
        add(tx, 3)
    with ledger.reading() as connection:
        assert total(connection) == 2


def _add_one(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        add(tx, 1)


def test_a_thread_reads_in_its_own_transaction_and_opens_no_second(any_ledger: Ledger):
    with any_ledger.transaction() as tx:
        add(tx, 1)
        with any_ledger.reading() as connection:
            assert total(connection) == 1
        with pytest.raises(StorageError, match="already"), any_ledger.transaction():
            pass
    with any_ledger.reading() as connection:
        assert total(connection) == 1


def test_a_thread_that_reads_may_read_more(any_ledger: Ledger):
    with any_ledger.transaction() as tx:
        add(tx, 1)
    with any_ledger.reading() as outer:
        with any_ledger.reading() as inner:
            assert inner is outer
        assert total(outer) == 1
        if any_ledger._memory:
            with pytest.raises(StorageError, match="being read"), any_ledger.transaction():
                pass
        else:
            with any_ledger.transaction() as tx:
                add(tx, 2)
            assert total(outer) == 1
    with any_ledger.transaction() as tx:
        add(tx, 3)


def test_what_is_deleted_is_not_in_the_file(tmp_path: Path):
    path = tmp_path / "g.db"
    ledger = Ledger(f"sqlite:///{path}")
    with ledger.transaction() as tx:
        add(tx, 1, what=SECRET)
    with ledger.transaction() as tx:
        tx.execute(COUNTERS.delete())
    ledger.close()
    assert SECRET.encode() not in path.read_bytes()


def test_a_broken_rule_of_the_tables_names_no_row(any_ledger: Ledger):
    row = {"jti": "j", "subject": SECRET, "time": 1.0, "token": "private token"}
    insert = REVOCATIONS.insert()
    with pytest.raises(StorageError) as caught:
        write_in_one(any_ledger, lambda tx: (tx.execute(insert, row), tx.execute(insert, row)))
    assert "breaks a rule of the tables" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "private" not in str(caught.value)
    assert caught.value.party == "tax"
    assert caught.value.__cause__ is None


def test_a_full_disk_is_said_and_nothing_stands(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'g.db'}", party="tax")
    with ledger.transaction() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar()
        # The limit holds for the connection, which the pool gives again.
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StorageError, match="the disk is full") as caught:
        write_in_one(ledger, lambda tx: [add(tx, n, what=SECRET) for n in range(2000)])
    assert SECRET not in str(caught.value)
    with ledger.reading() as connection:
        assert total(connection) == 0
    ledger.close()


def test_a_damaged_file_is_said(tmp_path: Path):
    path = tmp_path / "g.db"
    path.write_bytes(b"no database at all, but some text that is long enough" * 50)
    with pytest.raises(StorageError, match="the file is no database"):
        Ledger(f"sqlite:///{path}")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be opened"):
        Ledger(f"sqlite:///{tmp_path / 'file' / 'g.db'}")
    (tmp_path / "g.db").mkdir()
    with pytest.raises(StorageError, match="cannot be opened"):
        Ledger(f"sqlite:///{tmp_path / 'g.db'}")


def test_a_read_only_database_is_said(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'g.db'}")
    with ledger.transaction() as tx:
        tx.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(StorageError, match="it is read-only"), ledger.transaction() as tx:
        add(tx, 1)
    ledger.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_lock_held_by_another_ends_in_an_error(tmp_path: Path, monkeypatch, kind: str):
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'g.db'}"
        first, second = Ledger(url), Ledger(url)
        with (
            first.transaction(),
            pytest.raises(StorageError, match="another process has held it"),
            second.transaction(),
        ):
            pass
    else:
        with new_postgres() as url:
            first, second = Ledger(url), Ledger(url)
            with (
                first.transaction(),
                pytest.raises(StorageError, match="another process has held it"),
                second.transaction(),
            ):
                pass
            first.close(), second.close()
    first.close(), second.close()


def test_a_server_that_drops_connections_costs_no_question():
    with new_postgres() as url:
        ledger, other = Ledger(url), Ledger(url)
        kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        with other.transaction() as tx:
            tx.exec_driver_sql(f"{kill} WHERE datname=current_database() AND pid<>pg_backend_pid()")
        with ledger.transaction() as tx:
            add(tx, 1)
        ledger.close(), other.close()


def test_a_server_that_is_away_is_said(tmp_path: Path):
    url = f"postgresql://joe:{SECRET}@/x?host={tmp_path}"
    with pytest.raises(StorageError) as caught:
        Ledger(url)
    assert "cannot be opened" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        f"://{SECRET}",
        f"mysql://joe:{SECRET}@h/x",
        f"postgresql+asyncpg://joe:{SECRET}@h/x",
        f"sqlite:///file:x?mode=memory&uri=true&k={SECRET}",
        f"postgresql://joe:{SECRET}@h:port/x",
    ],
)
def test_other_databases_are_refused_without_their_url(url: str):
    with pytest.raises(ConfigError) as caught:
        Ledger(url)
    assert SECRET not in str(caught.value)


def test_nothing_shows_a_password_and_nothing_is_copied():
    with new_postgres() as url:
        ledger = Ledger(url.replace("tester@", f"tester:{SECRET}@"), party="tax")
        shown = f"{ledger!r} {ledger} {ledger._engine!r} {ledger._engine.url!r} {ledger._engine}"
        assert SECRET not in shown
        assert repr(ledger) == "Ledger('postgresql', party='tax')"
        for copying in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                copying(ledger)
        ledger.close()


def test_files_are_the_owners_alone(tmp_path: Path):
    path = tmp_path / "new" / "state" / "g.db"
    old = os.umask(0o022)
    try:
        ledger = Ledger(f"sqlite:///{path}")
        with ledger.transaction() as tx:
            add(tx, 1)
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
        assert {file.name for file in path.parent.iterdir()} >= {"g.db", "g.db-wal"}
        ledger.close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_commits_reach_the_disk(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'g.db'}")
    with ledger.transaction() as tx:
        assert tx.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert tx.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    ledger.close()


def test_a_kill_leaves_the_committed_and_nothing_else(database_url: str):
    code = (
        "import os, sys\n"
        "from fedcredit.governance.ledger import Ledger\n"
        "from tests.governance.test_ledger import add\n"
        "ledger = Ledger(sys.argv[1])\n"
        "with ledger.transaction() as tx: add(tx, 1)\n"
        "with ledger.transaction() as tx:\n"
        "    add(tx, 2)\n"
        "    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, database_url], cwd=ROOT, timeout=60)
    assert done.returncode == 9
    ledger = Ledger(database_url)
    with ledger.reading() as connection:
        assert connection.scalars(sa.select(COUNTERS.c.period)).all() == [1]
    ledger.close()


def test_processes_open_a_new_database_at_once(database_url: str):
    code = (
        "import sys\n"
        "from fedcredit.governance.ledger import Ledger\n"
        "from tests.governance.test_ledger import add\n"
        "sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
        "ledger = Ledger(sys.argv[1])\n"
        "for n in range(10):\n"
        "    with ledger.transaction() as tx: add(tx, n, sys.argv[2])\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, database_url, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    ledger = Ledger(database_url)
    with ledger.reading() as connection:
        assert total(connection) == 40
    ledger.close()


def test_threads_open_a_new_database_at_once(database_url: str):
    start, errors = threading.Barrier(4), []

    def work() -> None:
        start.wait(20)
        try:
            Ledger(database_url).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_a_current_database_opens_fast_and_without_alembic(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'g.db'}"
    Ledger(url).close()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        Ledger(url).close()
        times.append(time.perf_counter() - start)
    assert min(times) < 0.06
    code = (
        "import sys\n"
        "from fedcredit.governance.ledger import Ledger\n"
        "Ledger(sys.argv[1]).close()\n"
        "assert 'alembic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, url], cwd=ROOT, check=True, timeout=60)


def test_a_restored_copy_that_lost_write_ahead_logging_gets_it_back(tmp_path: Path):
    path = tmp_path / "g.db"
    Ledger(f"sqlite:///{path}").close()
    plain = sqlite3.connect(path)
    assert plain.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    plain.close()
    ledger = Ledger(f"sqlite:///{path}")
    with ledger.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    ledger.close()
