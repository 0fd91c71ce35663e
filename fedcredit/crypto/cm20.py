"""Multi-point oblivious pseudorandom function of Chase and Miao (CRYPTO 2020, ePrint 2020/729).

The receiver holds ids, the sender a fresh key of width ``w``; afterwards the receiver knows the
function on its own ids and nothing else of it, the sender knows it everywhere and nothing of the
receiver's ids. Only symmetric cryptography is done per id.

::

    receiver: bit matrix D (m rows, w columns), all ones except
              D_c[v_c] = 0 for every own id, with v = F_k(H1(id)) in [m]^w
    receiver: A_c = G(r0_c)                         (r0_c, r1_c from base OT c)
    receiver → sender, per column:   Δ_c = G(r0_c) ⊕ G(r1_c) ⊕ D_c
    sender:   C_c = G(r0_c), or G(r1_c) ⊕ Δ_c if its OT choice s_c is 1; so C_c = A_c ⊕ s_c·D_c
    output:   receiver H2(A_1[v_1] ‖ … ‖ A_w[v_w]),  sender H2(C_1[v_1] ‖ … ‖ C_w[v_w])

On an id of the receiver all ``D_c[v_c]`` are 0 and both outputs agree. On any other id the sender's
row differs from everything the receiver can compute in at least 128 secret bits, except with
probability 2^-40 over all of the sender's ids (`fedcredit.crypto.cm20_parameters`).

Building blocks: F is AES-128 under one key per block of columns, applied to the 128-bit H1; G is
AES in counter mode; H1 and H2 are keyed BLAKE2b, with a key that both parties' coins made for this
run only. Security is against semi-honest parties, with H2 modelled as a random oracle.

The classes do no input or output: whoever runs the protocol moves the corrections.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn

import numba as nb
import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.cm20_parameters import Cm20Parameters
from fedcredit.crypto.prg import aes_permute, keyed_hashes, prg, prg_u64
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

__all__ = [
    "HASH_BYTES",
    "SEED_BYTES",
    "Cm20Receiver",
    "Cm20Sender",
    "hash_ids",
    "permuted",
]

HASH_BYTES = 16
SEED_BYTES = 16

_H1 = b"fedcredit cm20 1"
_H2 = b"fedcredit cm20 2"
# How many ids pass through the cache at a time.
_TILE = 1 << 15


def hash_ids(key: bytes, ids: list[bytes]) -> NDArray[np.uint64]:
    """Hash ids to 128 bits under the key of this run (H1).

    Parameters
    ----------
    key : bytes
        Made by both parties for this run, 16 to 64 bytes.
    ids : list of bytes
        Distinct ids.

    Returns
    -------
    ndarray of uint64, shape (n, 2)
        The digests as little-endian words.

    Raises
    ------
    KeyMaterialError
        If the key is shorter than 16 bytes or longer than 64.
    """
    if len(key) < SEED_BYTES:
        raise KeyMaterialError("the key of an id hash must have at least 16 bytes.")
    return keyed_hashes(key, ids, HASH_BYTES, _H1).view("<u8").astype(np.uint64, copy=False)


def permuted(key: bytes, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply AES under ``key`` to 128-bit hashes, uint64 of shape (n, 2)."""
    blocks = aes_permute(key, hashes.view(np.uint8).reshape(-1, HASH_BYTES))
    return blocks.view("<u8").astype(np.uint64, copy=False).reshape(-1, 2)


# Column by column: one column (128 kB at 2^20 rows) stays in the cache while the ids' positions
# stream past it, about three times as fast as id by id.
@nb.njit(cache=True, nogil=True)
def _mark(places, ones, log_rows, per_half):  # type: ignore[no-untyped-def]
    """Clear the ids' positions in every column of ``ones``."""
    low = np.uint64((1 << log_rows) - 1)
    six, one, in_word = np.uint64(6), np.uint64(1), np.uint64(63)
    for column in range(ones.shape[0]):
        half = column // per_half
        shift = np.uint64(log_rows * (column % per_half))
        for i in range(places.shape[0]):
            at = (places[i, half] >> shift) & low
            ones[column, at >> six] &= ~(one << (at & in_word))


@nb.njit(cache=True, nogil=True)
def _read(places, masks, bits, log_rows, per_half):  # type: ignore[no-untyped-def]
    """Shift the ids' bits of every column of ``masks`` into ``bits``."""
    low = np.uint64((1 << log_rows) - 1)
    six, one, in_word = np.uint64(6), np.uint64(1), np.uint64(63)
    for column in range(masks.shape[0]):
        half = column // per_half
        shift = np.uint64(log_rows * (column % per_half))
        for i in range(places.shape[0]):
            at = (places[i, half] >> shift) & low
            bit = np.uint8((masks[column, at >> six] >> (at & in_word)) & one)
            bits[i] = (bits[i] << 1) | bit


