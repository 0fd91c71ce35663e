"""Proofs about ciphertexts and commitments: complete, sound under mutation, and simulatable."""

import random

import pytest

from fedcredit.crypto import elgamal, group, pedersen, sigma
from fedcredit.crypto.elgamal import Ciphertext, DecryptionKey
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

CONTEXT = b"question 7"
VALUES = [0, 1, -1, 730, -(2**40), pedersen.MAX_VALUE, pedersen.MIN_VALUE]


def scalar(value: int) -> bytes:
    return (value % group.ORDER).to_bytes(32, "little")


class Case:
    """One encrypted and committed value with its proof."""

    def __init__(self, value=730):
        self.key = DecryptionKey.generate()
        self.public = self.key.public
        self.value, self.blinding = value, pedersen.random_blinding()
        self.commitment = pedersen.commit(value, self.blinding)
        self.ciphertext, self.randomness = elgamal.encrypt(self.public, value)
        self.proof = self.prove()

    def prove(self, context=CONTEXT):
        return sigma.prove_equal(
            self.public,
            self.ciphertext,
            self.randomness,
            self.commitment,
            self.value,
            self.blinding,
            context,
        )

    def holds(self, **changed):
        given = {
            "public": self.public,
            "ciphertext": self.ciphertext,
            "commitment": self.commitment,
            "proof": self.proof,
            "context": CONTEXT,
        }
        return sigma.verify_equal(**(given | changed))


CASE = Case()


# -------------------------------------------------------------------------------- equal values


@pytest.mark.parametrize("value", VALUES)
def test_an_honest_proof_holds(value):
    case = Case(value)
    assert len(case.proof) == sigma.EQUAL_PROOF_BYTES
    assert case.holds()
    assert case.prove() != case.proof


def test_every_changed_byte_is_refused():
    for at in range(sigma.EQUAL_PROOF_BYTES):
        for flip in (0x01, 0x80):
            changed = bytearray(CASE.proof)
            changed[at] ^= flip
            assert not CASE.holds(proof=bytes(changed)), at


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("value", [0, 1, group.ORDER - 1, group.ORDER, 2**256 - 1])
def test_special_scalars_are_refused(part, value):
    changed = bytearray(CASE.proof)
    changed[32 * part : 32 * part + 32] = value.to_bytes(32, "little")
    assert not CASE.holds(proof=bytes(changed))


def test_malformed_proofs_and_statements_are_refused():
    proof = CASE.proof
    for bad in (b"", proof[:-1], proof + b"\0", bytes(128), b"\xff" * 128, bytearray(proof), None):
        assert not CASE.holds(proof=bad)
    for bad in (bytes(32), b"\xff" * 32, b"", CASE.commitment[:-1]):
        assert not CASE.holds(commitment=bad)
        assert not CASE.holds(public=bad)
    # Parts in another order.
    c, v, r, b = (proof[at : at + 32] for at in range(0, 128, 32))
    for order in ((v, c, r, b), (c, r, v, b), (c, v, b, r), (c, b, r, v)):
        assert not CASE.holds(proof=b"".join(order))


def test_a_proof_is_for_one_statement_and_context_only():
    other = Case(CASE.value)
    assert not CASE.holds(context=b"question 8")
    assert not CASE.holds(context=b"")
    assert not CASE.holds(proof=other.proof)
    assert not CASE.holds(commitment=other.commitment)
    assert not CASE.holds(ciphertext=other.ciphertext)
    assert not CASE.holds(public=other.public)
    assert not CASE.holds(ciphertext=elgamal.rerandomise(CASE.public, CASE.ciphertext))
    halves = (CASE.ciphertext.first, CASE.ciphertext.second)
    assert not CASE.holds(ciphertext=Ciphertext(halves[1], halves[0]))
    # Nor does it move along with a value that is added on both sides.
    g = group.base_mult(scalar(1))
    moved = Ciphertext(halves[0], group.add(halves[1], g))
    assert not CASE.holds(ciphertext=moved, commitment=group.add(CASE.commitment, g))


