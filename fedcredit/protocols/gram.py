"""The Gram matrix ``Σ_i w_i x_i x_iᵀ`` over the columns of all parties, for the label holder.

The blocks are [label holder | provider 1 | provider 2 | ...]. With weight 1 it gives correlations
and variance inflation, with ``p (1 - p)`` the information matrix of a logistic regression::

    label holder                                       provider k
      GramStart{rows, sizes, weighted?}      ------->

      label holder x label holder: in the clear, at the label holder

      provider k x provider k
        weighted: Enc(w)                     ------->  inner products with x_f x_g
                                             <-------  encrypted sums
        unweighted:                          <-------  GramOwn{block}

      label holder x provider k, for each of its columns h
        Enc(w x_h)                           ------->  inner products with x_f
                                             <-------  encrypted sums

      provider j x provider k, j < k, weighted
        GramSeed{seed of masks m}            ------->  k
                                                       k: GramAngles{a + m, sealed} ------->  j
        Enc(w cos m), Enc(w sin m)           ------->  j: inner products with x_f sin(a + m),
                                             <-------     -x_f cos(a + m)

      provider j x provider k, unweighted; r, s are masks known to all providers
                                             <-------  GramMasked{x + r} of j, {y + s} of k
                                             <-------  GramCorrection{Σ x s + zero share} of j,
                                                                     {Σ r y + r s + zero share} of k
      Σ x y = Σ (x + r)(y + s) - corrections, modulo 2^64

What each role learns:

=============  ==========================================================================
role           learns
=============  ==========================================================================
label holder   the matrix and nothing beside it: correlations, and weighted means and
               (co)variances, of columns without names. Columns of a provider count in units
               of their root mean square, so no variance is told by itself (an unweighted
               diagonal is n), no scale and no largest value. A provider that rotates its
               columns before shows the matrix in a basis of its own.
               Each column of the label holder, and each further matrix with other
               weights, is a set of equations about every provider's columns:
               ``max_own_columns`` at the provider limits the former, whoever calls this
               counts the latter
provider       the number of rows, of every party's columns, and whether there are weights;
               nothing about weights and columns of others: what it sees of them is
               encrypted or uniform
hub            lengths; columns between providers are sealed, since the label holder knows
               their masks
=============  ==========================================================================

All parties are semi-honest and do not collude. A label holder that colludes with a provider j
learns from the angles the columns of k, and in the unweighted case with any provider the columns
of all.

Entries are off by independent rounding errors (:mod:`fedcredit.protocols.gram_scales`). Measured
with `gram_profile`, relative to ``n max(w)`` with all columns in units of root mean square: label
holder by provider 1e-6, weighted blocks of providers 5e-5 at 150,000 rows, unweighted ones 1e-7.

Sources: the encrypted inner products are those of :mod:`fedcredit.protocols.encrypted_sums`; the
masked products of two vectors are D. Beaver, "Efficient Multiparty Protocols Using Circuit
Randomization", CRYPTO 1991, and W. Du and M. Atallah, "Protocols for Secure Remote Database Access
with Approximate Matching", 2001; masks on angles use nothing but the addition theorem.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.protocols.encrypted_sums import SumClient
from fedcredit.protocols.gram_messages import (
    GramCorrection,
    GramMasked,
    GramOwn,
    GramSeed,
    GramStart,
)
from fedcredit.protocols.gram_scales import (
    GramScales,
    angle_masks,
    cross_pairs,
    exact_bits,
    gram_profile,
    own_pairs,
    pair_groups,
)
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.wire import Peers

__all__ = ["gram_label_holder", "gram_profile"]

_STEP = "gram matrix"
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Pass:
    """One encrypted request: rows (V, n) to ``names``, and where each one's sums belong."""

    names: tuple[str, ...]
    rows: F64
    largest: float
    sums: tuple[int, ...]
    scale: float
    fold: Callable[[str, F64], None]