class _Side:
    """What both sides share: the hashed ids, the keys of F and the collected output bits."""

    def __init__(
        self,
        parameters: Cm20Parameters,
        hashes: NDArray[np.uint64],
        place_key: bytes,
        threads: int | None,
    ) -> None:
        if hashes.dtype != np.uint64 or hashes.ndim != 2 or hashes.shape[1] != 2:
            raise InputError("hashed ids must be a uint64 array of shape (n, 2).")
        if len(place_key) != SEED_BYTES:
            raise KeyMaterialError("the OPRF's position key must have 16 bytes.")
        self.parameters = parameters
        self._hashes = np.ascontiguousarray(hashes)
        self._block_keys = prg(place_key, SEED_BYTES * parameters.n_blocks).tobytes()
        self._bits = np.zeros((parameters.n_blocks, len(hashes)), np.uint8)
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="cm20")

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters}, n={len(self._hashes)})"

    def __reduce__(self) -> NoReturn:
        raise KeyMaterialError("the state of an OPRF run cannot be pickled.")

    def _tiles(self, block: int) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
        """Yield F of the ids for one block of columns, a cache-sized piece at a time."""
        key = self._block_keys[SEED_BYTES * block : SEED_BYTES * (block + 1)]
        for start in range(0, len(self._hashes), _TILE):
            piece = self._hashes[start : start + _TILE]
            yield slice(start, start + len(piece)), permuted(key, piece)

    def outputs(self, key: bytes, size: int) -> NDArray[np.uint8]:
        """Hash every id's collected bits (H2).

        Parameters
        ----------
        key : bytes
            The run's key, the same on both sides.
        size : int
            Bytes per output, 1 to 64.

        Returns
        -------
        ndarray of uint8, shape (n, size)
        """
        width = self.parameters.n_blocks

        def rows() -> Iterator[bytes]:
            # Turning the bits a piece at a time keeps both sides of the transposition in cache.
            for start in range(0, len(self._hashes), 4096):
                raw = self._bits[:, start : start + 4096].T.tobytes()
                for at in range(0, len(raw), width):
                    yield raw[at : at + width]

        return keyed_hashes(key, rows(), size, _H2)


