"""Scores of a forest as sums of words: arithmetic of one party, and of who reads the sum.

A forest has T trees, padded to full depth, of L leaves each, and every party knows which leaves
of a tree its *own* splits leave reachable for a row. The one leaf that all parties leave reachable
is the row's. Nobody may learn which one it is; the institution is to learn the sum of the values
of these leaves alone. Every party makes one word mod 2^59 for every leaf of every tree::

    word = 0                                   where its own splits leave the leaf reachable
           uniform                             elsewhere
    platform, where reachable: (value of the leaf + rho of the tree) mod 2^31, tag bits zero

    slot of leaf l of tree t  =  l XOR shift(row, t)          the same at platform and providers

A word has 28 tag bits above 31 value bits. In the sum of all parties' words, the slot of the row's
leaf has tag zero and holds value + rho; every other slot is uniform. Of every tree exactly one slot
has tag zero, and these slots add up to the sum of the values, as the fresh random ``rho`` of the
trees add up to zero mod 2^31.

The caller adds shares of zero (so that a single party's words are uniform) and carries words to
the institution, encrypted under a key that no party of the sum holds.

=============  ==========================================================================
role           learns, from the sum of all words with their shares of zero
=============  ==========================================================================
institution    the sum of the leaf values in fixed point: two rows of equal leaves have equal
               sums. Not which leaf a tree contributed (its slot is uniform without the seed)
               nor a tree's value (uniform given the sum)
platform,      nothing: they see no words but their own
providers
=============  ==========================================================================

What this stands on: the institution does not know the seed, so it does not collude with platform
or a provider; a seed serves one request. Without the permutation the slot would be the leaf, and
without ``rho`` the slot would be the tree's value; both together tell the path of a row.

Errors: a slot of an unreachable leaf has tag zero by chance, with probability 2^-28 each
(:func:`failure_probability`); then, and if a party has permuted by another seed, a tree has not
exactly one slot of tag zero, and the row is flagged, to be asked for again with a new seed. Words
of another seed can leave exactly one slot in a small tree by chance, so in a forest of very few
trees the flag is no proof: the parties must agree on the request that the seed is derived from.

Source: one-time masks on a path that is split among parties, and a permutation by XOR with a
shared secret, as in the point-and-permute technique of D. Beaver, S. Micali, P. Rogaway, "The
Round Complexity of Secure Protocols" (STOC 1990). Randomness: AES in counter mode
(:mod:`fedcredit.crypto.prg`).
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from fedcredit.crypto.encscore_format import SLOTS, TAG_BITS, VALUE_BITS, WORD_MASK
from fedcredit.crypto.prg import prg, prg_into
from fedcredit.errors import InputError, KeyMaterialError

__all__ = [
    "MAX_DEPTH",
    "MAX_TREES",
    "ciphertexts_per_row",
    "failure_probability",
    "leaf_shifts",
    "pack_rows",
    "party_words",
    "platform_words",
    "read_words",
    "rows_per_ciphertext",
    "unpack_rows",
]

#: Splits between the root and a leaf at most; a shift then is one byte.
MAX_DEPTH: Final = 8
#: Trees of a served forest at most.
MAX_TREES: Final = 10_000

_STEP = "score trees"
_VALUE_MASK = np.uint64((1 << VALUE_BITS) - 1)
_VALUE_SHIFT = np.uint64(VALUE_BITS)

Words = npt.NDArray[np.uint64]
Reach = npt.NDArray[np.bool_]


# ------------------------------------------------------------------------------------ layout


def _check_shape(n_trees: int, n_leaves: int) -> None:
    if not 1 <= n_trees <= MAX_TREES:
        raise InputError(f"a forest has 1 to {MAX_TREES} trees.", step=_STEP)
    if not 1 <= n_leaves <= 1 << MAX_DEPTH or n_leaves & (n_leaves - 1):
        raise InputError(
            f"the leaves of a padded tree are a power of two up to {1 << MAX_DEPTH}.", step=_STEP
        )


def ciphertexts_per_row(n_trees: int, n_leaves: int) -> int:
    """Return how many ciphertexts the words of one row fill.

    The words of a row follow each other tree by tree. As a tree has a power of two of leaves and
    a ciphertext 4,096 slots, a tree never straddles two ciphertexts: 100 trees of 32
    leaves fill 3,200 slots of one, 100 trees of 256 leaves fill seven.

    Parameters
    ----------
    n_trees, n_leaves : int
        T and L.

    Raises
    ------
    InputError
        ``n_leaves`` is no power of two up to 256, or ``n_trees`` is out of range.
    """
    _check_shape(n_trees, n_leaves)
    return -(-n_trees * n_leaves // SLOTS)


def rows_per_ciphertext(n_trees: int, n_leaves: int) -> int:
    """Return how many rows share a ciphertext: 1 for a forest of more than half its slots.

    See :func:`ciphertexts_per_row` for the arguments.
    """
    _check_shape(n_trees, n_leaves)
    return max(1, SLOTS // (n_trees * n_leaves))


def pack_rows(words: Words, n_trees: int, n_leaves: int) -> Words:
    """Lay the words of rows out in ciphertexts.

    Parameters
    ----------
    words : ndarray of uint64, shape (n, T * L)
    n_trees, n_leaves : int
        T and L.

    Returns
    -------
    ndarray of uint64, shape (ciphertexts, SLOTS)
        ``ceil(n / rows_per_ciphertext)`` of them, or ``n * ciphertexts_per_row`` if a row fills
        more than one; slots without a word are zero at every party.

    Raises
    ------
    InputError
        ``words`` has another shape or type.
    """
    per_row = ciphertexts_per_row(n_trees, n_leaves)
    words = _checked_words(words, n_trees * n_leaves)
    n, width = words.shape
    shared = rows_per_ciphertext(n_trees, n_leaves)
    groups = -(-n // shared)
    out = np.zeros((groups, per_row * SLOTS), np.uint64)
    whole = n // shared
    out[:whole, : shared * width] = words[: whole * shared].reshape(whole, shared * width)
    if whole < groups:
        rest = words[whole * shared :].ravel()
        out[whole, : len(rest)] = rest
    return out.reshape(groups * per_row, SLOTS)


def unpack_rows(slots: Words, n_rows: int, n_trees: int, n_leaves: int) -> Words:
    """Take the words of rows out of ciphertexts; the inverse of :func:`pack_rows`.

    Parameters
    ----------
    slots : ndarray of uint64, shape (ciphertexts, SLOTS)
    n_rows, n_trees, n_leaves : int

    Returns
    -------
    ndarray of uint64, shape (n_rows, T * L)

    Raises
    ------
    InputError
        There are not as many ciphertexts as ``n_rows`` rows fill.
    """
    per_row = ciphertexts_per_row(n_trees, n_leaves)
    slots = _checked_words(slots, SLOTS)
    shared = rows_per_ciphertext(n_trees, n_leaves)
    groups = -(-n_rows // shared)
    if n_rows < 0 or len(slots) != groups * per_row:
        raise InputError("these are not the ciphertexts of that many rows.", step=_STEP)
    width = n_trees * n_leaves
    rows = slots.reshape(groups, per_row * SLOTS)[:, : shared * width]
    return np.ascontiguousarray(rows.reshape(groups * shared, width)[:n_rows])


def failure_probability(n_trees: int, n_leaves: int) -> float:
    """Bound the probability that an honest row is flagged: 2^-28 for each unreachable leaf."""
    _check_shape(n_trees, n_leaves)
    return n_trees * (n_leaves - 1) * 2.0**-TAG_BITS


# ------------------------------------------------------------------------------------- words


def leaf_shifts(seed: bytes, n_rows: int, n_trees: int, n_leaves: int) -> npt.NDArray[np.uint8]:
    """Expand a request's seed to the secret that permutes the leaves of every row and tree.

    Parameters
    ----------
    seed : bytes
        32 bytes that platform and providers share for this request and the institution lacks.
    n_rows, n_trees, n_leaves : int

    Returns
    -------
    ndarray of uint8, shape (n_rows, n_trees)
        Uniform below ``n_leaves``: leaf l is in slot ``l ^ shift``.

    Raises
    ------
    InputError, KeyMaterialError
        Shape or seed are out of range.
    """
    _check_shape(n_trees, n_leaves)
    _check_seed(seed)
    shifts = prg(seed, n_rows * n_trees).reshape(n_rows, n_trees)
    # A power of two divides 256, so the low bits of a uniform byte are uniform.
    shifts &= np.uint8(n_leaves - 1)
    return shifts


def party_words(reach: Reach, seed: bytes) -> Words:
    """Return a provider's words, without its share of zero.

    Parameters
    ----------
    reach : ndarray of bool, shape (n, T, L)
        Whether the party's own splits leave a leaf reachable.
    seed : bytes
        See :func:`leaf_shifts`. It serves one request only.

    Returns
    -------
    ndarray of uint64, shape (n, T * L)
        Below 2^59. They show which slots are reachable until a share of zero is added.

    Raises
    ------
    InputError
        ``reach`` has another shape or type.
    KeyMaterialError
        The seed does not have 32 bytes.
    """
    reach = _checked_reach(reach)
    n, n_trees, n_leaves = reach.shape
    shifts = leaf_shifts(seed, n, n_trees, n_leaves)
    words = _uniform((n, n_trees, n_leaves))
    _clear_reachable(reach, shifts, words)
    return words.reshape(n, n_trees * n_leaves)


def platform_words(reach: Reach, values: npt.NDArray[np.int64], seed: bytes) -> Words:
    """Return the platform's words, without its share of zero: a provider's, and the leaf values.

    Parameters
    ----------
    reach : ndarray of bool, shape (n, T, L)
        As for :func:`party_words`; of a leaf that ends above full depth at most one of its
        padded descendants is reachable.
    values : ndarray of int64, shape (T, L)
        Leaf values in fixed point; the sum over the trees of the largest magnitudes is below 2^30.
    seed : bytes

    Returns
    -------
    ndarray of uint64, shape (n, T * L)

    Raises
    ------
    InputError
        Shapes or types do not fit, or the values are too large.
    KeyMaterialError
        The seed does not have 32 bytes.
    """
    reach = _checked_reach(reach)
    n, n_trees, n_leaves = reach.shape
    values = np.ascontiguousarray(values)
    if values.shape != (n_trees, n_leaves) or values.dtype != np.int64:
        raise InputError("there is one int64 value per tree and leaf.", step=_STEP)
    limit = 1 << (VALUE_BITS - 1)
    # Each alone first, so that magnitudes and their sum cannot overflow.
    bounded = bool((values < limit).all() and (values > -limit).all())
    if not bounded or int(np.abs(values).max(axis=1).sum()) >= limit:
        raise InputError(
            "the leaf values are too large for their sum.",
            step=_STEP,
            fix="serve the forest with a smaller scale",
        )
    shifts = leaf_shifts(seed, n, n_trees, n_leaves)
    words = _uniform((n, n_trees, n_leaves))
    _place_values(reach, shifts, values, _tree_masks(n, n_trees), words)
    return words.reshape(n, n_trees * n_leaves)


def read_words(
    words: Words, n_trees: int, n_leaves: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Read the sums of all parties' words; the institution's part.

    Parameters
    ----------
    words : ndarray of uint64, shape (n, T * L)
        Sums over all parties mod 2^59, or mod 2^64, of which they are taken mod 2^59.
    n_trees, n_leaves : int
        T and L.

    Returns
    -------
    values : ndarray of int64, shape (n,)
        Sums of leaf values in fixed point, -2^30 to 2^30 - 1; 0 where not ok.
    ok : ndarray of bool, shape (n,)
        Whether every tree has exactly one slot of tag zero. A row that is not ok is asked for
        again, with another seed.

    Raises
    ------
    InputError
        ``words`` has another shape or type.
    """
    _check_shape(n_trees, n_leaves)
    words = _checked_words(words, n_trees * n_leaves)
    values = np.zeros(len(words), np.int64)
    ok = np.zeros(len(words), np.bool_)
    _read(words.reshape(-1, n_trees, n_leaves), values, ok)
    return values, ok