@pytest.mark.parametrize("claimed", ["ciphertext", "commitment", "between"])
def test_another_value_cannot_be_proven(claimed, monkeypatch):
    """A prover that skips its own checks and answers with any witness does not convince."""
    ciphertext, randomness = elgamal.encrypt(CASE.public, CASE.value + 1)
    value = {"ciphertext": CASE.value + 1, "commitment": CASE.value, "between": 9}[claimed]
    arguments = (CASE.public, ciphertext, randomness, CASE.commitment, value, CASE.blinding)
    with pytest.raises(InputError):
        sigma.prove_equal(*arguments, CONTEXT)
    forced = forge(*arguments, CONTEXT)
    assert not CASE.holds(ciphertext=ciphertext, proof=forced)
    # The same prover convinces where the statement is true.
    true = (CASE.public, CASE.ciphertext, CASE.randomness, CASE.commitment, CASE.value)
    assert CASE.holds(proof=forge(*true, CASE.blinding, CONTEXT))


def forge(public, ciphertext, randomness, commitment, value, blinding, context):
    """The prover's moves, from the definition and without any check."""
    n, g, h = group.ORDER, pedersen.pedersen_g(), pedersen.pedersen_h()
    k = [int.from_bytes(group.random_scalar(), "little") for _ in range(3)]
    t = (
        group.mult(scalar(k[1]), g),
        group.add(group.mult(scalar(k[0]), g), group.mult(scalar(k[1]), public)),
        group.add(group.mult(scalar(k[0]), g), group.mult(scalar(k[2]), h)),
    )
    c = sigma._equal_challenge(public, ciphertext, commitment, context, t)
    witness = (value, *(int.from_bytes(w, "little") for w in (randomness, blinding)))
    challenge = int.from_bytes(c, "little")
    return c + b"".join(scalar((a + challenge * w) % n) for a, w in zip(k, witness, strict=True))


def test_the_challenge_depends_on_every_part_of_the_statement():
    """Strong Fiat-Shamir: whatever is left out of the hash could be chosen after the challenge."""
    points = [group.base_mult(scalar(k)) for k in range(2, 9)]
    y, a, b, c, *t = points

    def challenge(y=y, a=a, b=b, c=c, context=CONTEXT, t=tuple(t)):
        return sigma._equal_challenge(y, Ciphertext(a, b), c, context, t)

    other = group.base_mult(scalar(99))
    changed = [
        challenge(y=other),
        challenge(a=other),
        challenge(b=other),
        challenge(c=other),
        challenge(context=b"other"),
        *(challenge(t=tuple(other if i == j else p for j, p in enumerate(t))) for i in range(3)),
    ]
    assert len({challenge(), *changed}) == 9


def test_a_proof_tells_nothing_it_can_be_made_without_a_witness(monkeypatch):
    """With the hash programmed, a proof for a false statement comes from the simulator alone."""
    draw = random.Random(1)
    c, v, r, b = (scalar(draw.randrange(1, group.ORDER)) for _ in range(4))
    ciphertext, _ = elgamal.encrypt(CASE.public, 1)
    monkeypatch.setattr(sigma, "_equal_challenge", lambda *statement: c)
    assert CASE.holds(ciphertext=ciphertext, proof=c + v + r + b)
    monkeypatch.undo()
    assert not CASE.holds(ciphertext=ciphertext, proof=c + v + r + b)


def test_two_answers_to_the_same_commitments_give_the_witness_away(monkeypatch):
    """Special soundness: whoever could answer two challenges knows value and opening."""
    nonces = [group.random_scalar() for _ in range(3)]
    proofs = []
    for context in (b"one", b"two"):
        queue = list(nonces)
        monkeypatch.setattr(sigma.group, "random_scalar", lambda queue=queue: queue.pop(0))
        proofs.append(CASE.prove(context))
        monkeypatch.undo()
    n = group.ORDER
    first, second = (
        [int.from_bytes(p[at : at + 32], "little") for at in range(0, 128, 32)] for p in proofs
    )
    apart = pow(first[0] - second[0], -1, n)
    found = [(a - b) * apart % n for a, b in zip(first[1:], second[1:], strict=True)]
    assert found[0] == CASE.value
    assert scalar(found[1]) == CASE.randomness
    assert scalar(found[2]) == CASE.blinding


def test_a_prover_with_bad_arguments_is_told():
    arguments = [CASE.public, CASE.ciphertext, CASE.randomness, CASE.commitment, 730]
    with pytest.raises(KeyMaterialError):
        sigma.prove_equal(*arguments, bytes(32), CONTEXT)
    arguments[4] = 2**63
    with pytest.raises(InputError):
        sigma.prove_equal(*arguments, CASE.blinding, CONTEXT)


