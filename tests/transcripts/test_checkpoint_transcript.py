"""What crosses the wire when checkpoints are exchanged, held to the table of the protocol."""

import hashlib
import itertools
import re

from fedcredit.governance.audit import AuditLog
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.witnessing import LogWitness, WitnessedLog
from fedcredit.protocols.checkpoints import exchange_checkpoints
from fedcredit.wire import Identity, Peers, Transcript, message_class, run_in_process

NOW = 1_764_000_000.0
BANK, PARTIES = "bank", ("platform", "tax", "social")
WHO = [f"91350211M{i:09d}" for i in range(6)]
CONSENTS = [hashlib.sha256(b"consent %d" % i).digest() for i in range(6)]
REQUEST = "ab" * 32
NOTE = re.compile(
    r"(\w+)/fedcredit-audit\n\d+\n[A-Za-z0-9+/]{43}=\n\n"
    r"— \1/fedcredit-audit [A-Za-z0-9+/]{91}=\n(— \w+ [A-Za-z0-9+/=]{104}\n)?"
)


def exchanged(times=2):
    identities = {name: Identity.generate(name) for name in (BANK, *PARTIES)}
    keys = {name: who.public_key for name, who in identities.items()}
    ledgers = {name: Ledger("sqlite://", party=name) for name in identities}
    logs = {name: AuditLog(ledgers[name], identities[name]) for name in PARTIES}
    transcript = Transcript(keep=True)
    for _ in range(times):
        for name, log in logs.items():
            for n in range(len(name)):
                facts = {"institution": BANK, "request": REQUEST, "outcome": "admitted"}
                with log.ledger.transaction() as tx:
                    log.append(tx, "score", facts, WHO[: n + 1], CONSENTS[: n + 1], now=NOW)
        roles = {}
        for name, who in identities.items():
            own = WitnessedLog(logs[name], who, lambda: NOW) if name in logs else None
            roles[name] = exchange_checkpoints(
                Peers([other for other in identities if other != name], keys),
                name,
                client=BANK,
                logs=PARTIES,
                witness=own or LogWitness(ledgers[name], who, lambda: NOW),
                own=own,
            )
        run_in_process(roles, transcript=transcript)
    salts = []
    for log in logs.values():
        with log.ledger.reading() as tx:
            salts += [row[0] for row in tx.exec_driver_sql("SELECT salt FROM audit_openings")]
    return transcript, logs, salts


def test_the_messages_are_those_of_the_protocol():
    transcript, _, _ = exchanged()
    for sender, recipient in itertools.permutations((BANK, *PARTIES), 2):
        kinds = [r.message.kind for r in transcript.between(sender, recipient)]
        wanted = []
        if recipient != BANK:  # who has a log is told what is known of it
            wanted += ["checkpoint.known", "checkpoint.copy"]
        if sender != BANK:
            wanted += ["checkpoint.head"]
            wanted += ["checkpoint.report"] if recipient == BANK else []
        assert sorted(kinds) == sorted(2 * wanted)
        assert all(message_class(kind).reveals for kind in kinds)


def test_notes_and_hashes_cross_and_nothing_else():
    transcript, _, _ = exchanged()
    proofs = 0
    for record in transcript.records:
        message = record.message
        match message.kind:
            case "checkpoint.known":
                assert message.size >= 0
            case "checkpoint.head":
                assert NOTE.fullmatch(message.note)
                assert {len(item) for item in message.proof} <= {32}
                proofs += bool(message.proof)
            case "checkpoint.copy":
                assert message.outcome == "witnessed"
                assert NOTE.fullmatch(message.note)
            case "checkpoint.report":
                assert message.refused == ()
        assert len(record.data.to_pybytes()) < 4096
    assert proofs == 9  # in the second exchange, of three logs to three witnesses


def test_no_enterprise_consent_request_or_salt_is_on_the_wire():
    transcript, logs, salts = exchanged()
    wire = b"|".join(record.data.to_pybytes() for record in transcript.records)
    assert salts
    for secret in (*[who.encode() for who in WHO], *CONSENTS, REQUEST.encode(), *salts):
        assert secret not in wire
    for log in logs.values():
        for entry in log.entries():
            assert entry.data not in wire
    # The search sees what is there.
    assert b"tax/fedcredit-audit" in wire
