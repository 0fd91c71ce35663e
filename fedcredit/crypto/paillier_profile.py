"""Public parameters and keys of the encrypted sums under Paillier."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from fedcredit.crypto.encsum_profile import MAX_ROWS
from fedcredit.crypto.paillier import PaillierModulus
from fedcredit.errors import KeyMaterialError, ParameterError

__all__ = ["BLOCK_ROWS", "TEST_KEY_BITS", "PaillierProfile", "PaillierPublicKeys"]

BLOCK_ROWS = 64
"""Rows of one chunk."""

TEST_KEY_BITS = 512
"""What tests lower `PaillierProfile.min_key_bits` to; refused everywhere else."""

_MAX_KEY_BITS = 8192
_MAX_PLAIN_BITS = 52


@dataclass(frozen=True)
class PaillierProfile:
    """What both sides must agree on before the first ciphertext.

    Attributes
    ----------
    key_bits : int
        Bits of the modulus n, a multiple of 16: 2048 (112-bit security by NIST SP 800-57) or more;
        3072 for 128-bit security.
    plain_bits : int
        Sums are returned modulo ``2^plain_bits``, 8 to 52 bits.
    max_rows : int
        Largest number of rows in one pass.

    Raises
    ------
    ParameterError
        If a field is out of range.
    """

    min_key_bits: ClassVar[int] = 2048

    key_bits: int
    plain_bits: int
    max_rows: int = MAX_ROWS

    def __post_init__(self) -> None:
        if any(type(getattr(self, field.name)) is not int for field in fields(self)):
            raise ParameterError("a field of the Paillier profile is not an integer.")
        if not self.min_key_bits <= self.key_bits <= _MAX_KEY_BITS or self.key_bits % 16:
            raise ParameterError(
                f"a Paillier key has {self.min_key_bits} to {_MAX_KEY_BITS} bits.",
                fix="use 2048 or 3072",
            )
        if not 8 <= self.plain_bits <= _MAX_PLAIN_BITS:
            raise ParameterError(f"plain_bits must be 8 to {_MAX_PLAIN_BITS}.")
        if not 1 <= self.max_rows <= MAX_ROWS:
            raise ParameterError(f"a pass takes 1 to {MAX_ROWS} rows.")

    @classmethod
    def packed(cls, n_rows: int, key_bits: int | None = None) -> PaillierProfile:
        """Two quantised numbers in one vector (``encode_pair``), as `SumProfile.packed`."""
        return cls(cls.min_key_bits if key_bits is None else key_bits, 42, n_rows)

    @classmethod
    def exact(
        cls, n_rows: int, key_bits: int | None = None, value_bits: int = 17
    ) -> PaillierProfile:
        """One number of ``value_bits`` bits, with its sign, per vector, as `SumProfile.exact`."""
        plain = max(8, value_bits + max(n_rows, 1).bit_length())
        return cls(cls.min_key_bits if key_bits is None else key_bits, plain, n_rows)

    def blocks(self, n_rows: int) -> int:
        """Give the number of blocks of ``n_rows`` rows, at least one."""
        return max(1, -(-n_rows // BLOCK_ROWS))

    def statistical_distance(self, returned_values: int = 1) -> float:
        """Bound what answers tell beyond their sums, as log2: nothing, however many there are."""
        return -math.inf

    def to_dict(self) -> dict[str, int]:
        """Give the fields as plain integers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PaillierProfile:
        """Read what :meth:`to_dict` wrote, for instance from the peer.

        Raises
        ------
        ParameterError
            If a field is missing or unknown, or the profile is not valid.
        """
        if sorted(values) != sorted(field.name for field in fields(cls)):
            raise ParameterError("the profile does not have the expected integer fields.")
        return cls(**values)


@dataclass(frozen=True)
class PaillierPublicKeys:
    """The label holder's public key, to every provider, once per job.

    Attributes
    ----------
    profile : PaillierProfile
        Parameters of the key.
    public_key : bytes
        The modulus and the proof of its form (`PaillierSecret.proof`).
    galois_keys : bytes
        Empty: Paillier packs no answers.
    """

    profile: PaillierProfile
    public_key: bytes
    galois_keys: bytes = b""

    def __repr__(self) -> str:
        return f"PaillierPublicKeys({self.fingerprint()[:16]})"

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return len(self.public_key)

    def fingerprint(self) -> str:
        """Give the SHA-256, in hexadecimal, of profile and key."""
        digest = hashlib.sha256(b"fedcredit paillier sums v1\0")
        digest.update(json.dumps(self.profile.to_dict(), sort_keys=True).encode() + b"\0")
        digest.update(self.public_key)
        return digest.hexdigest()

    def modulus(self) -> PaillierModulus:
        """Check the key and give it.

        Raises
        ------
        KeyMaterialError
            If it does not fit the profile or its proof does not hold.
        """
        if self.galois_keys:
            raise KeyMaterialError("a Paillier key has no Galois keys.")
        return PaillierModulus.proven(self.public_key, self.profile.key_bits)
