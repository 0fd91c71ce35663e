"""The audit log: what it hides, what it proves, and that no tampering goes unnoticed."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from fedcredit.crypto import merkle
from fedcredit.errors import AuthenticationError, InputError, StorageError
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.checkpoint import sign_checkpoint
from fedcredit.governance.entries import Entry, canonical, disclose, subject_leaves
from fedcredit.governance.evidence import verify_bundle
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import AUDIT_ENTRIES, AUDIT_OPENINGS
from fedcredit.wire import Identity

NOW = 1_764_000_000.0
TAX = Identity.generate("tax")
FACTS = {"institution": "bank", "target": "sme-card@1", "outcome": "admitted", "fields": ["paid"]}


def uscc(i: int) -> str:
    return f"91350211M{i:09d}"


def consents(n: int) -> list[bytes]:
    return [bytes([i % 256]) * 32 for i in range(n)]


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(f"sqlite:///{tmp_path}/governance.db", party="tax")
    yield opened
    opened.close()


@pytest.fixture
def log(ledger):
    return AuditLog(ledger, TAX)


def fill(log: AuditLog, n: int, *, start: int = 0) -> None:
    with log.ledger.transaction() as tx:
        for i in range(start, start + n):
            who = [uscc(i), uscc(i + 1)][: i % 3]
            number = log.append(
                tx, "score", {**FACTS, "request": f"{i:064x}"}, who, consents(len(who)), now=NOW + i
            )
            assert number == i


# What stands in an entry


def test_an_entry_is_canonical_json_without_enterprises(log):
    with log.ledger.transaction() as tx:
        log.append(tx, "score", FACTS, [uscc(1)], consents(1), now=NOW + 0.1234)
        entry = log.entry(tx, 0)
    value = json.loads(entry.data)
    assert entry.data == json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    assert set(value) == {"facts", "kind", "number", "origin", "subjects", "time", "v"}
    assert (value["facts"], value["time"], value["number"]) == (FACTS, 1_764_000_000_123, 0)
    assert (entry.subjects, entry.time) == (1, NOW + 0.123)
    assert uscc(1).encode() not in entry.data


@pytest.mark.parametrize(
    "bad", [1.5, float("nan"), b"bytes", {1: 2}, {"é": 1}, 2**53, "\ud800", {"a": object()}]
)
def test_what_has_no_canonical_form_is_refused(log, bad):
    with pytest.raises(InputError), log.ledger.transaction() as tx:
        log.append(tx, "score", {"value": bad}, now=NOW)


def test_canonical_json_as_in_rfc_8785():
    value = {"b": "€\u000f\nA'\"\\/", "a": [True, None, -3], "A": {}}
    assert canonical(value) == '{"A":{},"a":[true,null,-3],"b":"€\\u000f\\nA\'\\"\\\\/"}'.encode()


def test_an_enterprise_in_the_fields_is_refused(log):
    who = [uscc(1)]
    with pytest.raises(InputError, match="an enterprise") as caught, log.ledger.transaction() as tx:
        log.append(tx, "score", {"note": f"of {uscc(1)}"}, who, now=NOW)
    assert uscc(1) not in str(caught.value)


def test_no_enterprise_anywhere_but_in_the_openings(log, tmp_path):
    fill(log, 30)
    log.checkpoint(NOW)
    with log.ledger.transaction() as tx:
        log.append(tx, "verify", FACTS, [uscc(i) for i in range(200)], now=NOW)
    everything = re.compile(rb"91350211M\d{9}")
    assert any(everything.search(path.read_bytes()) for path in tmp_path.iterdir())
    log.shred(range(31), NOW)
    with log.ledger.reading() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(AUDIT_OPENINGS)).scalar() == 0
    assert [path for path in tmp_path.iterdir() if everything.search(path.read_bytes())] == []


def test_equal_questions_make_unlike_commitments(log):
    with log.ledger.transaction() as tx:
        for _ in range(2):
            log.append(tx, "score", FACTS, [uscc(1)], consents(1), now=NOW)
        assert log.entry(tx, 0).root != log.entry(tx, 1).root


# Opening


@pytest.mark.parametrize("n", [1, 2, 5, 300])
def test_an_entry_opens_for_each_of_its_enterprises_alone(log, n):
    who = [uscc(i) for i in range(n)]
    with log.ledger.transaction() as tx:
        number = log.append(tx, "score", FACTS, who, consents(n), now=NOW)
        entry = log.entry(tx, number)
        opened = log.disclosure(tx, number, who[n // 2])
        with pytest.raises(InputError, match="not about this enterprise"):
            log.disclosure(tx, number, uscc(n))
    assert opened.opens(entry)
    for change in (
        {"subject": uscc(n + 1)},
        {"subject": uscc(0) if n // 2 else uscc(n)},
        {"consent": b"\xff" * 32},
        {"consent": b""},
        {"salt": bytes(32)},
        {"salt": opened.salt + b"\0"},
        {"position": n},
        {"path": (*opened.path, bytes(32))},
    ):
        assert not type(opened)(**{**vars(opened), **change}).opens(entry)


def test_what_opens_one_enterprise_does_not_open_another():
    """With the salt and path of one member, no other enterprise fits, wherever it may stand."""
    salt, who = bytes(range(32)), [uscc(i) for i in range(8)]
    entry = Entry.make(0, "score", "o", {}, now=NOW, leaves=subject_leaves(salt, who))
    opened = disclose(salt, who, [], who[3])
    others = [
        type(opened)(subject, b"", position, opened.salt, opened.path).opens(entry)
        for subject in who
        for position in range(8)
        if (subject, position) != (who[3], 3)
    ]
    assert opened.opens(entry)
    assert not any(others)


def test_consents_are_one_per_enterprise(log):
    for given in ([b"\1" * 32], [b"\1" * 31, b"\2" * 32]):
        with pytest.raises(InputError, match="one consent per"), log.ledger.transaction() as tx:
            log.append(tx, "score", FACTS, [uscc(1), uscc(2)], given, now=NOW)


def test_deleting_the_salt_is_recorded_and_final(log, tmp_path):
    fill(log, 9)
    with log.ledger.reading() as tx:
        salt = tx.execute(sa.select(AUDIT_OPENINGS.c.salt).where(AUDIT_OPENINGS.c.number == 5))
        secret = bytes(salt.scalar_one())
    log.shred([5], NOW)
    with log.ledger.reading() as tx, pytest.raises(InputError, match="deleted"):
        log.disclosure(tx, 5, uscc(5))
    assert not [path for path in tmp_path.iterdir() if secret in path.read_bytes()]
    assert log.verify().ok


# Proofs


def test_every_entry_is_proven_in_every_later_size(log):
    fill(log, 21)
    with log.ledger.reading() as tx:
        entries = [log.entry(tx, i).data for i in range(21)]
    leaves = [merkle.leaf_hash(data) for data in entries]
    for size in (1, 2, 7, 8, 13, 21):
        for number in range(size):
            proof = log.prove_inclusion(number, size)
            assert proof.root == merkle.root_of(leaves[:size])
            assert proof.holds(entries[number])
            assert not proof.holds(entries[number - 1] + b" ")
        proof = log.prove_consistency(size)
        old, new = merkle.root_of(leaves[:size]), merkle.root_of(leaves)
        assert merkle.verify_consistency(size, 21, old, new, proof)


def test_only_what_there_is_can_be_proven(log):
    fill(log, 3)
    for call in (
        lambda: log.prove_inclusion(3),
        lambda: log.prove_inclusion(1, 4),
        lambda: log.prove_consistency(4),
        lambda: log.prove_consistency(2, 1),
        lambda: log.export(7, now=NOW),
        lambda: log.export(request="ff", now=NOW),
    ):
        with pytest.raises(InputError):
            call()


def test_a_checkpoint_is_the_log_as_it_is(log):
    empty = log.checkpoint(NOW)
    assert (empty.size, empty.root) == (0, merkle.EMPTY_ROOT)
    fill(log, 6)
    head = log.checkpoint(NOW)
    assert (head.size, head.root) == (6, log.prove_inclusion(0).root)
    assert log.checkpoint(NOW + 1) == head


def test_entries_in_both_directions(log):
    fill(log, 1203)
    assert [entry.number for entry in log.entries(700, 1201)] == list(range(700, 1201))
    assert [e.number for e in log.entries(newest_first=True)] == list(range(1202, -1, -1))
    assert log.find(f"{77:064x}") == (77,)


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


# Failures and concurrency


def test_nothing_stands_half_after_a_failure(log):
    fill(log, 5)
    with pytest.raises(RuntimeError, match="after"), log.ledger.transaction() as tx:  # noqa: PT012
        log.append(tx, "score", FACTS, [uscc(1)], now=NOW)
        raise RuntimeError("after the entry")
    fill(log, 2, start=5)
    assert log.verify().ok


@pytest.mark.parametrize("spare", range(6))
def test_a_full_disk_leaves_nothing_half_logged(log, spare):
    fill(log, 5)
    with log.ledger.transaction() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages + spare}")
    done, who = 5, [uscc(i) for i in range(300)]
    with pytest.raises(StorageError) as caught:  # noqa: PT012 - how many fit depends on the pages
        while done < 100:
            with log.ledger.transaction() as tx:
                log.append(tx, "score", FACTS, who, now=NOW)
            done += 1
    assert "91350211M" not in str(caught.value)
    with log.ledger.reading() as tx:
        assert log.size(tx) == done
    report = log.verify()
    assert report.ok, report
    with log.ledger.transaction() as tx:
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages + 1000}")
        assert log.append(tx, "score", FACTS, who, now=NOW) == done
    assert log.verify().ok


WRITER = """
import sys
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.ledger import Ledger
from fedcredit.wire import Identity
ledger = Ledger(sys.argv[1])
log = AuditLog(ledger, Identity.generate("tax"))
for i in range(40):
    with ledger.transaction() as tx:
        log.append(tx, "score", {"writer": sys.argv[2], "i": i}, ["91350211M000100Y43"], now=1.0)
