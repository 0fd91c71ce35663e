"""Every way to change an audit log behind its back is noticed."""

import json
import random
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from fedcredit.crypto import merkle
from fedcredit.errors import AuthenticationError, StorageError
from fedcredit.governance.checkpoint import sign_checkpoint
from fedcredit.governance.entries import Entry, canonical
from fedcredit.governance.ledger import Ledger
from tests.support.audit_logs import FACTS, NOW, TAX, fill, new_log


@pytest.fixture
def log(tmp_path):
    with new_log(tmp_path) as opened:
        yield opened


@pytest.fixture
def ledger(log):
    return log.ledger


# Tampering. Each case is a way to change a log of 40 entries at a random place; `tree` says
# whether whoever does it also makes the stored tree fit again.

SIZE = 40
Tamper = Callable[[sa.Connection, random.Random], None]


def rebuild(tx: sa.Connection) -> None:
    rows = tx.exec_driver_sql("SELECT entry FROM audit_entries ORDER BY number").fetchall()
    tx.exec_driver_sql("DELETE FROM audit_nodes")
    frontier = merkle.Frontier()
    for (data,) in rows:
        for row in frontier.append(merkle.leaf_hash(data)):
            tx.exec_driver_sql("INSERT INTO audit_nodes VALUES (?, ?, ?)", row)


def data_of(tx: sa.Connection, number: int) -> bytes:
    query = "SELECT entry FROM audit_entries WHERE number = ?"
    return tx.exec_driver_sql(query, (number,)).scalar_one()


def put(tx: sa.Connection, number: int, data: bytes) -> None:
    tx.exec_driver_sql("UPDATE audit_entries SET entry = ? WHERE number = ?", (data, number))


def edit(tx: sa.Connection, rng: random.Random) -> None:
    at = rng.randrange(SIZE)
    put(tx, at, data_of(tx, at).replace(b"admitted", b"admittad"))


def flip_bit(tx: sa.Connection, rng: random.Random) -> None:
    at, data = rng.randrange(SIZE), None
    data = bytearray(data_of(tx, at))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    put(tx, at, bytes(data))


def swap(tx: sa.Connection, rng: random.Random) -> None:
    a, b = rng.sample(range(SIZE), 2)
    first, second = data_of(tx, a), data_of(tx, b)
    put(tx, a, second)
    put(tx, b, first)


def swap_and_renumber(tx: sa.Connection, rng: random.Random) -> None:
    a, b = rng.sample(range(SIZE), 2)
    first, second = json.loads(data_of(tx, a)), json.loads(data_of(tx, b))
    put(tx, a, canonical({**second, "number": a, "time": first["time"]}))
    put(tx, b, canonical({**first, "number": b, "time": second["time"]}))


def remove_last(tx: sa.Connection, rng: random.Random) -> None:
    keep = rng.randrange(SIZE)
    for table in ("audit_entries", "audit_openings"):
        tx.exec_driver_sql(f"DELETE FROM {table} WHERE number >= ?", (keep,))


def remove_one(tx: sa.Connection, rng: random.Random) -> None:
    at = rng.randrange(SIZE - 1)
    for table in ("audit_entries", "audit_openings"):
        tx.exec_driver_sql(f"DELETE FROM {table} WHERE number = ?", (at,))


def remove_and_close_the_gap(tx: sa.Connection, rng: random.Random) -> None:
    at = rng.randrange(SIZE - 1)
    remove = "DELETE FROM {} WHERE number = ?"
    for table in ("audit_entries", "audit_openings"):
        tx.exec_driver_sql(remove.format(table), (at,))
        for i in range(at + 1, SIZE):
            tx.exec_driver_sql(f"UPDATE {table} SET number = ? WHERE number = ?", (i - 1, i))
    for i in range(at, SIZE - 1):
        put(tx, i, canonical({**json.loads(data_of(tx, i)), "number": i}))


def insert(tx: sa.Connection, rng: random.Random) -> None:
    at = rng.randrange(SIZE)
    for table in ("audit_entries", "audit_openings"):
        for i in range(SIZE - 1, at - 1, -1):
            tx.exec_driver_sql(f"UPDATE {table} SET number = ? WHERE number = ?", (i + 1, i))
    for i in range(at + 1, SIZE + 1):
        put(tx, i, canonical({**json.loads(data_of(tx, i)), "number": i}))
    made = Entry.make(at, "score", "tax/fedcredit-audit", FACTS, now=NOW)
    row = (at, made.time, made.kind, made.data)
    tx.exec_driver_sql("INSERT INTO audit_entries VALUES (?, ?, ?, ?)", row)


def edit_column(tx: sa.Connection, rng: random.Random) -> None:
    at, column = rng.randrange(SIZE), rng.choice(["time = time + 1", "kind = 'verify'"])
    tx.exec_driver_sql(f"UPDATE audit_entries SET {column} WHERE number = ?", (at,))


def edit_node(tx: sa.Connection, rng: random.Random) -> None:
    nodes = tx.exec_driver_sql("SELECT level, position FROM audit_nodes").fetchall()
    query = "UPDATE audit_nodes SET hash = zeroblob(32) WHERE level = ? AND position = ?"
    tx.exec_driver_sql(query, tuple(rng.choice(nodes)))


def remove_node(tx: sa.Connection, rng: random.Random) -> None:
    nodes = tx.exec_driver_sql("SELECT level, position FROM audit_nodes").fetchall()
    query = "DELETE FROM audit_nodes WHERE level = ? AND position = ?"
    tx.exec_driver_sql(query, tuple(rng.choice(nodes)))