class Cm20Receiver(_Side):
    """The side that sends masked columns and learns the function on its own ids only.

    Use it as a context manager: it owns worker threads.

    Parameters
    ----------
    parameters : Cm20Parameters
        Checked against both set sizes.
    hashes : ndarray of uint64, shape (n, 2)
        The receiver's hashed ids (`hash_ids`), all distinct.
    place_key : bytes
        16 fresh random bytes, the key of F; the sender gets it too.
    seeds : ndarray of uint8, shape (w, 2, 16)
        Both seeds of every base OT.
    threads : int, optional
        Worker threads; default up to 4.

    Raises
    ------
    InputError, KeyMaterialError
        If a shape or a length does not fit.
    """

    def __init__(
        self,
        parameters: Cm20Parameters,
        hashes: NDArray[np.uint64],
        place_key: bytes,
        seeds: NDArray[np.uint8],
        *,
        threads: int | None = None,
    ) -> None:
        if seeds.dtype != np.uint8 or seeds.shape != (parameters.width, 2, SEED_BYTES):
            raise KeyMaterialError("the receiver needs two 16-byte seeds for every column.")
        super().__init__(parameters, hashes, place_key, threads)
        self._seeds = seeds

    def corrections(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Make the masked columns, a group of blocks at a time.

        Later groups are computed by the worker threads while the caller sends the earlier ones.

        Yields
        ------
        first : int
            The group's first column.
        columns : ndarray of uint64, shape (columns of the group, m / 64)
            ``Δ``; uniform to whoever lacks one seed of every column.
        """
        pending: deque[tuple[int, Future[NDArray[np.uint64]]]] = deque()
        for group in self.parameters.groups():
            first = self.parameters.block_columns(group[0])[0]
            pending.append((first, self._pool.submit(self._make, group)))
            if len(pending) > self._threads:
                at, future = pending.popleft()
                yield at, future.result()
        while pending:
            at, future = pending.popleft()
            yield at, future.result()

    def _make(self, group: range) -> NDArray[np.uint64]:
        parameters = self.parameters
        log_rows, per_half = parameters.log_rows, parameters.per_half
        out = []
        for block in group:
            columns = parameters.block_columns(block)
            delta = np.full((len(columns), parameters.words), 2**64 - 1, np.uint64)
            masks = np.empty_like(delta)
            for row, column in enumerate(columns):
                masks[row] = prg_u64(self._seeds[column, 0].tobytes(), parameters.words)
            for where, places in self._tiles(block):
                _mark(places, delta, log_rows, per_half)
                _read(places, masks, self._bits[block, where], log_rows, per_half)
            delta ^= masks
            for row, column in enumerate(columns):
                delta[row] ^= prg_u64(self._seeds[column, 1].tobytes(), parameters.words)
            out.append(delta)
        return out[0] if len(out) == 1 else np.concatenate(out)


class Cm20Sender(_Side):
    """The side that knows the function everywhere.

    Use it as a context manager: it owns worker threads.

    Parameters
    ----------
    parameters : Cm20Parameters
        Checked against both set sizes.
    hashes : ndarray of uint64, shape (n, 2)
        The sender's hashed ids (`hash_ids`), all distinct.
    place_key : bytes
        The receiver's 16 bytes, the key of F.
    choices : ndarray of uint8 or bool, shape (w,)
        The choice bits of the base OTs; they are the sender's secret key.
    seeds : ndarray of uint8, shape (w, 16)
        The chosen seed of every base OT.
    threads : int, optional
        Worker threads; default up to 4.

    Raises
    ------
    InputError, KeyMaterialError
        If a shape or a length does not fit.
    """

    def __init__(
        self,
        parameters: Cm20Parameters,
        hashes: NDArray[np.uint64],
        place_key: bytes,
        choices: NDArray[np.uint8] | NDArray[np.bool_],
        seeds: NDArray[np.uint8],
        *,
        threads: int | None = None,
    ) -> None:
        if choices.shape != (parameters.width,) or np.any(choices > 1):
            raise KeyMaterialError("the sender needs one choice bit for every column.")
        if seeds.dtype != np.uint8 or seeds.shape != (parameters.width, SEED_BYTES):
            raise KeyMaterialError("the sender needs one 16-byte seed for every column.")
        super().__init__(parameters, hashes, place_key, threads)
        self._choices = choices.astype(np.uint64) * np.uint64(2**64 - 1)
        self._seeds = seeds
        self._groups = deque(parameters.groups())
        self._pending: deque[Future[None]] = deque()

    def absorb(self, first: int, corrections: NDArray[np.uint64]) -> None:
        """Take the next group of masked columns; the worker threads process it.

        Parameters
        ----------
        first : int
            The group's first column.
        corrections : ndarray of uint64, shape (columns of the group, m / 64)
            What `Cm20Receiver.corrections` made; not changed.

        Raises
        ------
        CiphertextError
            If it is not the group that comes next.
        """
        parameters = self.parameters
        if not self._groups:
            raise CiphertextError("more OPRF columns came than the parameters allow.")
        group = self._groups.popleft()
        start = parameters.block_columns(group[0])[0]
        stop = parameters.block_columns(group[-1])[-1] + 1
        if (
            first != start
            or corrections.dtype != np.uint64
            or corrections.shape != (stop - start, parameters.words)
        ):
            raise CiphertextError("a group of OPRF columns has the wrong place or shape.")
        while len(self._pending) > self._threads:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._take, group, start, corrections))

    def _take(self, group: range, start: int, corrections: NDArray[np.uint64]) -> None:
        parameters = self.parameters
        log_rows, per_half = parameters.log_rows, parameters.per_half
        for block in group:
            columns = parameters.block_columns(block)
            masks = np.empty((len(columns), parameters.words), np.uint64)
            for row, column in enumerate(columns):
                masks[row] = prg_u64(self._seeds[column].tobytes(), parameters.words)
                # All ones or zero instead of a branch: the same work for both choices.
                masks[row] ^= corrections[column - start] & self._choices[column]
            for where, places in self._tiles(block):
                _read(places, masks, self._bits[block, where], log_rows, per_half)

    def outputs(self, key: bytes, size: int) -> NDArray[np.uint8]:
        """Hash every id's collected bits (H2), once all columns are in.

        Parameters
        ----------
        key : bytes
            The run's key, the same on both sides.
        size : int
            Bytes per output, 1 to 64.

        Returns
        -------
        ndarray of uint8, shape (n, size)

        Raises
        ------
        CiphertextError
            If columns are missing.
        """
        if self._groups:
            raise CiphertextError("OPRF columns are missing.")
        while self._pending:
            self._pending.popleft().result()
        return super().outputs(key, size)
