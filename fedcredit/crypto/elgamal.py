"""Lifted ElGamal over ristretto255, and a blinded test of a value against a small set.

A value ``v`` is encrypted under ``Y = y·G`` as ``(A, B) = (r·G, v·G + r·Y)`` (T. ElGamal,
CRYPTO '84, with the value in the exponent as in Cramer, Gennaro and Schoenmakers, EUROCRYPT '97).
Nobody decrypts to a number here. The key holder sees whether a ciphertext holds zero, and nothing
of a value that was multiplied by a random scalar.

The test: whoever holds ``x`` makes, for every candidate ``c`` of ``x − w … x + w``, from the
encryption of ``v``::

    s·(A, B − c·G) + (t·G, t·Y)        s and t fresh, uniform and nonzero, for every candidate

and returns them in random order. The key holder finds a zero among them exactly if ``v`` is a
candidate. Every other one decrypts to ``s·(v − c)·G``, a uniform element other than the identity,
whatever ``c`` is, so the key holder learns neither ``x`` nor how far off ``v`` was. With one
candidate this is the plaintext equality test of M. Jakobsson and A. Juels, "Mix and Match"
(ASIACRYPT 2000); over all of them it decides the set membership of M. Freedman, K. Nissim and
B. Pinkas, "Efficient Private Matching and Set Intersection" (EUROCRYPT 2004), point by point
instead of through a polynomial, which is cheaper for sets this small.

What the key holder sees is the same for every ``(Y, A, B)`` that it may choose: in a group of
prime order each such triple is an encryption of one ``v``. The value holder never branches on
``x``, and no intermediate result is the identity for a choice of the key holder that would depend
on ``x``; an error here tells nothing.
"""

from __future__ import annotations

import functools
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from fedcredit.crypto import group
from fedcredit.crypto.pedersen import MAX_VALUE, MIN_VALUE
from fedcredit.errors import CiphertextError, InputError

__all__ = [
    "CIPHERTEXT_BYTES",
    "MAX_TOLERANCE",
    "Ciphertext",
    "DecryptionKey",
    "blinded_candidates",
    "blinded_nothing",
    "encrypt",
    "join",
    "rerandomise",
    "split",
]

CIPHERTEXT_BYTES: Final = 2 * group.POINT_BYTES
#: Candidates on either side of the value; wider tolerances take a coarser resolution.
MAX_TOLERANCE: Final = 64

_STEP: Final = "encrypted comparison"
# Added to a value so that its multiple of G is never the identity, which the group refuses.
_SHIFT: Final = 1 - MIN_VALUE


@functools.cache
def _shift_point() -> bytes:
    return group.base_mult(_SHIFT.to_bytes(group.SCALAR_BYTES, "little"))


def _shifted(value: int) -> bytes:
    """Encode ``value + 2^63 + 1`` as a scalar, nonzero for every 64-bit value."""
    return (value + _SHIFT).to_bytes(group.SCALAR_BYTES, "little")


@dataclass(frozen=True)
class Ciphertext:
    """A ciphertext ``(A, B)``.

    Attributes
    ----------
    first : bytes
        ``A = r·G``, 32 bytes.
    second : bytes
        ``B = v·G + r·Y``, 32 bytes.

    Raises
    ------
    CiphertextError
        A half is malformed, not canonical, or the identity.
    """

    first: bytes = field(repr=False)
    second: bytes = field(repr=False)

    def __post_init__(self) -> None:
        group.check_point(self.first)
        group.check_point(self.second)

    def to_bytes(self) -> bytes:
        """Return both halves, 64 bytes."""
        return self.first + self.second

    @classmethod
    def from_bytes(cls, data: bytes) -> Ciphertext:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        CiphertextError
            The length is not 64 bytes, or a half is no element of the group.
        """
        if len(data) != CIPHERTEXT_BYTES:
            raise CiphertextError(
                f"a ciphertext has {CIPHERTEXT_BYTES} bytes.",
                step=_STEP,
                fix="drop the run; the peer sent something that no honest party sends",
            )
        return cls(data[: group.POINT_BYTES], data[group.POINT_BYTES :])


def join(ciphertexts: Sequence[Ciphertext]) -> bytes:
    """Write ciphertexts one after the other, 64 bytes each."""
    return b"".join(one.to_bytes() for one in ciphertexts)


def split(data: bytes) -> tuple[Ciphertext, ...]:
    """Read what :func:`join` wrote.

    Raises
    ------
    CiphertextError
        The length is no multiple of 64 bytes, there are more than a test can have, or a half is
        no element of the group.
    """
    if len(data) % CIPHERTEXT_BYTES or len(data) > (2 * MAX_TOLERANCE + 1) * CIPHERTEXT_BYTES:
        raise CiphertextError(
            "a list of ciphertexts has a wrong length.",
            step=_STEP,
            fix="drop the run; the peer sent something that no honest party sends",
        )
    starts = range(0, len(data), CIPHERTEXT_BYTES)
    return tuple(Ciphertext.from_bytes(data[at : at + CIPHERTEXT_BYTES]) for at in starts)


class DecryptionKey:
    """The key of one question; the secret shows neither in ``repr`` nor in a pickle.

    Make it with :meth:`generate`, one for every question.

    Attributes
    ----------
    public : bytes
        ``Y = y·G``, 32 bytes.
    """

    __slots__ = ("_scalar", "public")

    def __init__(self, scalar: bytes) -> None:
        self.public = group.base_mult(scalar)
        self._scalar = scalar

    @classmethod
    def generate(cls) -> DecryptionKey:
        """Draw a fresh key from the system's CSPRNG."""
        return cls(group.random_scalar())

    def __repr__(self) -> str:
        return "DecryptionKey()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a decryption key is never pickled")

    def private_bytes(self) -> bytes:
        """Return the secret scalar, 32 bytes, for a proof of correct decryption."""
        return self._scalar

    def shared(self, ciphertext: Ciphertext) -> bytes:
        """Return ``y·A``, which is ``B`` exactly if the ciphertext holds zero."""
        return group.mult(self._scalar, ciphertext.first)

    def is_zero(self, ciphertext: Ciphertext) -> bool:
        """Tell whether a ciphertext holds zero."""
        return hmac.compare_digest(self.shared(ciphertext), ciphertext.second)

    def finds_zero(self, ciphertexts: Sequence[Ciphertext]) -> bool:
        """Tell whether one of several ciphertexts holds zero; looks at all of them."""
        return sum([self.is_zero(one) for one in ciphertexts]) > 0


