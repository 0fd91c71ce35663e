"""The Paillier cryptosystem on whole batches: keys, encryption, decryption, re-randomisation.

A ciphertext of m under the modulus n is ``(1 + n m) r^n mod n^2`` with r uniform modulo n; products
of ciphertexts decrypt to sums (P. Paillier, "Public-Key Cryptosystems Based on Composite Degree
Residuosity Classes", EUROCRYPT 1999).  Key generation and decryption are those of `phe
<https://python-paillier.readthedocs.io>`_, the powers those of GMP.

phe 1.5.0 decrypts whatever it is given, and gives its key away: to 0 and to any multiple of n it
answers ``1 / (p + q)`` modulo n.  Everything that comes from outside therefore passes
:meth:`PaillierModulus.read`, which lets only units modulo ``n^2`` through.

A modulus from outside is checked as well.  If a prime divided both n and phi(n), there would be
more cosets of the n-th residues than the n plaintexts, and the coset of a product, which no ``r^n``
changes, could tell more of its factors than their sum.  So the owner proves that there is no such
prime: n has no prime factor below 6370, and eleven numbers derived from n have n-th roots modulo n
(S. Goldberg, L. Reyzin, O. Sagga, F. Baldimtsi, "Efficient Noninteractive Certification of RSA
Moduli and Beyond", ASIACRYPT 2019, section 3.2; soundness ``6370^-11``, below ``2^-138``).

``phe`` and ``gmpy2`` come with the extra ``paillier`` and are loaded when first needed.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import math
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import CiphertextError, ConfigError, KeyMaterialError

__all__ = ["PROOF_ROOTS", "PaillierModulus", "PaillierSecret"]

PROOF_ROOTS = 11
"""Numbers whose n-th roots prove a modulus."""

_SMALL_FACTORS = 6370
_PROOF_LABEL = b"fedcredit paillier modulus v1\0"

U8 = NDArray[np.uint8]


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"the Paillier backend needs the package {name}, which is not installed.",
            step="encrypted sums",
            fix='install the extra "paillier": pip install "fedcredit[paillier]"',
        ) from None


def _powers(bases: Sequence[Any], exponent: Any, modulus: Any, threads: int) -> list[Any]:
    """Raise every base; GMP works on a list without holding the interpreter's lock."""
    power = _library("gmpy2").powmod_base_list
    ways = max(1, min(threads, len(bases)))
    cuts = [len(bases) * i // ways for i in range(ways + 1)]
    spans = [list(bases[a:b]) for a, b in itertools.pairwise(cuts)]
    if ways == 1:
        return list(power(spans[0], exponent, modulus))
    with ThreadPoolExecutor(ways) as pool:
        parts = pool.map(lambda span: power(span, exponent, modulus), spans)
        return list(itertools.chain.from_iterable(parts))


class PaillierModulus:
    """A public key: what can be done with ciphertexts without the secret one.

    Parameters
    ----------
    n : int
        The modulus; one from outside must come through :meth:`proven`.
    """

    def __init__(self, n: int) -> None:
        mpz = _library("gmpy2").mpz
        self.n = mpz(n)
        self.square = self.n * self.n
        self.width = -(-2 * n.bit_length() // 8)

    def __repr__(self) -> str:
        return f"PaillierModulus({int(self.n).bit_length()} bits)"

    # --------------------------------------------------------------------- bytes and back

    def write(self, ciphertexts: Sequence[Any]) -> U8:
        """Write ciphertexts as big-endian rows of bytes, shape (k, width)."""
        joined = b"".join(int(c).to_bytes(self.width, "big") for c in ciphertexts)
        return np.frombuffer(joined, np.uint8).reshape(len(ciphertexts), self.width)

    def read(self, rows: U8) -> list[Any]:
        """Read and check ciphertexts.

        Parameters
        ----------
        rows : ndarray of uint8, shape (k, width)
            Big-endian.

        Returns
        -------
        list of mpz
            Units modulo ``n^2``.

        Raises
        ------
        CiphertextError
            If a number is not below ``n^2``, is zero or shares a factor with n.
        """
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2:
            raise CiphertextError("the ciphertexts are not rows of bytes.")
        if rows.shape[1] != self.width:
            raise CiphertextError(
                f"a ciphertext has not the {self.width} bytes of this key.",
                fix="let both sides use the same profile",
            )
        gmpy2 = _library("gmpy2")
        numbers = [gmpy2.mpz(int.from_bytes(row.tobytes(), "big")) for row in rows]
        # A factor that one number shares with n, the product modulo n shares too.
        product = gmpy2.mpz(1)
        for number in numbers:
            if not 0 < number < self.square:
                raise CiphertextError("a ciphertext is zero or not below the squared modulus.")
            product = product * number % self.n
        if gmpy2.gcd(product, self.n) != 1:
            raise CiphertextError("a ciphertext shares a factor with the modulus.")
        return numbers

    # ------------------------------------------------------------------------- arithmetic

    def plain(self, m: int) -> Any:
        """Give ``1 + n m`` modulo ``n^2``: an encryption of m that hides nothing."""
        return 1 + self.n * (m % self.n)

    def zeros(self, count: int, threads: int = 1) -> list[Any]:
        """Give fresh encryptions of zero, ``r^n`` with r a uniform unit modulo n."""
        gmpy2 = _library("gmpy2")
        bases: list[Any] = []
        while len(bases) < count:
            r = gmpy2.mpz(secrets.randbelow(int(self.n)))
            if gmpy2.gcd(r, self.n) == 1:
                bases.append(r)
        return _powers(bases, self.n, self.square, threads)

    # --------------------------------------------------------------------------- its proof

    @classmethod
    def proven(cls, data: bytes, key_bits: int) -> PaillierModulus:
        """Read what :meth:`PaillierSecret.proof` wrote, and check it.

        Parameters
        ----------
        data : bytes
            The modulus and eleven roots, big-endian, ``key_bits / 8`` bytes each.
        key_bits : int
            Agreed size of the modulus.

        Raises
        ------
        KeyMaterialError
            If the size is another one or the proof does not hold.
        """
        return _proven(data, key_bits)


class PaillierSecret:
    """A fresh key pair.

    The secret key is never printed, saved or pickled.

    Parameters
    ----------
    key_bits : int
        Size of the modulus, a multiple of 16.
    """

    def __init__(self, key_bits: int) -> None:
        gmpy2 = _library("gmpy2")
        public, self._private = _library("phe").generate_paillier_keypair(n_length=key_bits)
        self.modulus = PaillierModulus(public.n)
        self._p, self._q = gmpy2.mpz(self._private.p), gmpy2.mpz(self._private.q)

    def __repr__(self) -> str:
        return f"<PaillierSecret {int(self.modulus.n).bit_length()} bits>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def encrypt(self, values: Sequence[int], threads: int = 1) -> list[Any]:
        """Encrypt integers, negative ones modulo n."""
        key = self.modulus
        zeros = self._zeros(len(values), threads)
        return [key.plain(m) * z % key.square for m, z in zip(values, zeros, strict=True)]

    def decrypt(self, rows: U8) -> list[int]:
        """Check and decrypt ciphertexts.

        Parameters
        ----------
        rows : ndarray of uint8, shape (k, width)

        Returns
        -------
        list of int
            From 0 to n - 1.

        Raises
        ------
        CiphertextError
            Nothing is decrypted if one of them is malformed.
        """
        return [int(self._private.raw_decrypt(int(c))) for c in self.modulus.read(rows)]

    def proof(self) -> bytes:
        """Give the modulus with the proof of its form; see :meth:`PaillierModulus.proven`."""
        n, size = int(self.modulus.n), int(self.modulus.n).bit_length() // 8
        root = pow(n, -1, int((self._p - 1) * (self._q - 1)))
        roots = _powers(_challenges(n), root, self.modulus.n, 1)
        return b"".join(int(number).to_bytes(size, "big") for number in (n, *roots))

    def _zeros(self, count: int, threads: int) -> list[Any]:
        """Give fresh encryptions of zero, three to four times as fast as without the factors."""
        mpz, p, q = _library("gmpy2").mpz, self._p, self._q
        x = [mpz(1 + secrets.randbelow(int(p - 1))) for _ in range(count)]
        y = [mpz(1 + secrets.randbelow(int(q - 1))) for _ in range(count)]
        return nth_residues(x, y, p, q, threads)


def nth_residues(x: Sequence[Any], y: Sequence[Any], p: Any, q: Any, threads: int = 1) -> list[Any]:
    """Give one n-th residue modulo ``n^2``, ``n = p q``, for every pair of units mod p and mod q.

    Modulo ``p^2`` the n-th residues are the p-1 solutions of ``z^(p-1) = 1``, because q is prime to
    ``p - 1``; x to the p-th is the one that is x modulo p.  So uniform x and y give uniform
    residues.
    """
    gmpy2 = _library("gmpy2")
    pp, qq = p * p, q * q
    inverse = gmpy2.invert(pp, qq)
    left, right = _powers(x, p, pp, threads), _powers(y, q, qq, threads)
    return [a + pp * ((b - a) * inverse % qq) for a, b in zip(left, right, strict=True)]


@lru_cache(maxsize=8)
def _proven(data: bytes, key_bits: int) -> PaillierModulus:
    size = key_bits // 8
    if len(data) != (1 + PROOF_ROOTS) * size:
        raise KeyMaterialError("the Paillier key does not have the agreed size.")
    numbers = [int.from_bytes(data[i : i + size], "big") for i in range(0, len(data), size)]
    n, roots = numbers[0], numbers[1:]
    if n.bit_length() != key_bits:
        raise KeyMaterialError("the Paillier modulus does not have the agreed size.")
    key = PaillierModulus(n)
    sound = math.gcd(n, _primorial()) == 1 and all(0 < root < n for root in roots)
    if not sound or _powers(roots, key.n, key.n, 1) != _challenges(n):
        raise KeyMaterialError("the proof of the Paillier modulus does not hold.")
    return key


def _challenges(n: int) -> list[Any]:
    """Derive the numbers modulo n whose roots are shown, 128 bits longer before the reduction."""
    mpz = _library("gmpy2").mpz
    size = -(-n.bit_length() // 8)
    stream = hashlib.shake_256(_PROOF_LABEL + n.to_bytes(size, "big"))
    long = size + 16
    data = stream.digest(PROOF_ROOTS * long)
    parts = (data[i * long : (i + 1) * long] for i in range(PROOF_ROOTS))
    return [mpz(int.from_bytes(part, "big") % n) for part in parts]


@lru_cache(maxsize=1)
def _primorial() -> int:
    """Multiply the primes below 6370."""
    return int(_library("gmpy2").primorial(_SMALL_FACTORS - 1))
