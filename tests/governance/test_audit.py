"""The audit log: what it hides, what it proves, and that no tampering goes unnoticed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from fedcredit.crypto import merkle
from fedcredit.errors import InputError, StorageError
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.checkpoint import sign_checkpoint
from fedcredit.governance.entries import Entry, canonical, disclose, subject_leaves
from fedcredit.governance.evidence import verify_bundle
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import AUDIT_ENTRIES, AUDIT_OPENINGS
from tests.support.audit_logs import FACTS, NOW, TAX, consents, fill, new_log, uscc


@pytest.fixture
def log(tmp_path):
    with new_log(tmp_path) as opened:
        yield opened


@pytest.fixture
def ledger(log):
    return log.ledger


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