# ---------------------------------------------------------------------------------- decryption

KEY = DecryptionKey.generate()
HELD = [3, 0, -1, 0, 12]
CIPHERTEXTS = [elgamal.encrypt(KEY.public, v)[0] for v in HELD]
PROOF = sigma.prove_decryption(KEY, CIPHERTEXTS, CONTEXT)


def read(public=KEY.public, ciphertexts=CIPHERTEXTS, proof=PROOF, context=CONTEXT):
    return sigma.verify_decryption(public, ciphertexts, proof, context)


def test_a_proof_of_decryption_shows_the_zeros():
    assert read() == tuple(v == 0 for v in HELD)
    assert len(PROOF) == sigma.decryption_proof_bytes(len(HELD))
    one = sigma.prove_decryption(KEY, CIPHERTEXTS[1:2], CONTEXT)
    assert read(ciphertexts=CIPHERTEXTS[1:2], proof=one) == (True,)
    for n in (0, sigma.MAX_CIPHERTEXTS + 1):
        with pytest.raises(InputError):
            sigma.prove_decryption(KEY, [CIPHERTEXTS[0]] * n, CONTEXT)


def test_every_changed_byte_of_a_decryption_is_refused():
    for at in range(len(PROOF)):
        changed = bytearray(PROOF)
        changed[at] ^= 1
        with pytest.raises(CiphertextError):
            read(proof=bytes(changed))


def test_a_decryption_is_of_one_key_list_and_context():
    other = DecryptionKey.generate()
    swapped = [CIPHERTEXTS[1], CIPHERTEXTS[0], *CIPHERTEXTS[2:]]
    again = [*CIPHERTEXTS[:4], elgamal.rerandomise(KEY.public, CIPHERTEXTS[4])]
    for changed in (
        {"public": other.public},
        {"ciphertexts": swapped},
        {"ciphertexts": again},
        {"ciphertexts": CIPHERTEXTS[:4]},
        {"ciphertexts": []},
        {"context": b"question 8"},
        {"proof": sigma.prove_decryption(other, CIPHERTEXTS, CONTEXT)},
        {"proof": b""},
        {"proof": None},
    ):
        with pytest.raises(CiphertextError):
            read(**changed)


class Liar(DecryptionKey):
    """Claims other points than its key gives for some of the ciphertexts."""

    __slots__ = ("claims",)

    def shared(self, ciphertext):
        honest = super().shared(ciphertext)
        return self.claims(ciphertext, honest)


@pytest.mark.parametrize("case", ["claims a match", "denies a match", "swaps two", "cancels"])
def test_a_key_holder_cannot_claim_another_decryption(case):
    liar = Liar(KEY.private_bytes())
    g = group.base_mult(scalar(1))
    honest = [KEY.shared(one) for one in CIPHERTEXTS]
    lies = {
        "claims a match": {0: CIPHERTEXTS[0].second},
        "denies a match": {1: group.base_mult(scalar(77))},
        "swaps two": {0: honest[2], 2: honest[0]},
        # Errors that add up to nothing, were it not for the weights.
        "cancels": {0: group.add(honest[0], g), 2: group.sub(honest[2], g)},
    }[case]
    liar.claims = lambda one, point: lies.get(CIPHERTEXTS.index(one), point)
    proof = sigma.prove_decryption(liar, CIPHERTEXTS, CONTEXT)
    with pytest.raises(CiphertextError):
        read(proof=proof)
    liar.claims = lambda one, point: point
    assert read(proof=sigma.prove_decryption(liar, CIPHERTEXTS, CONTEXT)) == read()


def test_the_weights_depend_on_every_part_of_the_statement():
    base = sigma._decryption_statement(KEY.public, CIPHERTEXTS, [KEY.public], CONTEXT)
    other = group.base_mult(scalar(5))
    changed = [
        sigma._decryption_statement(other, CIPHERTEXTS, [KEY.public], CONTEXT),
        sigma._decryption_statement(KEY.public, CIPHERTEXTS[1:], [KEY.public], CONTEXT),
        sigma._decryption_statement(KEY.public, CIPHERTEXTS, [other], CONTEXT),
        sigma._decryption_statement(KEY.public, CIPHERTEXTS, [KEY.public], b"x"),
    ]
    assert len({base, *changed}) == 5
