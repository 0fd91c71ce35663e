"""An oblivious key-value store of 64-bit values: three sparse positions and a dense part per key.

A table ``S`` of about 1.3·n words encodes n pairs such that for every key

    value = S[h0] ⊕ S[h1] ⊕ S[h2] ⊕ ⟨r, dense part⟩

with three slots ``h`` and a 64-bit vector ``r`` that a seed and the key determine. Keys are placed
by peeling the hypergraph of slots (Botelho, Pagh and Ziviani, WADS 2007). The few keys that peeling
leaves (a *2-core*, usually empty) are solved by Gaussian elimination over the 64 dense words, the
3H-GCT construction of Garimella, Pinkas, Rosulek, Trieu and Yanai, "Oblivious Key-Value Stores and
Amplification for Private Set Intersection" (CRYPTO 2021, ePrint 2021/883).

Free words are filled at random: when the values are uniform, the table is uniform and tells nothing
of the keys. Up to 24 core keys are accepted, so that they depend on each other with probability at
most 2^-40; the table's size makes a larger core improbable, and then a new seed is drawn.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.cm20 import permuted
from fedcredit.crypto.prg import prg, prg_u64
from fedcredit.errors import CiphertextError, CryptoError, InputError

__all__ = ["DENSE_WORDS", "Okvs", "decode", "encode", "segment_size", "table_words"]

DENSE_WORDS = 64
SEED_BYTES = 16

_MAX_CORE = DENSE_WORDS - 40
_MAX_TRIES = 16
_MAX_KEYS = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class Okvs:
    """An encoded table.

    Attributes
    ----------
    seed : bytes
        16 public bytes that place the keys.
    n_keys : int
        How many pairs are encoded.
    table : ndarray of uint64, shape (table_words(n_keys),)
    """

    seed: bytes
    n_keys: int
    table: NDArray[np.uint64]

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES or not 0 <= self.n_keys <= _MAX_KEYS:
            raise CiphertextError("a key-value store has a malformed head.")
        if self.table.dtype != np.uint64 or self.table.shape != (table_words(self.n_keys),):
            raise CiphertextError("a key-value store has the wrong size for its keys.")

    def __repr__(self) -> str:
        return f"Okvs(n_keys={self.n_keys})"


def segment_size(n_keys: int) -> int:
    """Return the words of each of the three segments of a table.

    1.3·n words are far enough above the peeling threshold of 1.222·n for large n; the term in
    √n covers the fluctuation of small tables.
    """
    return -(-13 * n_keys // 30) + int(2.0 * n_keys**0.5) + 8


def table_words(n_keys: int) -> int:
    """Return the words of a whole table: three segments and the dense part."""
    return 3 * segment_size(n_keys) + DENSE_WORDS


def _places(seed: bytes, keys: NDArray[np.uint64], segment: int) -> tuple[Any, Any]:
    """Return the slots, uint32 of shape (n, 3), and the dense vectors, uint64 of shape (n,)."""
    if keys.dtype != np.uint64 or keys.ndim != 2 or keys.shape[1] != 2:
        raise InputError("keys must be a uint64 array of shape (n, 2).")
    both = prg(seed, 2 * SEED_BYTES).tobytes()
    sparse = permuted(both[:SEED_BYTES], keys).view("<u4").reshape(-1, 4)[:, :3].astype(np.uint64)
    slots = ((sparse * np.uint64(segment)) >> np.uint64(32)).astype(np.uint32)
    slots += np.arange(3, dtype=np.uint32) * np.uint32(segment)
    return slots, np.ascontiguousarray(permuted(both[SEED_BYTES:], keys)[:, 0])


@nb.njit(cache=True, nogil=True)
def _peel(slots, n_words):  # type: ignore[no-untyped-def]
    """Peel keys that own a slot; return the keys and slots in that order, and how many."""
    n = slots.shape[0]
    degree = np.zeros(n_words, np.uint32)
    mixed = np.zeros(n_words, np.uint32)
    for i in range(n):
        for j in range(3):
            degree[slots[i, j]] += np.uint32(1)
            mixed[slots[i, j]] ^= np.uint32(i)
    stack = np.empty(n_words, np.uint32)
    top = 0
    for slot in range(n_words):
        if degree[slot] == 1:
            stack[top] = slot
            top += 1
    keys = np.empty(n, np.uint32)
    owned = np.empty(n, np.uint32)
    done = 0
    while top > 0:
        top -= 1
        slot = stack[top]
        if degree[slot] != 1:
            continue
        i = mixed[slot]
        keys[done] = i
        owned[done] = slot
        done += 1
        for j in range(3):
            other = slots[i, j]
            degree[other] -= np.uint32(1)
            mixed[other] ^= np.uint32(i)
            if degree[other] == 1:
                stack[top] = other
                top += 1
    return keys[:done], owned[:done]


@nb.njit(cache=True, nogil=True)
def _dot(vector, words):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for bit in range(64):
        if (vector >> np.uint64(bit)) & np.uint64(1):
            total ^= words[bit]
    return total


@nb.njit(cache=True, nogil=True)
def _fill(slots, dense, values, keys, owned, table):  # type: ignore[no-untyped-def]
    """Set the owned slots in the reverse order of peeling."""
    tail = table[table.shape[0] - 64 :]
    for at in range(keys.shape[0] - 1, -1, -1):
        i = keys[at]
        value = values[i] ^ _dot(dense[i], tail)
        for j in range(3):
            if slots[i, j] != owned[at]:
                value ^= table[slots[i, j]]
        table[owned[at]] = value


@nb.njit(cache=True, nogil=True)
def _look_up(slots, dense, table, out):  # type: ignore[no-untyped-def]
    tail = table[table.shape[0] - 64 :]
    for i in range(slots.shape[0]):
        out[i] = table[slots[i, 0]] ^ table[slots[i, 1]] ^ table[slots[i, 2]] ^ _dot(dense[i], tail)


def _solve_dense(vectors: list[int], wanted: list[int], words: list[int]) -> list[int] | None:
    """Change ``words`` so that every ``⟨vector, words⟩`` is as wanted, or return None.

    Gauss-Jordan elimination over GF(2); words without a pivot keep their random value.
    """
    pivots: dict[int, tuple[int, int]] = {}
    for vector, value in zip(vectors, wanted, strict=True):
        for bit, (row, known) in pivots.items():
            if vector >> bit & 1:
                vector, value = vector ^ row, value ^ known
        if vector == 0:
            return None
        pivot = vector.bit_length() - 1
        for bit, (row, known) in pivots.items():
            if row >> pivot & 1:
                pivots[bit] = (row ^ vector, known ^ value)
        pivots[pivot] = (vector, value)
    solved = list(words)
    for pivot, (row, value) in pivots.items():
        for bit in range(DENSE_WORDS):
            if bit not in pivots and row >> bit & 1:
                value ^= words[bit]
        solved[pivot] = value
    return solved


def encode(keys: NDArray[np.uint64], values: NDArray[np.uint64]) -> Okvs:
    """Encode pairs into a fresh table.

    Parameters
    ----------
    keys : ndarray of uint64, shape (n, 2)
        Distinct keys.
    values : ndarray of uint64, shape (n,)
        Their values; they must be uniform to whoever gets the table.

    Returns
    -------
    Okvs

    Raises
    ------
    InputError
        If the shapes do not fit.
    CryptoError
        If no seed works: the keys are not distinct.
    """
    n = len(keys)
    if values.dtype != np.uint64 or values.shape != (n,):
        raise InputError("values must be a uint64 array with one value per key.")
    segment = segment_size(n)
    for _ in range(_MAX_TRIES):
        seed = secrets.token_bytes(SEED_BYTES)
        slots, dense = _places(seed, keys, segment)
        order, owned = _peel(slots, 3 * segment)
        core = np.setdiff1d(np.arange(n), order, assume_unique=True) if len(order) < n else ()
        if len(core) > _MAX_CORE:
            continue
        table = prg_u64(secrets.token_bytes(32), table_words(n))
        if len(core):
            residues = values[core].copy()
            for j in range(3):
                residues ^= table[slots[core, j]]
            solved = _solve_dense(
                dense[core].tolist(), residues.tolist(), table[-DENSE_WORDS:].tolist()
            )
            if solved is None:
                continue
            table[-DENSE_WORDS:] = np.array(solved, np.uint64)
        _fill(slots, dense, values, order, owned, table)
        return Okvs(seed, n, table)
    raise CryptoError(
        "the key-value store cannot be built.", fix="check that all keys are distinct"
    )


def decode(store: Okvs, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Look keys up.

    Parameters
    ----------
    store : Okvs
        The table.
    keys : ndarray of uint64, shape (n, 2)
        Any keys.

    Returns
    -------
    ndarray of uint64, shape (n,)
        The encoded value, or for a key that was not encoded a word that looks random.

    Raises
    ------
    InputError
        If the keys have another shape.
    """
    slots, dense = _places(store.seed, keys, segment_size(store.n_keys))
    out = np.empty(len(keys), np.uint64)
    _look_up(slots, dense, store.table, out)
    return out