async def gram_label_holder(
    peers: Peers,
    client: SumClient,
    own: F64,
    weight: F64 | None,
    sizes: Sequence[int],
    *,
    on_progress: Progress = ignore,
) -> F64:
    """Learn the joint Gram matrix.

    Parameters
    ----------
    peers : Peers
        Exactly the providers, in the order of the job.
    client : SumClient
        Opened with these providers and with `gram_profile` (n).
    own : ndarray of float64, shape (n, d0)
        The label holder's columns; ``d0`` may be 0.
    weight : ndarray of float64, shape (n,), or None
        Row weights, not all zero; None for weight 1, which is cheaper and more exact.
    sizes : sequence of int
        Columns of each provider.
    on_progress : callable
        Called with (step, done, total) after every encrypted request.

    Returns
    -------
    ndarray of float64, shape (D, D)
        Symmetric, with ``D = d0 + sum(sizes)``; the label holder's columns in their units, those
        of providers in units of their root mean square.

    Raises
    ------
    InputError
        If an argument does not fit.
    PeerProtocolError
        If a provider breaks the protocol.
    """
    _check(peers, own, weight, sizes)
    scales = GramScales.of(client.profile, len(own))
    holder = _Holder(peers, client, own, weight, tuple(sizes), scales)
    await peers.broadcast(GramStart(len(own), own.shape[1], tuple(sizes), weight is not None))
    await holder.run_passes(on_progress)
    if weight is None:
        await holder.receive_own()
        await holder.receive_cross()
    return holder.matrix