def other_opening(tx: sa.Connection, rng: random.Random) -> None:
    numbers = tx.exec_driver_sql("SELECT number FROM audit_openings").scalars().all()
    at = rng.choice(numbers)
    change = rng.choice(["salt = zeroblob(32)", "subjects = replace(subjects, 'M', 'N')"])
    tx.exec_driver_sql(f"UPDATE audit_openings SET {change} WHERE number = ?", (at,))


def lose_opening(tx: sa.Connection, rng: random.Random) -> None:
    numbers = tx.exec_driver_sql("SELECT number FROM audit_openings").scalars().all()
    tx.exec_driver_sql("DELETE FROM audit_openings WHERE number = ?", (rng.choice(numbers),))


def fork(tx: sa.Connection, rng: random.Random) -> None:
    """Another history from some entry on, of the same length."""
    for i in range(rng.randrange(SIZE), SIZE):
        value = json.loads(data_of(tx, i))
        put(tx, i, canonical({**value, "facts": {**value["facts"], "target": "other@1"}}))


CONTENT = [
    edit, flip_bit, swap, swap_and_renumber, remove_last, remove_one, remove_and_close_the_gap,
    insert, fork,
]  # fmt: skip
STORE = [edit_column, edit_node, remove_node, other_opening, lose_opening]


def tampered(ledger: Ledger, how: Tamper, seed: int, *, tree: bool) -> None:
    with ledger.transaction() as tx:
        how(tx, random.Random(seed))
        if tree:
            rebuild(tx)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", CONTENT + STORE, ids=lambda how: how.__name__)
def test_every_change_is_noticed(log, how, seed):
    fill(log, SIZE)
    log.checkpoint(NOW)
    assert log.verify().ok
    tampered(log.ledger, how, seed, tree=False)
    assert not log.verify().ok


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", CONTENT, ids=lambda how: how.__name__)
def test_every_change_is_noticed_though_the_tree_was_made_to_fit(log, how, seed):
    fill(log, SIZE)
    log.checkpoint(NOW)
    tampered(log.ledger, how, seed, tree=True)
    report = log.verify()
    assert "checkpoints" in report.failed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", CONTENT, ids=lambda how: how.__name__)
def test_every_change_is_noticed_by_a_witness_s_copy(log, how, seed):
    """Tree rebuilt, own checkpoints deleted: what a witness holds still tells."""
    fill(log, SIZE)
    copy = log.checkpoint(NOW).note
    assert log.verify([copy]).ok
    with log.ledger.transaction() as tx:
        tx.exec_driver_sql("DELETE FROM checkpoints")
    tampered(log.ledger, how, seed, tree=True)
    assert "copies" in log.verify([copy]).failed


def test_a_log_continued_after_a_rollback_is_noticed(log):
    fill(log, SIZE)
    copy = log.checkpoint(NOW).note
    with log.ledger.transaction() as tx:
        tx.exec_driver_sql("DELETE FROM checkpoints")
        for table in ("audit_entries", "audit_openings"):
            tx.exec_driver_sql(f"DELETE FROM {table} WHERE number >= 30")
        rebuild(tx)
    fill(log, 20, start=30)
    assert log.verify().ok  # without a witness nothing tells; the fresh salts make other entries
    assert log.verify([copy]).failed == ("copies",)


def test_a_tampered_log_signs_and_takes_nothing_more(log):
    fill(log, SIZE)
    log.checkpoint(NOW)
    tampered(log.ledger, fork, 1, tree=True)
    with pytest.raises(StorageError, match="last checkpoint"):
        log.checkpoint(NOW)
    with log.ledger.transaction() as tx:
        tx.exec_driver_sql("DELETE FROM audit_entries WHERE number = ?", (SIZE - 1,))
    with pytest.raises(StorageError):
        fill(log, 1, start=SIZE - 1)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE checkpoints SET size = 39",
        "UPDATE checkpoints SET root = zeroblob(32)",
        "UPDATE checkpoints SET root = 'text'",
        "UPDATE checkpoints SET note = 'text'",
        "UPDATE checkpoints SET note = replace(note, '40', '39')",
        "UPDATE audit_entries SET entry = 'text' WHERE number = 7",
        "UPDATE audit_entries SET time = 'text' WHERE number = 7",
        "UPDATE audit_nodes SET hash = 'text' WHERE level = 2",
        "UPDATE audit_openings SET salt = 'text'",
        "UPDATE audit_openings SET subjects = '[]'",
        "INSERT INTO audit_nodes VALUES (9, 0, zeroblob(32))",
        "INSERT INTO audit_openings VALUES (0, zeroblob(32), '{}')",
    ],
)
def test_a_damaged_database_is_reported(log, change):
    fill(log, SIZE)
    log.checkpoint(NOW)
    with log.ledger.transaction() as tx:
        tx.exec_driver_sql(change)
    assert not log.verify().ok


def test_a_witnessed_fork_is_reported(log):
    head = sign_checkpoint("social/a", 1, b"\1" * 32, TAX)
    log.witness(head.note, TAX.public_key, NOW)
    assert "others" not in log.verify().failed
    with pytest.raises(AuthenticationError):
        log.witness(sign_checkpoint("social/a", 1, b"\2" * 32, TAX).note, TAX.public_key, NOW)
    assert "others" in log.verify().failed


def test_a_question_without_entry_is_noticed(log):
    fill(log, 3)
    with log.ledger.transaction() as tx:
        tx.exec_driver_sql(
            'INSERT INTO questions (time, institution, purpose, "use", subject_of_use, subjects,'
            " outcome, entry) VALUES (1, 'bank', 'guarantee', 'score', 'm@1', 1, 'admitted', 3)"
        )
    assert log.verify().failed == ("questions",)