def _check_seed(seed: bytes) -> None:
    if not isinstance(seed, bytes) or len(seed) != 32:
        raise KeyMaterialError(
            "the seed of a request does not have 32 bytes.",
            step=_STEP,
            fix="derive it from the session's group seed and the request",
        )


def _checked_reach(reach: Reach) -> Reach:
    reach = np.asarray(reach)
    if reach.ndim != 3 or reach.dtype != np.bool_:
        raise InputError("reach is a bool array of shape (rows, trees, leaves).", step=_STEP)
    _check_shape(reach.shape[1], reach.shape[2])
    return np.ascontiguousarray(reach)


def _checked_words(words: Words, width: int) -> Words:
    words = np.asarray(words)
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != width:
        raise InputError(f"words are a uint64 array of shape (rows, {width}).", step=_STEP)
    return np.ascontiguousarray(words)


def _tree_masks(n_rows: int, n_trees: int) -> npt.NDArray[np.uint32]:
    """Draw ``rho``: uniform numbers per row and tree of which those of a row add up to zero."""
    rho = prg(secrets.token_bytes(32), 4 * n_rows * n_trees).view(np.uint32)
    rho = rho.reshape(n_rows, n_trees)
    # Zero mod 2^32, hence mod 2^31.
    rho[:, -1] = -rho[:, :-1].sum(axis=1, dtype=np.uint32)
    return rho