"""


def test_several_processes_append_to_one_log(database_url):
    ledger = Ledger(database_url, party="tax")
    log, root = AuditLog(ledger, TAX), Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, database_url, str(i)], cwd=root)
        for i in range(3)
    ]
    reports = [log.verify()]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    reports.append(log.verify())
    assert [report.failed for report in reports] == [(), ()]
    facts = [entry.facts for entry in log.entries()]
    assert len(facts) == 120
    for i in range(3):
        assert [f["i"] for f in facts if f["writer"] == str(i)] == list(range(40))
    ledger.close()


def test_the_same_on_both_databases(database_url):
    """Append, sign, prove, witness, export, delete salts, verify."""
    ledger = Ledger(database_url, party="tax")
    log = AuditLog(ledger, TAX)
    fill(log, 11)
    first = log.checkpoint(NOW)
    fill(log, 9, start=11)
    second = log.checkpoint(NOW + 1)
    proof = log.prove_consistency(11, 20)
    assert merkle.verify_consistency(11, 20, first.root, second.root, proof)
    other = sign_checkpoint("social/a", 3, b"\1" * 32, TAX)
    assert log.witness(other.note, TAX.public_key, NOW).signers == ("social/a", "tax")
    bundle = log.export(request=f"{5:064x}", disclose=uscc(5), now=NOW + 60)
    assert verify_bundle(bundle, keys={"tax": TAX.public_key}).ok
    assert log.shred([5], NOW + 61) == 20
    assert log.verify([first.note, second.note]).ok
    with ledger.transaction() as tx:
        tx.execute(AUDIT_ENTRIES.update().where(AUDIT_ENTRIES.c.number == 7).values(entry=b"{}"))
    assert set(log.verify().failed) == {"entries", "tree", "openings", "checkpoints"}
    ledger.close()


def test_an_audit_log_shows_and_pickles_nothing(log):
    assert repr(log) == "AuditLog('tax/fedcredit-audit')"
    with pytest.raises(TypeError):
        log.__reduce__()
    with log.ledger.transaction() as tx:
        log.append(tx, "score", FACTS, [uscc(1)], consents(1), now=NOW)
        assert uscc(1) not in repr(log.disclosure(tx, 0, uscc(1)))
        assert tx.execute(sa.select(AUDIT_ENTRIES.c.number)).scalar() == 0
