"""Microsoft SEAL (through ``tenseal.sealapi``) for BFV with a plain modulus ``2^k``.

SEAL does everything that touches a secret key: key generation, symmetric encryption, decryption.
This module gives the rest of the package numpy arrays of residues in and out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import tenseal.sealapi as sealapi
from numpy.typing import NDArray

from fedcredit.crypto import seal_io
from fedcredit.crypto.seal_io import SEED_BYTES
from fedcredit.errors import CiphertextError, KeyMaterialError, ParameterError

__all__ = ["SEED_BYTES", "SealContext", "SealKeys"]

STANDARD_BITS = {4096: 109, 8192: 218}
"""Largest coefficient modulus, in bits, for 128-bit security with ternary keys.

Homomorphic Encryption Standard (Albrecht et al., 2018), table 1; SEAL enforces the same limits.
"""

U64 = NDArray[np.uint64]


class SealContext:
    """BFV parameters as SEAL validates them, and what needs no secret key.

    Use :meth:`of`, which builds every context once per process.

    Parameters
    ----------
    degree : int
        N: 4096 or 8192.
    bits : tuple of int
        Bit sizes of the coefficient primes; the last one is the special prime of key switching.
    plain_modulus : int
        t.

    Attributes
    ----------
    primes : tuple of int
        The coefficient primes, the special prime last.

    Raises
    ------
    ParameterError
        If SEAL's table for 128-bit security does not contain the parameters.
    """

    def __init__(self, degree: int, bits: tuple[int, ...], plain_modulus: int) -> None:
        if sum(bits) > STANDARD_BITS.get(degree, 0):
            raise ParameterError(
                f"a modulus of {sum(bits)} bits at degree {degree} is below 128-bit security.",
                fix="use fewer primes or degree 8192",
            )
        try:
            self._context = seal_io.build_context(degree, bits, plain_modulus)
        except (ValueError, RuntimeError) as error:
            raise ParameterError("SEAL refuses the parameters.") from error
        if not self._context.parameters_set():
            raise ParameterError(f"SEAL: {self._context.parameters_error_message()}")
        key_level = self._context.key_context_data().parms()
        self.degree = degree
        self.plain_modulus = plain_modulus
        self.primes: tuple[int, ...] = tuple(m.value() for m in key_level.coeff_modulus())

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, degree: int, bits: tuple[int, ...], plain_modulus: int) -> SealContext:
        """Build, or give again, the context of these parameters."""
        return cls(degree, bits, plain_modulus)

    def load_galois_keys(self, data: bytes, elements: Sequence[int]) -> U64:
        """Read Galois keys that SEAL saved.

        Returns
        -------
        ndarray of uint64, shape (E, L, 2, L + 1, N)
            For every element the residues of its L key-switching keys.

        Raises
        ------
        KeyMaterialError
            If SEAL refuses the bytes or a key of ``elements`` is missing.
        """
        keys = self._load_key(sealapi.GaloisKeys(), data)
        out = []
        for element in elements:
            if not keys.has_key(element):
                raise KeyMaterialError("a Galois key that the packing needs is missing.")
            out.append(
                [seal_io.read_ciphertext(part.data()) for part in keys.data((element - 1) // 2)]
            )
        if any(len(parts) != len(self.primes) - 1 for parts in out):
            raise KeyMaterialError("a Galois key has the wrong number of parts.")
        return np.array(out, np.uint64).reshape(
            len(out), len(self.primes) - 1, 2, len(self.primes), self.degree
        )

    def expand(self, seed: bytes, c0: U64) -> U64:
        """Let SEAL expand a seeded ciphertext: the reference for the package's own expansion.

        Parameters
        ----------
        seed : bytes
            64 bytes.
        c0 : ndarray of uint64, shape (L, N)
            First polynomial.

        Returns
        -------
        ndarray of uint64, shape (2, L, N)
            Both polynomials.

        Raises
        ------
        CiphertextError
            If SEAL refuses the residues.
        """
        data = seal_io.seeded_bytes(self._context, seed, c0)
        try:
            loaded = seal_io.load(sealapi.Ciphertext(), self._context, data)
            return seal_io.read_ciphertext(loaded)
        except (ValueError, RuntimeError) as error:
            raise CiphertextError("SEAL refuses the ciphertext.") from error

    def new_keys(self) -> SealKeys:
        """Make a fresh secret key."""
        return SealKeys(self)

    def _load_key(self, key: Any, data: bytes) -> Any:
        if len(data) > 1 << 26:
            raise KeyMaterialError("the key has more than 64 MB.")
        try:
            return seal_io.load(key, self._context, data)
        except (ValueError, RuntimeError) as error:
            raise KeyMaterialError(
                "SEAL cannot read the key.", fix="agree on one profile and send the key again"
            ) from error


class SealKeys:
    """A secret key inside SEAL and what can be done with it.

    The key never leaves SEAL's own memory: it is neither printed nor pickled nor saved.

    Parameters
    ----------
    context : SealContext
        The parameters.
    """

    def __init__(self, context: SealContext) -> None:
        self.context = context
        self._generator = sealapi.KeyGenerator(context._context)
        secret = self._generator.secret_key()
        self._encryptor = sealapi.Encryptor(context._context, secret)
        self._decryptor = sealapi.Decryptor(context._context, secret)

    def __repr__(self) -> str:
        return f"<SealKeys degree={self.context.degree}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def galois_keys(self, elements: Sequence[int]) -> bytes:
        """Make the Galois keys of ``X -> X^element``, seeded, in SEAL's format."""
        return seal_io.save(self._generator.create_galois_keys(list(elements)))

    def encrypt(self, coefficients: U64) -> tuple[bytes, U64]:
        """Encrypt one polynomial symmetrically.

        Parameters
        ----------
        coefficients : ndarray of uint64, shape (N,)
            Below t.

        Returns
        -------
        seed : bytes
            64 bytes; its expansion is c1.
        c0 : ndarray of uint64, shape (L, N)
            Residues of c0, coefficients.
        """
        plain = seal_io.make_plaintext(self.context._context, coefficients)
        return seal_io.read_seeded(self._encryptor.encrypt_symmetric(plain))

    def decrypt(self, residues: U64) -> U64:
        """Decrypt one ciphertext.

        Parameters
        ----------
        residues : ndarray of uint64, shape (2, L, N)
            Both polynomials, coefficients, below the primes.

        Returns
        -------
        ndarray of uint64, shape (N,)
            Coefficients below t.
        """
        plain = sealapi.Plaintext()
        self._decryptor.decrypt(seal_io.make_ciphertext(self.context._context, residues), plain)
        values = seal_io.read_plaintext(plain)
        out = np.zeros(self.context.degree, np.uint64)
        out[: values.size] = values
        return out

    def noise_budget(self, residues: U64) -> int:
        """Give SEAL's invariant noise budget of a ciphertext, in bits."""
        ciphertext = seal_io.make_ciphertext(self.context._context, residues)
        return int(self._decryptor.invariant_noise_budget(ciphertext))
