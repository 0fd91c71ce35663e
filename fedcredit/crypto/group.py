"""The prime-order group ristretto255 (RFC 9496), through libsodium as bundled by ``rbcl``.

A point is its canonical 32-byte encoding and a scalar is 32 bytes, little endian, below the group
order ℓ. Every operation refuses a malformed point and the identity, as argument and as result: no
protocol of this package has an honest use for the identity, and accepting it gives keys away.

Hashing follows RFC 9380 (``expand_message_xmd`` with SHA-512) and its application to ristretto255
in RFC 9497, section 4.1: 64 uniform bytes go through the one-way map of RFC 9496, section 4.3.4,
or are reduced modulo ℓ.
"""

from __future__ import annotations

import hashlib
from typing import Final

import rbcl

from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

__all__ = [
    "ORDER",
    "POINT_BYTES",
    "SCALAR_BYTES",
    "add",
    "base_mult",
    "check_point",
    "expand_message_xmd",
    "from_uniform_bytes",
    "hash_to_group",
    "hash_to_scalar",
    "is_valid",
    "mult",
    "random_scalar",
    "scalar_add",
    "scalar_invert",
    "scalar_mult",
    "scalar_reduce",
    "sub",
]

POINT_BYTES: Final = 32
SCALAR_BYTES: Final = 32
ORDER: Final = 2**252 + 27742317777372353535851937790883648493

_UNIFORM_BYTES: Final = 64
_IDENTITY: Final = bytes(POINT_BYTES)
_SHA512_BYTES: Final = 64
_SHA512_BLOCK: Final = 128


def _refused() -> CiphertextError:
    return CiphertextError(
        "a group element is malformed or the identity.",
        fix="drop the run; the peer sent something that no honest party sends",
    )


def _point(point: bytes) -> bytes:
    # ctypes would read past a short buffer, so the type and the length are checked here.
    if not isinstance(point, bytes) or len(point) != POINT_BYTES or point == _IDENTITY:
        raise _refused()
    return point


def _scalar(scalar: bytes) -> bytes:
    if not isinstance(scalar, bytes) or len(scalar) != SCALAR_BYTES:
        raise KeyMaterialError("a scalar of ristretto255 must have 32 bytes.")
    if not 0 < int.from_bytes(scalar, "little") < ORDER:
        raise KeyMaterialError("a scalar of ristretto255 must be between 1 and the group order.")
    return scalar


def is_valid(point: bytes) -> bool:
    """Tell whether ``point`` is the canonical encoding of an element other than the identity.

    Parameters
    ----------
    point : bytes
        Any bytes.

    Returns
    -------
    bool
    """
    return (
        isinstance(point, bytes)
        and len(point) == POINT_BYTES
        and point != _IDENTITY
        and bool(rbcl.crypto_core_ristretto255_is_valid_point(point))
    )


def check_point(point: bytes) -> bytes:
    """Return ``point`` if it is valid.

    Parameters
    ----------
    point : bytes
        An encoding that came from a peer.

    Returns
    -------
    bytes
        The same 32 bytes.

    Raises
    ------
    CiphertextError
        If it is malformed, not canonical, or the identity.
    """
    if not is_valid(point):
        raise _refused()
    return point


def random_scalar() -> bytes:
    """Draw a uniform nonzero scalar from the system's CSPRNG.

    Returns
    -------
    bytes
        32 bytes, secret.
    """
    return bytes(rbcl.crypto_core_ristretto255_scalar_random())


def base_mult(scalar: bytes) -> bytes:
    """Multiply the generator by a scalar, in constant time.

    Parameters
    ----------
    scalar : bytes
        32 bytes, between 1 and ℓ − 1.

    Returns
    -------
    bytes
        The point.

    Raises
    ------
    KeyMaterialError
        If the scalar is out of range.
    """
    return bytes(rbcl.crypto_scalarmult_ristretto255_base(_scalar(scalar)))


def mult(scalar: bytes, point: bytes) -> bytes:
    """Multiply a point by a scalar, in constant time.

    Parameters
    ----------
    scalar : bytes
        32 bytes, between 1 and ℓ − 1.
    point : bytes
        The point; it is checked here, so points from a peer may be passed as they are.

    Returns
    -------
    bytes
        The point ``scalar · point``.

    Raises
    ------
    KeyMaterialError
        If the scalar is out of range.
    CiphertextError
        If the point is malformed or the identity.
    """
    try:
        return bytes(rbcl.crypto_scalarmult_ristretto255(_scalar(scalar), _point(point)))
    except RuntimeError:
        raise _refused() from None


def add(left: bytes, right: bytes) -> bytes:
    """Add two points.

    Parameters
    ----------
    left, right : bytes
        The points; checked here.

    Returns
    -------
    bytes
        The point ``left + right``.

    Raises
    ------
    CiphertextError
        If a point is malformed or the identity, or the sum is the identity.
    """
    # libsodium leaves the result zero, which encodes the identity, when an argument is malformed.
    result = bytes(rbcl.crypto_core_ristretto255_add(_point(left), _point(right)))
    return _point(result)


def sub(left: bytes, right: bytes) -> bytes:
    """Subtract two points.

    Parameters
    ----------
    left, right : bytes
        The points; checked here.

    Returns
    -------
    bytes
        The point ``left − right``.

    Raises
    ------
    CiphertextError
        If a point is malformed or the identity, or both are equal.
    """
    result = bytes(rbcl.crypto_core_ristretto255_sub(_point(left), _point(right)))
    return _point(result)


