"""Pedersen commitments: the definition, the algebra that proofs use, and refusals."""

import hashlib
import random

import pytest

from fedcredit.crypto import group, pedersen
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

# RFC 9496, appendix A.1: the generator.
GENERATOR = "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"
PINNED_H = "761131e16ed657fa484f0ef6ad8075ea20309fb9860fce64b69069c92302e015"
VALUES = [0, 1, -1, 2, 500_000, -(2**31), 2**62, pedersen.MAX_VALUE, pedersen.MIN_VALUE]


def scalar(value: int) -> bytes:
    return (value % group.ORDER).to_bytes(32, "little")


def blindings(seed: int, n: int) -> list[bytes]:
    draw = random.Random(seed)
    return [scalar(draw.randrange(1, group.ORDER)) for _ in range(n)]


def test_generators():
    assert pedersen.pedersen_g().hex() == GENERATOR
    h = pedersen.pedersen_h()
    # RFC 9380, appendix B, worked by hand: expand_message_xmd of one block, then the map.
    dst = b"HashToGroup-fedcredit-pedersen-v1-ristretto255-SHA512"
    suffix = dst + bytes([len(dst)])
    first = hashlib.sha512(bytes(128) + b"second generator H" + b"\x00\x40\x00" + suffix).digest()
    assert h == group.from_uniform_bytes(hashlib.sha512(first + b"\x01" + suffix).digest())
    # Pinned: another H would make every commitment of the past unopenable.
    assert h.hex() == PINNED_H


@pytest.mark.parametrize("value", [v for v in VALUES if v])
def test_a_commitment_is_the_sum_of_two_multiples(value):
    (blinding,) = blindings(1, 1)
    expected = group.add(
        group.base_mult(scalar(value)), group.mult(blinding, pedersen.pedersen_h())
    )
    assert pedersen.commit(value, blinding) == expected
    assert pedersen.scalar_of(value) == scalar(value)


def test_zero_is_committed_to_by_the_blinding_alone():
    (blinding,) = blindings(2, 1)
    assert pedersen.commit(0, blinding) == group.mult(blinding, pedersen.pedersen_h())
    assert pedersen.scalar_of(0) == bytes(32)


def test_commitments_add_up():
    r, s = blindings(3, 2)
    both = group.scalar_add(r, s)
    for a, b in [(3, 4), (-5, 5), (10**15, -7), (0, 0)]:
        total = group.add(pedersen.commit(a, r), pedersen.commit(b, s))
        assert total == pedersen.commit(a + b, both)
        assert pedersen.opens(total, a + b, both)


def test_only_the_value_and_its_blinding_open():
    r, s = blindings(4, 2)
    for value in VALUES:
        commitment = pedersen.commit(value, r)
        assert pedersen.opens(commitment, value, r)
        assert not pedersen.opens(commitment, value, s)
        assert not pedersen.opens(commitment, value - 1 if value > 0 else value + 1, r)
        assert not pedersen.opens(commitment[:-1], value, r)
    assert len({pedersen.commit(value, r) for value in VALUES}) == len(VALUES)


def test_blindings_are_fresh_scalars():
    drawn = {pedersen.random_blinding() for _ in range(50)}
    assert len(drawn) == 50
    assert all(0 < int.from_bytes(blinding, "little") < group.ORDER for blinding in drawn)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.0, "1", True, None])
def test_other_values_are_refused(value):
    (blinding,) = blindings(5, 1)
    with pytest.raises(InputError):
        pedersen.commit(value, blinding)
    with pytest.raises(InputError):
        pedersen.scalar_of(value)


@pytest.mark.parametrize(
    "blinding", [bytes(32), group.ORDER.to_bytes(32, "little"), b"\xff" * 32, b"\x01", "01" * 16]
)
def test_other_blindings_are_refused(blinding):
    with pytest.raises(KeyMaterialError):
        pedersen.commit(1, blinding)


@pytest.mark.parametrize("commitment", [bytes(32), b"\xff" * 32, b"\x01" * 31, "e2" * 16])
def test_malformed_commitments_are_refused(commitment):
    with pytest.raises(CiphertextError):
        pedersen.check_commitment(commitment)
    good = pedersen.commit(1, blindings(6, 1)[0])
    assert pedersen.check_commitment(good) == good
