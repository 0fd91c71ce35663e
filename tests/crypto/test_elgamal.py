"""Lifted ElGamal and the blinded test of a value against a set."""

import pickle
import random
import time

import numpy as np
import pytest

from fedcredit.crypto import elgamal, group, pedersen
from fedcredit.crypto.elgamal import Ciphertext, DecryptionKey
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

KEY = DecryptionKey.generate()
VALUES = [0, 1, -1, 500, -(2**40), pedersen.MAX_VALUE, pedersen.MIN_VALUE]


def scalar(value: int) -> bytes:
    return (value % group.ORDER).to_bytes(32, "little")


def number(encoded: bytes) -> int:
    return int.from_bytes(encoded, "little")


def content(key: DecryptionKey, one: Ciphertext) -> bytes:
    """The plaintext element; the identity comes out as an error, so not for zeros."""
    return group.sub(one.second, key.shared(one))


def scripted(monkeypatch, scalars):
    """Let the next random scalars be these, and the order stay as it is."""
    queue = [scalar(value) for value in scalars]
    monkeypatch.setattr(elgamal.group, "random_scalar", lambda: queue.pop(0))
    monkeypatch.setattr(elgamal.secrets.SystemRandom, "shuffle", lambda self, made: None)
    return queue


# ---------------------------------------------------------------------------------- ciphertexts


@pytest.mark.parametrize("value", VALUES)
def test_a_ciphertext_holds_its_value(value):
    one, r = elgamal.encrypt(KEY.public, value)
    assert one.first == group.base_mult(r)
    assert KEY.is_zero(one) == (value == 0)
    if value:
        assert content(KEY, one) == group.base_mult(scalar(value))
    again = elgamal.rerandomise(KEY.public, one)
    assert again.first != one.first
    assert again.second != one.second
    assert KEY.is_zero(again) == (value == 0)
    if value:
        assert content(KEY, again) == content(KEY, one)


def test_every_encryption_is_fresh_and_needs_its_own_key():
    ones = [elgamal.encrypt(KEY.public, 0)[0] for _ in range(20)]
    assert len({one.to_bytes() for one in ones}) == 20
    other = DecryptionKey.generate()
    assert other.public != KEY.public
    assert not any(other.is_zero(one) for one in ones)


def test_bytes_round_trip_and_malformed_ones_are_refused():
    ones = [elgamal.encrypt(KEY.public, v)[0] for v in (1, 2, 3)]
    assert list(elgamal.split(elgamal.join(ones))) == ones
    good = ones[0].to_bytes()
    identity = bytes(32)
    bad = [b"", good[:-1], good + b"\0", identity + good[32:], good[:32] + identity, b"\xff" * 64]
    for data in bad:
        with pytest.raises(CiphertextError):
            Ciphertext.from_bytes(data)
    for data in (good[:-1], good * (2 * elgamal.MAX_TOLERANCE + 2), good + bytes(64)):
        with pytest.raises(CiphertextError):
            elgamal.split(data)


def test_bad_keys_values_and_tolerances_are_refused():
    one, _ = elgamal.encrypt(KEY.public, 5)
    for public in (bytes(32), b"\xff" * 32, KEY.public[:-1]):
        for use in (
            lambda public: elgamal.encrypt(public, 5),
            lambda public: elgamal.rerandomise(public, one),
            lambda public: elgamal.blinded_candidates(public, one, 5, 1),
            lambda public: elgamal.blinded_nothing(public, one, 1),
        ):
            with pytest.raises(CiphertextError):
                use(public)
    for value in (2**63, -(2**63) - 1, True, 1.5, None):
        with pytest.raises(InputError):
            elgamal.encrypt(KEY.public, value)
        with pytest.raises(InputError):
            elgamal.blinded_candidates(KEY.public, one, value, 0)
    with pytest.raises(InputError):
        elgamal.blinded_candidates(KEY.public, one, pedersen.MAX_VALUE, 1)
    for tolerance in (-1, elgamal.MAX_TOLERANCE + 1, True):
        with pytest.raises(InputError):
            elgamal.blinded_candidates(KEY.public, one, 5, tolerance)
        with pytest.raises(InputError):
            elgamal.blinded_nothing(KEY.public, one, tolerance)
    for bad in (bytes(32), scalar(0), (group.ORDER).to_bytes(32, "little")):
        with pytest.raises(KeyMaterialError):
            DecryptionKey(bad)


def test_keys_hide_and_are_not_pickled():
    assert repr(KEY) == "DecryptionKey()"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    one, _ = elgamal.encrypt(KEY.public, 5)
    assert repr(one) == "Ciphertext()"
    assert DecryptionKey(KEY.private_bytes()).public == KEY.public


# ---------------------------------------------------------------------------------- the test


@pytest.mark.parametrize("tolerance", [0, 1, 4])
@pytest.mark.parametrize("own", [0, -2, 500, 2**62, pedersen.MIN_VALUE + 4])
def test_a_zero_is_found_exactly_within_the_tolerance(own, tolerance):
    for off in range(-tolerance - 2, tolerance + 3):
        if not pedersen.MIN_VALUE <= own + off <= pedersen.MAX_VALUE:
            continue
        one, _ = elgamal.encrypt(KEY.public, own + off)
        made = elgamal.blinded_candidates(KEY.public, one, own, tolerance)
        assert len(made) == 2 * tolerance + 1
        zeros = sum(KEY.is_zero(each) for each in made)
        assert zeros == (abs(off) <= tolerance)
        assert KEY.finds_zero(made) == bool(zeros)