class _Holder:
    """The matrix while it is filled."""

    def __init__(
        self,
        peers: Peers,
        client: SumClient,
        own: F64,
        weight: F64 | None,
        sizes: tuple[int, ...],
        scales: GramScales,
    ) -> None:
        self._peers, self._client, self._scales = peers, client, scales
        self._own, self._weight, self._sizes = own, weight, sizes
        cuts = np.cumsum([own.shape[1], *sizes])
        self._blocks = {
            name: slice(int(first), int(last))
            for name, first, last in zip(peers, cuts[:-1], cuts[1:], strict=True)
        }
        self.matrix: F64 = np.zeros((int(cuts[-1]), int(cuts[-1])))
        d = own.shape[1]
        block = own.T @ (own if weight is None else own * weight[:, None])
        self.matrix[:d, :d] = (block + block.T) / 2

    # --------------------------------------------------------------------- encrypted passes

    async def run_passes(self, on_progress: Progress) -> None:
        """Send every request one ahead of the answers, so that providers do not wait."""
        waiting: list[tuple[_Pass, float]] = []
        seeds = await self._send_seeds()
        total = self._count()
        for done, one in enumerate(self._passes(seeds)):
            values, unit = self._scales.values(one.rows, one.largest)
            await self._client.request(_subset(self._peers, one.names), values)
            waiting.append((one, unit))
            if len(waiting) > 1:
                await self._collect(*waiting.pop(0))
            on_progress(_STEP, done + 1, total)
        for one, unit in waiting:
            await self._collect(one, unit)

    async def _collect(self, one: _Pass, unit: float) -> None:
        for name, count in zip(one.names, one.sums, strict=True):
            sums = await self._client.collect_dense(self._peers[name], count)
            products: F64 = sums * np.float64(unit / one.scale)
            one.fold(name, products)

    async def _send_seeds(self) -> dict[str, bytes]:
        """Give every provider but the first one the seed of its masks, if there are weights."""
        if self._weight is None:
            return {}
        seeds = {name: secrets.token_bytes(32) for name in tuple(self._peers)[1:]}
        for name, seed in seeds.items():
            await self._peers[name].send(GramSeed(seed))
        return seeds

    def _count(self) -> int:
        own = sum(len(pair_groups(size)) for size in self._sizes)
        masked = sum(self._sizes[1:])
        return self._own.shape[1] + (0 if self._weight is None else own + masked)

    def _passes(self, seeds: dict[str, bytes]) -> Iterator[_Pass]:
        if self._weight is not None:
            yield from self._own_passes(self._weight)
        yield from self._label_passes()
        if self._weight is not None:
            yield from self._angle_passes(self._weight, seeds)

    def _own_passes(self, weight: F64) -> Iterator[_Pass]:
        for name, size in zip(self._peers, self._sizes, strict=True):
            first, second = own_pairs(size)
            start = self._blocks[name].start
            for group in pair_groups(size):
                at = start + first[group], start + second[group]

                def fold(_: str, sums: F64, at: tuple[NDArray[np.int64], ...] = at) -> None:
                    self.matrix[at] = self.matrix[at[::-1]] = sums

                count = len(first[group])
                largest, scale = _largest(weight), self._scales.product
                yield _Pass((name,), weight[None], largest, (count,), scale, fold)

    def _label_passes(self) -> Iterator[_Pass]:
        for column in range(self._own.shape[1]):
            rows = (
                self._own[:, column]
                if self._weight is None
                else self._weight * self._own[:, column]
            )
            names, scale = tuple(self._peers), self._scales.column
            yield _Pass(names, rows[None], _largest(rows), self._sizes, scale, self._into(column))

    def _angle_passes(self, weight: F64, seeds: dict[str, bytes]) -> Iterator[_Pass]:
        names = tuple(self._peers)
        largest = self._scales.bound * _largest(weight)
        for place in range(1, len(names)):
            for column in range(self._sizes[place]):
                masks = angle_masks(seeds[names[place]], column, len(weight))
                yield _Pass(
                    names[:place],
                    self._scales.mask_rows(weight, masks),
                    largest,
                    self._sizes[:place],
                    self._scales.column,
                    self._into(self._blocks[names[place]].start + column),
                )

    def _into(self, column: int) -> Callable[[str, F64], None]:
        def fold(name: str, sums: F64) -> None:
            block = self._blocks[name]
            self.matrix[column, block] = self.matrix[block, column] = sums

        return fold

    # --------------------------------------------------------------------- without weights

    async def receive_own(self) -> None:
        """Receive the providers' own blocks."""
        n = len(self._own)
        for (name, peer), size in zip(self._peers.items(), self._sizes, strict=True):
            block = (await peer.recv(GramOwn)).products
            # No product of two columns of mean square 1 is beyond n.
            if (
                block.shape != (size, size)
                or not (np.abs(block) <= n * (1 + 1e-9)).all()
                or not np.array_equal(block, block.T)
            ):
                raise PeerProtocolError(
                    "the own block of a Gram matrix has an impossible shape or value.",
                    party=name,
                    step=_STEP,
                )
            self.matrix[self._blocks[name], self._blocks[name]] = block

    async def receive_cross(self) -> None:
        """Receive masked columns and corrections, and with them the products across providers."""
        n, names = len(self._own), tuple(self._peers)
        if len(names) < 2:
            return
        columns = {}
        for name, size in zip(names, self._sizes, strict=True):
            columns[name] = np.empty((size, n), np.uint64)
            for row in columns[name]:
                values = (await self._peers[name].recv(GramMasked)).values
                if values.shape != row.shape:
                    raise PeerProtocolError(
                        "a masked column has another number of rows.", party=name, step=_STEP
                    )
                row[:] = values
        parts = [columns[names[j]] @ columns[names[k]].T for j, k in cross_pairs(len(names))]
        total = np.concatenate([part.reshape(-1) for part in parts])
        for name in names:
            values = (await self._peers[name].recv(GramCorrection)).values
            if values.shape != total.shape:
                raise PeerProtocolError(
                    "the corrections are not one per pair of columns.", party=name, step=_STEP
                )
            total -= values
        products = total.view(np.int64) * 4.0 ** -exact_bits(n)
        if not (np.abs(products) <= n * (1 + 1e-3)).all():
            raise PeerProtocolError(
                "the masks of the providers do not cancel.",
                step=_STEP,
                fix="run all parties with one version, in one session",
            )
        start = 0
        for j, k in cross_pairs(len(names)):
            shape = self._sizes[j], self._sizes[k]
            block = products[start : start + shape[0] * shape[1]].reshape(shape)
            start += block.size
            self.matrix[self._blocks[names[j]], self._blocks[names[k]]] = block
            self.matrix[self._blocks[names[k]], self._blocks[names[j]]] = block.T


def _largest(rows: F64) -> float:
    return float(np.abs(rows).max())


def _subset(peers: Peers, names: tuple[str, ...]) -> Peers:
    return peers if len(names) == len(peers) else Peers(names)


def _check(peers: Peers, own: F64, weight: F64 | None, sizes: Sequence[int]) -> None:
    if not len(peers) or len(sizes) != len(peers) or min(sizes) < 1:
        raise InputError(
            "a joint Gram matrix needs at least one provider and a column of each.", step=_STEP
        )
    if own.ndim != 2 or own.dtype != np.float64 or not len(own) or not np.isfinite(own).all():
        raise InputError(
            "the own columns must be a finite float64 array, rows by columns.",
            step=_STEP,
            fix="fill or drop missing values",
        )
    if weight is None:
        return
    if weight.shape != (len(own),) or weight.dtype != np.float64 or not np.isfinite(weight).all():
        raise InputError("the weights must be finite float64 numbers, one per row.", step=_STEP)
    if not np.any(weight):
        raise InputError("all weights are zero.", step=_STEP)