def _check_value(value: int, what: str, reach: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{what} must be an integer.", step=_STEP)
    if not MIN_VALUE <= value - reach <= value + reach <= MAX_VALUE:
        raise InputError(f"{what} must fit 64 bits with sign.", step=_STEP)


def encrypt(public: bytes, value: int) -> tuple[Ciphertext, bytes]:
    """Encrypt an integer under fresh randomness.

    Parameters
    ----------
    public : bytes
        ``Y``, 32 bytes.
    value : int
        Between -2^63 and 2^63 - 1.

    Returns
    -------
    ciphertext : Ciphertext
    randomness : bytes
        ``r``, 32 bytes, as secret as the value; for a proof about the ciphertext.

    Raises
    ------
    InputError
        If the value is out of range.
    CiphertextError
        If the key is no element of the group or the identity.
    """
    _check_value(value, "an encrypted value")
    r = group.random_scalar()
    lifted = group.add(group.mult(r, public), group.base_mult(_shifted(value)))
    return Ciphertext(group.base_mult(r), group.sub(lifted, _shift_point())), r


def rerandomise(public: bytes, ciphertext: Ciphertext) -> Ciphertext:
    """Return another encryption of the same value, unlinkable without the key.

    Parameters
    ----------
    public : bytes
        ``Y``, 32 bytes.
    ciphertext : Ciphertext

    Raises
    ------
    CiphertextError
        If the key is no element of the group or the identity.
    """
    t = group.random_scalar()
    return Ciphertext(
        group.add(ciphertext.first, group.base_mult(t)),
        group.add(ciphertext.second, group.mult(t, public)),
    )


def _blinded(public: bytes, first: bytes, shifted: bytes, candidate: bytes) -> Ciphertext:
    """Return ``s·(A, B − c·G)``, re-randomised; ``shifted`` and ``candidate`` both have the shift.

    The random ``t·Y`` goes in before the candidate is taken off: the key holder can choose ``B``
    to be any multiple of ``G``, and ``B − c·G`` on its own would be the identity for its guess.
    """
    s, t = group.random_scalar(), group.random_scalar()
    masked = group.add(group.mult(s, shifted), group.mult(t, public))
    return Ciphertext(
        group.add(group.mult(s, first), group.base_mult(t)),
        group.sub(masked, group.base_mult(group.scalar_mult(s, candidate))),
    )


def blinded_candidates(
    public: bytes, ciphertext: Ciphertext, value: int, tolerance: int
) -> list[Ciphertext]:
    """Test an encrypted value against everything within ``tolerance`` of one's own.

    Parameters
    ----------
    public : bytes
        ``Y`` of the key holder, 32 bytes.
    ciphertext : Ciphertext
        Encryption of the key holder's value under ``Y``.
    value : int
        One's own value; with ``tolerance`` on either side it must fit 64 bits.
    tolerance : int
        0 to :data:`MAX_TOLERANCE`.

    Returns
    -------
    list of Ciphertext
        ``2 · tolerance + 1`` in uniformly random order; exactly one holds zero if the values are
        within ``tolerance`` of each other, else none.

    Raises
    ------
    InputError
        If the value or the tolerance is out of range.
    CiphertextError
        If the key or the ciphertext is not valid; this does not depend on ``value``.
    """
    _check_tolerance(tolerance)
    _check_value(value, "the value of a record", tolerance)
    shifted = group.add(ciphertext.second, _shift_point())
    reach = range(value - tolerance, value + tolerance + 1)
    made = [_blinded(public, ciphertext.first, shifted, _shifted(c)) for c in reach]
    secrets.SystemRandom().shuffle(made)
    return made


def blinded_nothing(public: bytes, ciphertext: Ciphertext, tolerance: int) -> list[Ciphertext]:
    """Make what :func:`blinded_candidates` makes when nothing matches, without a value.

    The candidates are random scalars, so that it costs the same work and none of them is a value.

    Parameters
    ----------
    public, ciphertext, tolerance
        See :func:`blinded_candidates`.

    Returns
    -------
    list of Ciphertext
        ``2 · tolerance + 1`` of uniform elements.

    Raises
    ------
    InputError, CiphertextError
        See :func:`blinded_candidates`.
    """
    _check_tolerance(tolerance)
    shifted = group.add(ciphertext.second, _shift_point())
    made = [
        _blinded(public, ciphertext.first, shifted, group.random_scalar())
        for _ in range(2 * tolerance + 1)
    ]
    secrets.SystemRandom().shuffle(made)
    return made


def _check_tolerance(tolerance: int) -> None:
    if isinstance(tolerance, bool) or not 0 <= tolerance <= MAX_TOLERANCE:
        raise InputError(
            f"a tolerance is 0 to {MAX_TOLERANCE} steps.",
            step=_STEP,
            fix="give the predicate a coarser resolution",
        )