def test_without_a_record_there_is_never_a_zero_and_the_shape_is_the_same():
    for value in (0, 7):
        one, _ = elgamal.encrypt(KEY.public, value)
        made = elgamal.blinded_nothing(KEY.public, one, 5)
        assert len(made) == 11
        assert not KEY.finds_zero(made)


def test_what_is_found_of_a_mismatch_can_come_from_any_value(monkeypatch):
    """The response about one record is, bit for bit, one about another, with other randomness.

    ``s' = s·(v − c)/(v − c')`` and ``t' = t + (s − s')·r`` are a bijection of the randomness, so
    the distribution of a response does not depend on a value that does not match.
    """
    draw = random.Random(3)
    n, v = group.ORDER, 1_000
    one, r = elgamal.encrypt(KEY.public, v)
    for own, other in [(1_010, 10**12), (900, 1_004), (-5, 0)]:
        s, t = draw.randrange(1, n), draw.randrange(1, n)
        scripted(monkeypatch, [s, t])
        seen = elgamal.blinded_candidates(KEY.public, one, own, 0)
        s2 = s * (v - own) * pow(v - other, -1, n) % n
        scripted(monkeypatch, [s2, t + (s - s2) * number(r)])
        assert elgamal.blinded_candidates(KEY.public, one, other, 0) == seen
        # Nothing at all looks the same as well: the candidate is then the last random scalar.
        candidate = (v + elgamal._SHIFT) - s * (v - own) * pow(s2, -1, n)
        scripted(monkeypatch, [candidate, s2, t + (s - s2) * number(r)])
        assert elgamal.blinded_nothing(KEY.public, one, 0) == seen
        monkeypatch.undo()


def test_what_a_mismatch_decrypts_to_is_uniform():
    """Low bits of the decrypted elements, near and far, and of random ones: no test tells them."""
    n = 40
    one, _ = elgamal.encrypt(KEY.public, 100)
    for own in (105, 10**15):
        made = [e for _ in range(n) for e in elgamal.blinded_candidates(KEY.public, one, own, 2)]
        points = np.frombuffer(b"".join(content(KEY, e) for e in made), np.uint8).reshape(-1, 32)
        assert len(np.unique(points, axis=0)) == len(made)
        # Byte 0 of an encoding is even (RFC 9496, 4.3.1), byte 31 below 128; the rest is uniform.
        bits = np.unpackbits(points[:, 1:31], axis=1).mean(axis=0)
        assert np.abs(bits - 0.5).max() < 6 * 0.5 / len(made) ** 0.5


def test_the_order_of_the_candidates_is_uniform():
    runs, tolerance = 330, 2
    one, _ = elgamal.encrypt(KEY.public, 8)
    places = np.zeros(2 * tolerance + 1)
    for _ in range(runs):
        # The match is the last candidate before shuffling.
        made = elgamal.blinded_candidates(KEY.public, one, 6, tolerance)
        places[[KEY.is_zero(each) for each in made].index(True)] += 1
    expected = runs / places.size
    # 4 degrees of freedom: 27.9 is exceeded once in 80,000 runs.
    assert ((places - expected) ** 2 / expected).sum() < 27.9


def test_no_choice_of_the_key_holder_makes_an_error_depend_on_the_record():
    """The key holder may send ``B = c·G`` for a guess ``c``; it must not see an error if right."""
    guess = 12
    y = number(KEY.private_bytes())
    for value in (3, 12, 99):
        r = (guess - value) * pow(y, -1, group.ORDER)
        if r % group.ORDER == 0:
            continue
        chosen = Ciphertext(group.base_mult(scalar(r)), group.base_mult(scalar(guess)))
        for own in (guess, guess + 1, value):
            made = elgamal.blinded_candidates(KEY.public, chosen, own, 1)
            assert KEY.finds_zero(made) == (abs(own - value) <= 1)
    # The one ciphertext that is refused is refused for every record.
    lowest = Ciphertext(group.base_mult(scalar(5)), group.base_mult(scalar(pedersen.MIN_VALUE - 1)))
    for own in (-4, 0, 10**9):
        with pytest.raises(CiphertextError):
            elgamal.blinded_candidates(KEY.public, lowest, own, 0)
    with pytest.raises(CiphertextError):
        elgamal.blinded_nothing(KEY.public, lowest, 0)


def test_the_blinding_scalar_is_never_zero(monkeypatch):
    """Zero would turn every candidate into a match; it is refused even if it were drawn."""
    one, _ = elgamal.encrypt(KEY.public, 5)
    for scalars in ([0, 7], [7, 0]):
        scripted(monkeypatch, scalars)
        with pytest.raises(KeyMaterialError):
            elgamal.blinded_candidates(KEY.public, one, 9, 0)
        monkeypatch.undo()
    used = []
    draw = group.random_scalar
    monkeypatch.setattr(elgamal.group, "random_scalar", lambda: used.append(draw()) or used[-1])
    elgamal.blinded_candidates(KEY.public, one, 9, 8)
    assert len(set(used)) == len(used) == 2 * 17
    assert all(0 < number(each) < group.ORDER for each in used)


def test_33_candidates_take_less_than_15_ms():
    one, _ = elgamal.encrypt(KEY.public, 5)
    took = []
    for _ in range(5):
        start = time.process_time()
        elgamal.blinded_candidates(KEY.public, one, 9, 16)
        took.append(time.process_time() - start)
    assert min(took) < 15e-3
