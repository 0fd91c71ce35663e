"""ristretto255 and hashing to it against the RFCs' vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fedcredit.crypto import group
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

VECTORS = Path(__file__).parents[1] / "vectors"


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / name).read_text("utf-8"))
    return loaded


RISTRETTO = load("rfc9496_ristretto255.json")
XMD = load("rfc9380_expand_message_xmd_sha512.json")
OPRF = load("rfc9497_ristretto255_group.json")
MULTIPLES = [bytes.fromhex(text) for text in RISTRETTO["generator_multiples"]]
BAD = [bytes.fromhex(text) for text in RISTRETTO["bad_encodings"]]


def scalar(value: int) -> bytes:
    return value.to_bytes(32, "little")


@pytest.mark.parametrize("k", range(1, 16))
def test_multiples_of_the_generator(k: int) -> None:
    assert group.base_mult(scalar(k)) == MULTIPLES[k]
    assert group.mult(scalar(k), MULTIPLES[1]) == MULTIPLES[k]
    assert group.is_valid(MULTIPLES[k])
    assert group.check_point(MULTIPLES[k]) == MULTIPLES[k]


def test_sums_and_differences_of_multiples() -> None:
    for a in range(1, 8):
        for b in range(1, 8):
            assert group.add(MULTIPLES[a], MULTIPLES[b]) == MULTIPLES[a + b]
            assert group.sub(MULTIPLES[a + b], MULTIPLES[b]) == MULTIPLES[a]


@pytest.mark.parametrize("vector", RISTRETTO["from_uniform_bytes"])
def test_one_way_map(vector: dict[str, str]) -> None:
    assert group.from_uniform_bytes(bytes.fromhex(vector["input"])).hex() == vector["output"]


@pytest.mark.parametrize("bad", [*BAD, MULTIPLES[0]], ids=lambda point: point.hex()[:12])
def test_bad_encodings_and_the_identity_are_refused(bad: bytes) -> None:
    good = MULTIPLES[3]
    assert not group.is_valid(bad)
    for use in (
        lambda: group.check_point(bad),
        lambda: group.mult(scalar(5), bad),
        lambda: group.add(good, bad),
        lambda: group.add(bad, good),
        lambda: group.sub(good, bad),
        lambda: group.sub(bad, good),
    ):
        with pytest.raises(CiphertextError):
            use()


@pytest.mark.parametrize("bad", [b"", MULTIPLES[1][:31], MULTIPLES[1] + b"\0", None, "text"])
def test_things_that_are_no_32_bytes_are_refused(bad: Any) -> None:
    assert not group.is_valid(bad)
    for use in (lambda: group.mult(scalar(5), bad), lambda: group.add(MULTIPLES[1], bad)):
        with pytest.raises(CiphertextError):
            use()
    with pytest.raises(KeyMaterialError):
        group.base_mult(bad[:31] if bad else bad)


def test_a_result_that_is_the_identity_is_refused() -> None:
    point = group.base_mult(group.random_scalar())
    opposite = group.mult(scalar(group.ORDER - 1), point)
    with pytest.raises(CiphertextError):
        group.sub(point, point)
    with pytest.raises(CiphertextError):
        group.add(point, opposite)


@pytest.mark.parametrize("value", [0, group.ORDER, group.ORDER + 1, 2**256 - 1])
def test_scalars_out_of_range_are_refused(value: int) -> None:
    for use in (
        lambda: group.base_mult(scalar(value)),
        lambda: group.mult(scalar(value), MULTIPLES[1]),
        lambda: group.scalar_invert(scalar(value)),
        lambda: group.scalar_mult(scalar(1), scalar(value)),
        lambda: group.scalar_add(scalar(value), scalar(1)),
    ):
        with pytest.raises(KeyMaterialError):
            use()


def test_scalar_arithmetic() -> None:
    a, b = group.random_scalar(), group.random_scalar()
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    assert a != b
    assert int.from_bytes(group.scalar_add(a, b), "little") == (x + y) % group.ORDER
    assert int.from_bytes(group.scalar_mult(a, b), "little") == x * y % group.ORDER
    assert group.scalar_mult(group.scalar_invert(a), a) == scalar(1)
    wide = bytes(range(64))
    reduced = int.from_bytes(group.scalar_reduce(wide), "little")
    assert reduced == int.from_bytes(wide, "little") % group.ORDER


def test_diffie_hellman_agrees() -> None:
    a, b = group.random_scalar(), group.random_scalar()
    assert group.mult(a, group.base_mult(b)) == group.mult(b, group.base_mult(a))
    assert group.mult(group.scalar_mult(a, b), MULTIPLES[1]) == group.mult(a, group.base_mult(b))


@pytest.mark.parametrize("vector", XMD["vectors"])
def test_expand_message(vector: dict[str, Any]) -> None:
    out = group.expand_message_xmd(
        vector["message"].encode(), XMD["dst"].encode(), vector["length"]
    )
    assert out.hex() == vector["output"]


def test_a_long_domain_separation_tag_is_hashed_first() -> None:
    long = b"t" * 256
    short = hashlib.sha512(b"H2C-OVERSIZE-DST-" + long).digest()
    assert group.expand_message_xmd(b"m", long, 64) == group.expand_message_xmd(b"m", short, 64)
    edge = b"t" * 255
    other = hashlib.sha512(b"H2C-OVERSIZE-DST-" + edge).digest()
    assert group.expand_message_xmd(b"m", edge, 64) != group.expand_message_xmd(b"m", other, 64)


def test_expand_message_refuses_lengths_out_of_range() -> None:
    assert len(group.expand_message_xmd(b"m", b"tag", 16320)) == 16320
    for length in (0, -1, 16321):
        with pytest.raises(InputError):
            group.expand_message_xmd(b"m", b"tag", length)
    with pytest.raises(InputError):
        group.hash_to_group(b"m", b"")
    for data in (b"", bytes(63), bytes(65)):
        with pytest.raises(InputError):
            group.from_uniform_bytes(data)
        with pytest.raises(InputError):
            group.scalar_reduce(data)


def test_hashing_to_the_group_and_to_scalars_as_in_rfc_9497() -> None:
    context = bytes.fromhex(OPRF["context"])
    key = group.hash_to_scalar(bytes.fromhex(OPRF["derive_message"]), b"DeriveKeyPair" + context)
    assert key.hex() == OPRF["secret_key"]
    point = group.hash_to_group(bytes.fromhex(OPRF["input"]), b"HashToGroup-" + context)
    blinded = group.mult(bytes.fromhex(OPRF["blind"]), point)
    assert blinded.hex() == OPRF["blinded_element"]
    assert group.mult(key, blinded).hex() == OPRF["evaluation_element"]
