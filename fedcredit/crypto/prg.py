"""Pseudorandom bytes, secret permutations and fast keyed hashes.

Everything stands on AES and BLAKE2b as OpenSSL and CPython ship them:

- ``prg``: AES in counter mode (NIST SP 800-38A) as a pseudorandom generator. The 128-bit counter
  block is ``counter`` (64 bits, big endian) followed by a 64-bit block number that starts at 0, so
  that the streams of one seed under different ``counter`` values never overlap.
- ``TweakedHash``: the construction TMMO of Guo, Katz, Wang and Yu, "Efficient and Secure
  Multiparty Computation from Fixed-Key Block Ciphers" (IEEE S&P 2020): with the
  fixed-key permutation π, ``H(x, i) = π(π(x) ⊕ i) ⊕ π(x)``. It is a tweakable circular
  correlation-robust hash when π is modelled as a random permutation; oblivious-transfer extension
  needs exactly that.
- ``keyed_hashes``: BLAKE2b with key and personalisation (RFC 7693).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Final, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedcredit.errors import InputError, KeyMaterialError

__all__ = [
    "TweakedHash",
    "aes_permute",
    "keyed_hashes",
    "prg",
    "prg_into",
    "prg_u64",
    "secure_permutation",
]

# AES-CTR of zeros is the key stream. One page of zeros that stays in the cache is encrypted over
# and over, which is several times faster than encrypting one large block of zeros.
_ZEROS: Final = memoryview(bytes(1 << 17))
_U64_END: Final = 1 << 64


def _check_seed(seed: bytes, what: str) -> bytes:
    if not isinstance(seed, bytes | bytearray) or len(seed) not in (16, 32):
        raise KeyMaterialError(
            f"{what} is not 16 or 32 bytes long.", fix="draw it with secrets.token_bytes(16)"
        )
    return bytes(seed)


def prg_into(seed: bytes, out: NDArray[np.uint8], counter: int = 0) -> None:
    """Fill an array with the pseudorandom bytes of a seed (AES in counter mode).

    Parameters
    ----------
    seed : bytes
        16 bytes (AES-128) or 32 bytes (AES-256), uniform and secret.
    out : ndarray of uint8, C-contiguous
        What is overwritten.
    counter : int, default 0
        Which stream of the seed, 0 to 2**64 − 1. A stream must serve one purpose only.

    Raises
    ------
    KeyMaterialError
        If the seed has another length.
    InputError
        If ``out`` has another type or layout, or ``counter`` is out of range.
    """
    key = _check_seed(seed, "the PRG seed")
    if not 0 <= counter < _U64_END:
        raise InputError("a PRG counter is outside 0..2^64-1.")
    if out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise InputError("a PRG fills contiguous uint8 arrays only.")
    stream = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(8, "big") + bytes(8)))
    encryptor = stream.encryptor()
    view = out.reshape(-1).data
    for start in range(0, out.size, len(_ZEROS)):
        piece = view[start : start + len(_ZEROS)]
        encryptor.update_into(_ZEROS[: len(piece)], piece)


def prg(seed: bytes, n_bytes: int, counter: int = 0) -> NDArray[np.uint8]:
    """Expand a seed into pseudorandom bytes with AES in counter mode.

    Parameters
    ----------
    seed : bytes
        As for `prg_into`.
    n_bytes : int
        How many bytes, 0 or more.
    counter : int, default 0
        As for `prg_into`.

    Returns
    -------
    ndarray of uint8, shape (n_bytes,)
        A fresh, writable array.

    Raises
    ------
    KeyMaterialError
        If the seed has another length.
    InputError
        If ``n_bytes`` is negative or ``counter`` out of range.
    """
    if n_bytes < 0:
        raise InputError("a PRG cannot give a negative number of bytes.")
    out = np.empty(n_bytes, np.uint8)
    prg_into(seed, out, counter)
    return out


def prg_u64(seed: bytes, n: int, counter: int = 0) -> NDArray[np.uint64]:
    """Expand a seed into uniform 64-bit integers.

    Parameters
    ----------
    seed : bytes
        As for `prg`.
    n : int
        How many integers.
    counter : int, default 0
        As for `prg`.

    Returns
    -------
    ndarray of uint64, shape (n,)
        The stream read as little-endian integers, the same on every machine.
    """
    return prg(seed, 8 * n, counter).view("<u8").astype(np.uint64, copy=False)


def secure_permutation(n: int, seed: bytes | None = None) -> NDArray[np.int64]:
    """Draw a uniformly random permutation of ``0..n-1`` from a CSPRNG.

    Every position gets a 64-bit key and the positions are sorted by key. If two keys are equal
    (probability below n²/2^65) all keys are drawn again, so each permutation is equally likely.

    Parameters
    ----------
    n : int
        Length, 0 or more.
    seed : bytes, optional
        16 or 32 secret bytes that fix the permutation. Default: fresh from the system.

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    InputError
        If ``n`` is negative.
    KeyMaterialError
        If the seed has another length.
    """
    if n < 0:
        raise InputError("the length of a permutation is negative.")
    key = secrets.token_bytes(32) if seed is None else _check_seed(seed, "the permutation seed")
    counter = 0
    while True:
        keys = prg_u64(key, n, counter)
        order = np.argsort(keys)
        ordered = keys[order]
        if not np.any(ordered[1:] == ordered[:-1]):
            return order.astype(np.int64, copy=False)
        counter += 1


def keyed_hashes(
    key: bytes, items: Iterable[bytes], size: int, person: bytes = b""
) -> NDArray[np.uint8]:
    """Hash many byte strings under one key with BLAKE2b.

    Parameters
    ----------
    key : bytes
        1 to 64 secret bytes.
    items : iterable of bytes
        What is hashed, of any lengths.
    size : int
        Digest length in bytes, 1 to 64.
    person : bytes, optional
        Up to 16 bytes that separate uses of the same key.

    Returns
    -------
    ndarray of uint8, shape (n, size)
        A read-only array, one digest per row in the order of ``items``.

    Raises
    ------
    KeyMaterialError
        If the key is empty or too long.
    InputError
        If ``size`` or ``person`` is out of range.
    """
    if not 1 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise KeyMaterialError("a BLAKE2b key must have 1 to 64 bytes.")
    if not 1 <= size <= hashlib.blake2b.MAX_DIGEST_SIZE:
        raise InputError("a BLAKE2b digest must have 1 to 64 bytes.")
    if len(person) > hashlib.blake2b.PERSON_SIZE:
        raise InputError("a BLAKE2b personalisation must have at most 16 bytes.")
    # The key fills a block of its own; copying the state after it halves the work per item.
    fresh = hashlib.blake2b(digest_size=size, key=key, person=person).copy
    digests: list[bytes] = []
    append = digests.append
    for item in items:
        state = fresh()
        state.update(item)
        append(state.digest())
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), size)


class _AesPermutation:
    """AES under one key, applied to independent 16-byte blocks (ECB).

    This is a permutation of blocks, the building stone of hashes and oblivious pseudorandom
    functions; it is no encryption of data.

    Parameters
    ----------
    key : bytes
        16 or 32 bytes.

    Raises
    ------
    KeyMaterialError
        If the key has another length.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes) -> None:
        cipher = Cipher(algorithms.AES(_check_seed(key, "the AES key")), modes.ECB())
        # ECB has no state between blocks, so one context serves every call.
        self._encryptor = cipher.encryptor()

    def __repr__(self) -> str:
        return "_AesPermutation()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AES context holds a key and is never pickled")

    def __call__(self, blocks: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Permute every block.

        Parameters
        ----------
        blocks : ndarray of uint64, shape (n, 2)
            The inputs, each block as two little-endian words.

        Returns
        -------
        ndarray of uint64, shape (n, 2)
            A fresh array.

        Raises
        ------
        InputError
            If the blocks have another shape or type.
        """
        if blocks.dtype != np.uint64 or blocks.ndim != 2 or blocks.shape[1] != 2:
            raise InputError("AES blocks must be a uint64 array of shape (n, 2).")
        data = np.ascontiguousarray(blocks)
        # The library asks for room for almost one block more than it writes.
        out = np.empty(data.size + 2, np.uint64)
        if data.size:
            self._encryptor.update_into(data.data.cast("B"), out.data.cast("B"))
        return out[: data.size].reshape(-1, 2)


def aes_permute(key: bytes, blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply AES under one key to every 16-byte block (a permutation, no encryption of data).

    Parameters
    ----------
    key : bytes
        16 or 32 bytes.
    blocks : ndarray of uint8, shape (n, 16)
        The inputs.

    Returns
    -------
    ndarray of uint8, shape (n, 16)
        A fresh, contiguous array.

    Raises
    ------
    KeyMaterialError
        If the key has another length.
    InputError
        If the blocks have another shape or type.
    """
    if blocks.dtype != np.uint8 or blocks.ndim != 2 or blocks.shape[1] != 16:
        raise InputError("AES blocks must be a uint8 array of shape (n, 16).")
    words = np.ascontiguousarray(blocks).view(np.uint64)
    return _AesPermutation(key)(words).view(np.uint8)


class TweakedHash:
    """Hash 16-byte blocks under a tweak: ``H(x, i) = π(π(x) ⊕ i) ⊕ π(x)`` (TMMO).

    Parameters
    ----------
    key : bytes
        The key of the permutation π, 16 or 32 bytes. It may be public, but is fixed before the
        inputs are chosen.
    """

    __slots__ = ("_permute",)

    def __init__(self, key: bytes) -> None:
        self._permute = _AesPermutation(key)

    def __repr__(self) -> str:
        return "TweakedHash()"

    def __call__(self, blocks: NDArray[np.uint64], first_tweak: int) -> NDArray[np.uint64]:
        """Hash blocks under consecutive tweaks.

        Parameters
        ----------
        blocks : ndarray of uint64, shape (n, 2)
            The inputs. Some thousand at a time stay in the cache and are fastest.
        first_tweak : int
            Block ``j`` has the tweak ``first_tweak + j``; all are below 2**64.

        Returns
        -------
        ndarray of uint64, shape (n, 2)

        Raises
        ------
        InputError
            If the blocks or the tweaks are out of range.
        """
        n = len(blocks)
        if first_tweak < 0 or first_tweak + n > _U64_END:
            raise InputError("a hash tweak is outside 0..2^64-1.")
        inner = self._permute(blocks)
        tweaked = inner.copy()
        # Wraps only past the last tweak, which the check above rules out.
        tweaked[:, 0] ^= np.arange(n, dtype=np.uint64) + np.uint64(first_tweak)
        outer = self._permute(tweaked)
        outer ^= inner
        return outer
