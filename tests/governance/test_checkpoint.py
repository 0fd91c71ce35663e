"""Signed notes, checkpoints, cosignatures, and witnesses that refuse a fork."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcredit.crypto import merkle
from fedcredit.errors import AuthenticationError, InputError
from fedcredit.governance import checkpoint as notes
from fedcredit.governance import witness as witnesses
from fedcredit.governance.ledger import Ledger
from fedcredit.wire import Identity

VECTOR = json.loads(
    (Path(__file__).parents[1] / "vectors" / "signed_note.json").read_text(encoding="utf-8")
)
NOW = 1_764_000_000.0
ORIGIN = "tax/fedcredit-audit"
TAX = Identity.generate("tax")
NOTE = VECTOR["text"] + "\n" + VECTOR["signature"]


def verifier(text: str) -> tuple[str, bytes, Ed25519PublicKey]:
    name, hexed, encoded = text.split("+", 2)
    raw = base64.b64decode(encoded)
    assert raw[0] == 1
    return name, bytes.fromhex(hexed), Ed25519PublicKey.from_public_bytes(raw[1:])


def test_the_go_checksum_database_signs_the_same_note():
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["seed"]))
    assert notes.sign_note(VECTOR["text"], Identity("peter", key), VECTOR["name"]) == NOTE


@pytest.mark.parametrize("which", ["verifier_key", "other_verifier_key"])
def test_notes_of_the_go_checksum_database_verify(which):
    name, wanted, key = verifier(VECTOR[which])
    assert notes.key_id(name, key) == wanted
    assert notes.open_note(NOTE + VECTOR["other_signature"], name, key) == VECTOR["text"]


def test_the_specification_s_checkpoint_is_read():
    found = notes.Checkpoint.parse(VECTOR["checkpoint"])
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.root.hex() == VECTOR["checkpoint_root"]
    assert found.signers == ("example.com/behind-the-sofa", "witness.example.com/w1")
    stamped = notes.cosigned_at(VECTOR["checkpoint"], "witness.example.com/w1")
    assert stamped == VECTOR["cosigned_at"]


BAD_NOTES = {
    "no signature": VECTOR["text"],
    "no signature line": VECTOR["text"] + "\n",
    "no last newline": NOTE[:-1],
    "control character": "\x01" + NOTE,
    "blank in the name": NOTE.replace("— PeterNeumann", "— Peter Neumann"),
    "line after the signatures": NOTE + "Unexpected line.\n",
    "too many signatures": NOTE + VECTOR["signature"] * 100,
    "key of another name": NOTE.replace("— PeterNeumann", "— CarmenSandiego"),
    "other key id": NOTE.replace("x08g", "xxxx"),
    "longer signature": NOTE.replace("UG/Sff", "UG/ABCDSff"),
    "changed text": NOTE.replace("cryptography", "mathematics"),
    "padding bits": NOTE.replace("BwJnAM=", "BwJnAN="),
}


@pytest.mark.parametrize("case", BAD_NOTES)
def test_bad_notes_are_refused(case):
    name, _, key = verifier(VECTOR["verifier_key"])
    with pytest.raises(AuthenticationError):
        notes.open_note(BAD_NOTES[case], name, key)


def test_every_changed_byte_of_a_checkpoint_is_noticed():
    note = notes.sign_checkpoint(ORIGIN, 5, b"\x07" * 32, TAX).note
    assert notes.open_checkpoint(note, TAX.public_key, ORIGIN).size == 5
    for at in range(len(note)):
        changed = note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :]
        with pytest.raises(AuthenticationError):
            notes.open_checkpoint(changed, TAX.public_key, ORIGIN)


def test_a_checkpoint_of_another_log_or_key_is_refused():
    note = notes.sign_checkpoint(ORIGIN, 5, b"\x07" * 32, TAX).note
    with pytest.raises(AuthenticationError, match="another log"):
        notes.open_checkpoint(note, TAX.public_key, "social/fedcredit-audit")
    with pytest.raises(AuthenticationError, match="key of this log"):
        notes.open_checkpoint(note, Identity.generate("tax").public_key, ORIGIN)


@pytest.mark.parametrize(
    "origin", ["", "two words", "a+b", "a#b", "x" * 161, "fedcredit/envelope/1"]
)
def test_an_origin_is_a_plain_name(origin):
    with pytest.raises(InputError):
        notes.sign_checkpoint(origin, 0, merkle.EMPTY_ROOT, TAX)


def test_a_cosignature_stands_for_its_time_and_its_text():
    social = Identity.generate("social")
    plain = notes.sign_checkpoint(ORIGIN, 5, b"\x07" * 32, TAX)
    signed = notes.cosign(plain, social, NOW)
    assert signed.signers == (ORIGIN, "social")
    assert notes.verify_cosignature(signed.note, "social", social.public_key) == NOW
    assert notes.open_checkpoint(signed.note, TAX.public_key) == signed
    with pytest.raises(AuthenticationError, match="not cosigned"):
        notes.verify_cosignature(plain.note, "social", social.public_key)
    other = notes.sign_checkpoint(ORIGIN, 6, b"\x07" * 32, TAX)
    moved = other.note + signed.note.splitlines(keepends=True)[-1]
    with pytest.raises(AuthenticationError, match="invalid signature"):
        notes.verify_cosignature(moved, "social", social.public_key)


class Log:
    """A log in memory that signs whatever it is told to."""

    def __init__(self, words: list[str]) -> None:
        self.leaves = [merkle.leaf_hash(word.encode()) for word in words]
        self.nodes: dict[tuple[int, int], bytes] = {}
        frontier = merkle.Frontier()
        for leaf in self.leaves:
            self.nodes.update({(a, b): c for a, b, c in frontier.append(leaf)})

    def note(self, size: int) -> str:
        return notes.sign_checkpoint(ORIGIN, size, merkle.root_of(self.leaves[:size]), TAX).note

    def proof(self, first: int, second: int) -> list[bytes]:
        return merkle.consistency_proof(first, second, lambda *at: self.nodes[at])


HONEST = Log([f"entry {i}" for i in range(12)])
FORGED = Log([f"entry {i}" if i != 3 else "another" for i in range(12)])


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(f"sqlite:///{tmp_path}/governance.db", party="social")
    yield opened
    opened.close()


def kept(ledger: Ledger) -> list[int]:
    with ledger.reading() as tx:
        return [found.size for found in witnesses.seen(tx, ORIGIN)]


def forks(ledger: Ledger) -> list[notes.Checkpoint]:
    with ledger.reading() as tx:
        return witnesses.refused(tx)


def test_a_witness_follows_a_log_and_cosigns(ledger):
    social = Identity.generate("social")
    for size in (0, 5, 5, 8, 12):
        found = witnesses.witness(
            ledger,
            HONEST.note(size),
            TAX.public_key,
            NOW + size,
            proof=HONEST.proof,
            identity=social,
        )
        stamped = notes.verify_cosignature(found.note, "social", social.public_key)
        assert stamped == NOW + size
    assert kept(ledger) == [0, 5, 8, 12]
    assert forks(ledger) == []


def test_a_proof_can_be_handed_over_with_the_note(ledger):
    witnesses.witness(ledger, HONEST.note(5), TAX.public_key, NOW)
    witnesses.witness(ledger, HONEST.note(9), TAX.public_key, NOW, proof=HONEST.proof(5, 9))
    assert kept(ledger) == [5, 9]


@pytest.mark.parametrize("size", [5, 9, 12])
@pytest.mark.parametrize("prover", [HONEST, FORGED], ids=["honest proof", "forged proof"])
def test_a_fork_is_refused_and_both_notes_are_kept(ledger, size, prover):
    witnesses.witness(ledger, HONEST.note(5), TAX.public_key, NOW)
    with pytest.raises(AuthenticationError, match="evidence"):
        witnesses.witness(ledger, FORGED.note(size), TAX.public_key, NOW, proof=prover.proof)
    assert kept(ledger) == [5]
    (evidence,) = forks(ledger)
    assert (evidence.origin, evidence.size) == (ORIGIN, size)
    assert notes.open_checkpoint(evidence.note, TAX.public_key, ORIGIN).root != b""
    # The log can still be followed along the history that was seen first.
    witnesses.witness(ledger, HONEST.note(12), TAX.public_key, NOW, proof=HONEST.proof)


def test_a_smaller_log_with_another_history_is_a_fork_too(ledger):
    for size in (5, 9):
        witnesses.witness(ledger, HONEST.note(size), TAX.public_key, NOW, proof=HONEST.proof)
    with pytest.raises(AuthenticationError, match="two different histories"):
        witnesses.witness(ledger, FORGED.note(5), TAX.public_key, NOW, proof=FORGED.proof)


def test_rollbacks_and_notes_without_proof_are_refused(ledger):
    witnesses.witness(ledger, HONEST.note(5), TAX.public_key, NOW)
    with pytest.raises(AuthenticationError, match="older"):
        witnesses.witness(ledger, HONEST.note(4), TAX.public_key, NOW, proof=HONEST.proof)
    with pytest.raises(AuthenticationError, match="without the proof"):
        witnesses.witness(ledger, HONEST.note(6), TAX.public_key, NOW)
    assert kept(ledger) == [5]
    assert forks(ledger) == []


def test_a_note_of_a_foreign_key_leaves_nothing(ledger):
    with pytest.raises(AuthenticationError):
        witnesses.witness(ledger, HONEST.note(5), Identity.generate("x").public_key, NOW)
    assert kept(ledger) == []
