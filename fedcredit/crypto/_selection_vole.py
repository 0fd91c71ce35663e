"""The correlation under the oblivious selection: VOLE columns, their check and the bit hash.

The protocol, its sources and what each side may learn are described in
`fedcredit.crypto.softspoken`; here is the arithmetic that both sides share. Vectors over F_16 are
bit planes, see `fedcredit.crypto._bitplanes`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from fedcredit.crypto import ggm
from fedcredit.crypto._bitplanes import fold_leaves, gf16_multiply
from fedcredit.crypto.prg import TweakedHash, prg_into

__all__ = [
    "BLOCK_ROWS",
    "COLUMNS",
    "HASH_BYTES",
    "PLANES",
    "SLOTS",
    "WIDTH",
    "Block",
    "Challenge",
    "Columns",
    "bit_hash",
    "blocks",
    "draw_delta",
    "proof_digest",
    "slot_offsets",
    "slot_planes",
    "times_planes",
]

SLOTS: Final = ggm.LEAVES
PLANES: Final = 4
COLUMNS: Final = ggm.TREES
WIDTH: Final = PLANES * COLUMNS
BLOCK_ROWS: Final = 1 << 16

# The rows that mask R·u fill four words of every plane: 256 bits, the output of two GHASHes.
_MASK_WORDS: Final = 4
HASH_BYTES: Final = 8 * _MASK_WORDS
_GHASH_BYTES: Final = 16
_NONCE: Final = bytes(12)
# So many rows at a time stay in the cache between the steps of a hash.
_CHUNK_ROWS: Final = 1 << 13


class Block(NamedTuple):
    """Where a block of rows is in its message.

    Attributes
    ----------
    row : int
        Its first row, counted from the message's first.
    data_words : int
        Words of each plane that hold rows.
    word : int
        Its first word in the message's planes.
    words : int
        Words of each plane with the masking rows.
    """

    row: int
    data_words: int
    word: int
    words: int


def blocks(n: int) -> Iterator[Block]:
    """Cut ``n`` rows into blocks.

    Parameters
    ----------
    n : int
        Rows of one message.

    Yields
    ------
    Block
    """
    word = 0
    for row in range(0, n, BLOCK_ROWS):
        data = -(-min(BLOCK_ROWS, n - row) // 64)
        yield Block(row, data, word, data + _MASK_WORDS)
        word += data + _MASK_WORDS


def draw_delta() -> NDArray[np.uint8]:
    """Draw the global secret Δ, 32 uniform elements of F_16."""
    drawn = np.frombuffer(secrets.token_bytes(COLUMNS), np.uint8)
    return (drawn & (SLOTS - 1)).astype(np.uint8)


class Columns:
    """The expanded seeds of one side, folded column by column into the VOLE.

    Parameters
    ----------
    seeds : ndarray of uint8, shape (32, 16, 16)
        One 16-byte seed per column and leaf.
    delta : ndarray of uint8, shape (32,), optional
        The sender's Δ; seed ``Δ_j`` of column ``j`` is unknown and counts as zero. The receiver
        knows all seeds and has none.
    """

    __slots__ = ("_masks", "_seeds")

    def __init__(self, seeds: NDArray[np.uint8], delta: NDArray[np.uint8] | None) -> None:
        unknown = [SLOTS] * COLUMNS if delta is None else delta.tolist()
        scalars = [0] * COLUMNS if delta is None else delta.tolist()
        self._seeds = [
            [None if x == unknown[j] else seeds[j, x].tobytes() for x in range(SLOTS)]
            for j in range(COLUMNS)
        ]
        ones = (1 << 64) - 1
        self._masks = [
            np.array([ones * (scalar >> bit & 1) for bit in range(PLANES)], np.uint64)
            for scalar in scalars
        ]

    def __repr__(self) -> str:
        return "Columns()"

    def fold(
        self, row: int, addend: NDArray[np.uint64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Expand and fold all columns for one block.

        Parameters
        ----------
        row : int
            The number of the block's first row in the session, which is the PRG counter.
        addend : ndarray of uint64, shape (4, words) or (128, words)
            What is added to every column's plain sum: one vector for all, or one for each.

        Returns
        -------
        total, value : ndarray of uint64, shape (128, words)
            ``Σ_x G_x + addend`` and ``Σ_x x·G_x + Δ_j·total`` of every column.
        """
        words = addend.shape[1]
        leaves = np.empty((SLOTS, PLANES, words), np.uint64)
        stream = leaves.view(np.uint8)
        total = np.empty((WIDTH, words), np.uint64)
        value = np.empty((WIDTH, words), np.uint64)
        for j in range(COLUMNS):
            for x, seed in enumerate(self._seeds[j]):
                if seed is None:
                    stream[x] = 0
                else:
                    prg_into(seed, stream[x], row)
            span = slice(PLANES * j, PLANES * (j + 1))
            own = addend if len(addend) == PLANES else addend[span]
            fold_leaves(leaves, own, self._masks[j], total[span], value[span])
        return total, value