def _uniform(shape: tuple[int, ...]) -> Words:
    """Fill an array with uniform 64-bit integers, from a fresh key."""
    words = np.empty(shape, np.uint64)
    prg_into(secrets.token_bytes(32), words.reshape(-1).view(np.uint8))
    return words


@njit(cache=True, nogil=True)
def _clear_reachable(
    reach: npt.NDArray[np.bool_], shifts: npt.NDArray[np.uint8], words: npt.NDArray[Any]
) -> None:
    n, n_trees, n_leaves = words.shape
    for i in range(n):
        for t in range(n_trees):
            shift = shifts[i, t]
            for leaf in range(n_leaves):
                # No branch on what is reachable: that would show in the time.
                keep = np.uint64(reach[i, t, leaf]) - np.uint64(1)
                words[i, t, leaf ^ shift] &= keep & WORD_MASK


@njit(cache=True, nogil=True)
def _place_values(
    reach: npt.NDArray[np.bool_],
    shifts: npt.NDArray[np.uint8],
    values: npt.NDArray[np.int64],
    rho: npt.NDArray[np.uint32],
    words: npt.NDArray[Any],
) -> None:
    n, n_trees, n_leaves = words.shape
    for i in range(n):
        for t in range(n_trees):
            shift = shifts[i, t]
            for leaf in range(n_leaves):
                value = np.uint64(values[t, leaf] + np.int64(rho[i, t])) & _VALUE_MASK
                keep = np.uint64(reach[i, t, leaf]) - np.uint64(1)
                slot = leaf ^ shift
                words[i, t, slot] = (words[i, t, slot] & keep & WORD_MASK) | (value & ~keep)


@njit(cache=True, nogil=True)
def _read(
    words: npt.NDArray[np.uint64],
    values: npt.NDArray[np.int64],
    ok: npt.NDArray[np.bool_],
) -> None:
    n, n_trees, n_leaves = words.shape
    for i in range(n):
        total = np.uint64(0)
        single = True
        for t in range(n_trees):
            found = 0
            for slot in range(n_leaves):
                word = words[i, t, slot] & WORD_MASK
                if word >> _VALUE_SHIFT == 0:
                    found += 1
                    total += word
            single = single and found == 1
        if single:
            value = np.int64(total & _VALUE_MASK)
            values[i] = value - (np.int64(1) << VALUE_BITS) if value >> (VALUE_BITS - 1) else value
            ok[i] = True
