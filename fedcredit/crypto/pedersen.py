"""Pedersen commitments to 64-bit integers over ristretto255.

``C = v·G + r·H`` (T. P. Pedersen, "Non-interactive and information-theoretic secure verifiable
secret sharing", CRYPTO '91) hides ``v`` perfectly when ``r`` is uniform, and binds the committer
to it as long as nobody knows the discrete logarithm of ``H`` to the base ``G``. ``G`` is the
generator of RFC 9496; ``H`` comes out of a hash (RFC 9380, appendix B), so nobody does.

Commitments add up: the sum of two commitments commits to the sum of the values under the sum of
the blindings.
"""

from __future__ import annotations

import functools
import hmac
from typing import Final

from fedcredit.crypto import group
from fedcredit.errors import CiphertextError, InputError

__all__ = [
    "COMMITMENT_BYTES",
    "MAX_VALUE",
    "MIN_VALUE",
    "check_commitment",
    "commit",
    "opens",
    "pedersen_g",
    "pedersen_h",
    "random_blinding",
    "scalar_of",
]

COMMITMENT_BYTES: Final = group.POINT_BYTES
MIN_VALUE: Final = -(2**63)
MAX_VALUE: Final = 2**63 - 1

_ONE: Final = (1).to_bytes(group.SCALAR_BYTES, "little")
_H_DST: Final = b"HashToGroup-fedcredit-pedersen-v1-ristretto255-SHA512"
_H_MESSAGE: Final = b"second generator H"
# Added to a value so that no value, zero included, needs the point at infinity.
_SHIFT: Final = 2**63 + 1


@functools.cache
def pedersen_g() -> bytes:
    """Return the generator that the value is a multiple of: the one of RFC 9496.

    Returns
    -------
    bytes
        32 bytes.
    """
    return group.base_mult(_ONE)


@functools.cache
def pedersen_h() -> bytes:
    """Return the generator that the blinding is a multiple of.

    Returns
    -------
    bytes
        32 bytes: a fixed text hashed to the group, so that its discrete logarithm is unknown.
    """
    return group.hash_to_group(_H_MESSAGE, _H_DST)


@functools.cache
def _shift_point() -> bytes:
    return group.base_mult(_SHIFT.to_bytes(group.SCALAR_BYTES, "little"))


def random_blinding() -> bytes:
    """Draw a uniform blinding from the system's CSPRNG.

    Returns
    -------
    bytes
        32 bytes, secret: with the value it opens the commitment.
    """
    return group.random_scalar()


def scalar_of(value: int) -> bytes:
    """Encode a signed 64-bit integer as a scalar, a negative one as its residue.

    Parameters
    ----------
    value : int
        Between -2^63 and 2^63 - 1.

    Returns
    -------
    bytes
        32 bytes, little endian, below the group order; all zero for zero, which the functions of
        :mod:`fedcredit.crypto.group` refuse.

    Raises
    ------
    InputError
        If the value is no such integer.
    """
    return (_checked(value) % group.ORDER).to_bytes(group.SCALAR_BYTES, "little")


def commit(value: int, blinding: bytes) -> bytes:
    """Commit to an integer: ``value·G + blinding·H``, in constant time.

    Parameters
    ----------
    value : int
        Between -2^63 and 2^63 - 1.
    blinding : bytes
        A scalar between 1 and the group order less 1, as :func:`random_blinding` draws it. Never
        use one twice.

    Returns
    -------
    bytes
        The commitment, 32 bytes.

    Raises
    ------
    InputError
        If the value is out of range.
    KeyMaterialError
        If the blinding is.
    """
    shifted = (_checked(value) + _SHIFT).to_bytes(group.SCALAR_BYTES, "little")
    blinded = group.add(group.mult(blinding, pedersen_h()), group.base_mult(shifted))
    return group.sub(blinded, _shift_point())


def opens(commitment: bytes, value: int, blinding: bytes) -> bool:
    """Tell whether a value and a blinding open a commitment.

    Parameters
    ----------
    commitment : bytes
        32 bytes.
    value : int
    blinding : bytes
        As given to :func:`commit`.

    Returns
    -------
    bool

    Raises
    ------
    InputError, KeyMaterialError
        As :func:`commit`.
    """
    return hmac.compare_digest(commit(value, blinding), bytes(commitment))


def check_commitment(commitment: bytes) -> bytes:
    """Return a commitment that came from somebody else, if it is an element of the group.

    Parameters
    ----------
    commitment : bytes

    Returns
    -------
    bytes
        The same 32 bytes.

    Raises
    ------
    CiphertextError
        If it is malformed, not canonical, or the identity.
    """
    if not group.is_valid(commitment):
        raise CiphertextError(
            "a commitment is no element of the group.", fix="ask for the declaration again"
        )
    return commitment


def _checked(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError("a committed value must be an integer.", step="commit")
    if not MIN_VALUE <= value <= MAX_VALUE:
        raise InputError("a committed value must fit 64 bits with sign.", step="commit")
    return value