class Challenge:
    """The random F_2-linear map R of one block, keyed by a hash of all that was sent before it.

    Parameters
    ----------
    transcript : bytes
        Digest of the setup.
    row : int
        The number of the block's first row in the session.
    columns : ndarray of uint64, shape (128, words), C-contiguous
        The block of the correction.
    """

    def __init__(self, transcript: bytes, row: int, columns: NDArray[np.uint64]) -> None:
        digest = hashlib.sha256(b"fedcredit-selection-v1-challenge" + transcript)
        digest.update(row.to_bytes(8, "big") + columns.shape[1].to_bytes(8, "big"))
        digest.update(columns.data.cast("B"))
        keys = digest.digest()
        self._ghash = AESGCM(keys[:_GHASH_BYTES]), AESGCM(keys[_GHASH_BYTES:])

    def image(self, planes: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Map bit planes to 256 bits each.

        Parameters
        ----------
        planes : ndarray of uint64, shape (k, words), C-contiguous
            The last four words of each are the masking rows.

        Returns
        -------
        ndarray of uint8, shape (k, 32)
        """
        octets = planes.view(np.uint8)
        zeros = bytes(octets.shape[1] - HASH_BYTES)
        data: list[bytes | memoryview] = [
            zeros,
            *(memoryview(plane[:-HASH_BYTES]) for plane in octets),
        ]
        # The tag over associated data alone is GHASH(data) plus a constant, the tag over zeros.
        tags = [ghash.encrypt(_NONCE, b"", row) for row in data for ghash in self._ghash]
        images = np.frombuffer(b"".join(tags), np.uint8).reshape(-1, HASH_BYTES)
        return images[1:] ^ images[0] ^ octets[:, -HASH_BYTES:]


def proof_digest(transcript: bytes, row: int, image: NDArray[np.uint8]) -> bytes:
    """Hash the image of all columns of one block.

    Parameters
    ----------
    transcript : bytes
        Digest of the setup.
    row : int
        The number of the block's first row in the session.
    image : ndarray of uint8, 128 × 32 entries
        ``R·V`` plane by plane.

    Returns
    -------
    bytes
        32 bytes.
    """
    data = b"fedcredit-selection-v1-proof" + transcript + row.to_bytes(8, "big")
    return hashlib.sha256(data + image.tobytes()).digest()


def bit_hash(
    hasher: TweakedHash, rows: NDArray[np.uint64], offsets: NDArray[np.uint64], first_tweak: int
) -> NDArray[np.uint8]:
    """Hash every row plus every offset to one bit.

    Parameters
    ----------
    hasher : TweakedHash
        The session's hash.
    rows : ndarray of uint64, shape (n, 2)
        The rows, ``n`` a multiple of 64.
    offsets : ndarray of uint64, shape (k, 2)
        What is added to all rows.
    first_tweak : int
        The tweak of the first row; the same for every offset.

    Returns
    -------
    ndarray of uint8, shape (k, n / 8)
        Packed, least significant bit first.
    """
    out = np.empty((len(offsets), len(rows) // 8), np.uint8)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = rows[start : start + _CHUNK_ROWS]
        place = slice(start // 8, (start + len(chunk)) // 8)
        for k, offset in enumerate(offsets):
            hashed = hasher(chunk ^ offset, first_tweak + start)
            out[k, place] = np.packbits(hashed[:, 0].astype(np.uint8) & 1, bitorder="little")
    return out


def slot_planes(slots: NDArray[np.uint8], words: int) -> NDArray[np.uint64]:
    """Write slot numbers as bit planes, with fresh uniform masking rows at the end.

    Parameters
    ----------
    slots : ndarray of uint8, shape (n,)
        0 to 15.
    words : int
        Words of each plane with the masking rows.

    Returns
    -------
    ndarray of uint64, shape (4, words)
    """
    planes = np.zeros((PLANES, 8 * words), np.uint8)
    for bit in range(PLANES):
        packed = np.packbits(slots >> bit & 1, bitorder="little")
        planes[bit, : len(packed)] = packed
    mask = np.frombuffer(secrets.token_bytes(PLANES * HASH_BYTES), np.uint8)
    planes[:, -HASH_BYTES:] = mask.reshape(PLANES, HASH_BYTES)
    return planes.view(np.uint64)


def times_planes(delta: NDArray[np.uint8], planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Multiply one vector over F_16 by every element of Δ.

    Parameters
    ----------
    delta : ndarray of uint8, shape (32,)
        Δ.
    planes : ndarray of uint8, shape (4, bytes)
        The vector as bit planes.

    Returns
    -------
    ndarray of uint8, shape (32, 4, bytes)
    """
    out = np.zeros((len(delta), *planes.shape), np.uint8)
    for j, scalar in enumerate(delta.tolist()):
        for bit in range(PLANES):
            product = gf16_multiply(scalar, 1 << bit)
            for plane in range(PLANES):
                out[j, plane] ^= planes[bit] * np.uint8(product >> plane & 1)
    return out


def slot_offsets(delta: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return ``x·Δ`` for every slot ``x`` in the layout of the rows.

    Parameters
    ----------
    delta : ndarray of uint8, shape (32,)
        Δ.

    Returns
    -------
    ndarray of uint64, shape (16, 2)
        Bits ``4·j`` to ``4·j + 3`` of entry ``x`` are ``x·Δ_j``.
    """
    products = [[gf16_multiply(x, scalar) for scalar in delta.tolist()] for x in range(SLOTS)]
    nibbles = np.array(products, np.uint8)
    packed = (nibbles[:, 0::2] | nibbles[:, 1::2] << 4).astype(np.uint8)
    return packed.view(np.uint64)