def scalar_add(left: bytes, right: bytes) -> bytes:
    """Add two scalars modulo ℓ.

    Parameters
    ----------
    left, right : bytes
        32 bytes each, between 1 and ℓ − 1.

    Returns
    -------
    bytes
        The sum; it is zero if the arguments are opposite.

    Raises
    ------
    KeyMaterialError
        If a scalar is out of range.
    """
    return bytes(rbcl.crypto_core_ristretto255_scalar_add(_scalar(left), _scalar(right)))


def scalar_mult(left: bytes, right: bytes) -> bytes:
    """Multiply two scalars modulo ℓ.

    Parameters
    ----------
    left, right : bytes
        32 bytes each, between 1 and ℓ − 1.

    Returns
    -------
    bytes
        The product, nonzero.

    Raises
    ------
    KeyMaterialError
        If a scalar is out of range.
    """
    return bytes(rbcl.crypto_core_ristretto255_scalar_mul(_scalar(left), _scalar(right)))


def scalar_invert(scalar: bytes) -> bytes:
    """Invert a scalar modulo ℓ, in constant time.

    Parameters
    ----------
    scalar : bytes
        32 bytes, between 1 and ℓ − 1.

    Returns
    -------
    bytes
        The inverse.

    Raises
    ------
    KeyMaterialError
        If the scalar is out of range.
    """
    return bytes(rbcl.crypto_core_ristretto255_scalar_invert(_scalar(scalar)))


def scalar_reduce(uniform: bytes) -> bytes:
    """Reduce 64 uniform bytes (little endian) modulo ℓ.

    Parameters
    ----------
    uniform : bytes
        64 bytes.

    Returns
    -------
    bytes
        A scalar, zero with negligible probability only.

    Raises
    ------
    InputError
        If the input has another length.
    """
    if len(uniform) != _UNIFORM_BYTES:
        raise InputError("a scalar is reduced from exactly 64 bytes.")
    return bytes(rbcl.crypto_core_ristretto255_scalar_reduce(bytes(uniform)))


def from_uniform_bytes(uniform: bytes) -> bytes:
    """Map 64 uniform bytes to a point by the one-way map of RFC 9496, section 4.3.4.

    Parameters
    ----------
    uniform : bytes
        64 bytes, as a rule a hash. Nobody knows the discrete logarithm of the result.

    Returns
    -------
    bytes
        The point.

    Raises
    ------
    InputError
        If the input has another length.
    """
    if len(uniform) != _UNIFORM_BYTES:
        raise InputError("a group element is derived from exactly 64 bytes.")
    return bytes(rbcl.crypto_core_ristretto255_from_hash(bytes(uniform)))


def expand_message_xmd(message: bytes, dst: bytes, length: int) -> bytes:
    """Expand a message into uniform bytes with SHA-512 (RFC 9380, section 5.3.1).

    Parameters
    ----------
    message : bytes
        The message.
    dst : bytes
        The domain separation tag, not empty. A tag over 255 bytes is hashed first (section 5.3.3).
    length : int
        Output length in bytes, 1 to 16320.

    Returns
    -------
    bytes
        ``length`` bytes.

    Raises
    ------
    InputError
        If the tag is empty or the length out of range.
    """
    if not dst:
        raise InputError("the domain separation tag is empty.")
    blocks = -(-length // _SHA512_BYTES)
    if length < 1 or blocks > 255:
        raise InputError("expand_message_xmd gives 1 to 16320 bytes.")
    if len(dst) > 255:
        dst = hashlib.sha512(b"H2C-OVERSIZE-DST-" + dst).digest()
    suffix = dst + len(dst).to_bytes(1, "big")
    first = hashlib.sha512(
        bytes(_SHA512_BLOCK) + message + length.to_bytes(2, "big") + b"\x00" + suffix
    ).digest()
    block = hashlib.sha512(first + b"\x01" + suffix).digest()
    out = [block]
    for index in range(2, blocks + 1):
        mixed = bytes(a ^ b for a, b in zip(first, block, strict=True))
        block = hashlib.sha512(mixed + index.to_bytes(1, "big") + suffix).digest()
        out.append(block)
    return b"".join(out)[:length]


def hash_to_group(message: bytes, dst: bytes) -> bytes:
    """Hash a message to a point (``hash_to_ristretto255`` of RFC 9380, appendix B, with SHA-512).

    Parameters
    ----------
    message : bytes
        The message.
    dst : bytes
        The domain separation tag; RFC 9497 uses ``b"HashToGroup-" + context``.

    Returns
    -------
    bytes
        The point.

    Raises
    ------
    InputError
        If the tag is empty.
    """
    return from_uniform_bytes(expand_message_xmd(message, dst, _UNIFORM_BYTES))


def hash_to_scalar(message: bytes, dst: bytes) -> bytes:
    """Hash a message to a scalar (``HashToScalar`` of RFC 9497, section 4.1).

    Parameters
    ----------
    message : bytes
        The message.
    dst : bytes
        The domain separation tag; RFC 9497 uses ``b"HashToScalar-" + context``.

    Returns
    -------
    bytes
        The scalar.

    Raises
    ------
    InputError
        If the tag is empty.
    """
    return scalar_reduce(expand_message_xmd(message, dst, _UNIFORM_BYTES))
