"""A provider's side of the joint Gram matrix; see :mod:`fedcredit.protocols.gram`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.prg import prg_u64
from fedcredit.errors import InputError, PeerProtocolError, PolicyError
from fedcredit.protocols.encrypted_sums import SumServer
from fedcredit.protocols.gram_messages import (
    GramAngles,
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
    dithered,
    exact_bits,
    own_pairs,
    pair_groups,
    unit_columns,
)
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.wire import Peers

__all__ = ["gram_provider"]

_STEP = "gram matrix"
_SEED_BYTES = 32
_PURPOSE = "gram matrix: angles"
_MAX_COLUMNS = 4096
F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]


async def gram_provider(
    peers: Peers,
    coordinator: str,
    participants: Sequence[str],
    me: str,
    server: SumServer,
    columns: F64,
    zero: ZeroShares,
    *,
    max_own_columns: int | None = None,
) -> F64:
    """Take part in a joint Gram matrix.

    Parameters
    ----------
    peers : Peers
        The label holder and the other providers.
    coordinator : str
        The label holder.
    participants : sequence of str
        All providers, this one among them, in the order of the job.
    me : str
        This provider's name.
    server : SumServer
        Opened with the label holder.
    columns : ndarray of float64, shape (n, d)
        Its columns, d at least 1; centre them for correlations, rotate them to hide a basis.
    zero : ZeroShares
        Of this session.
    max_own_columns : int, optional
        Columns that the label holder may have at most; default: half of the rows.

    Returns
    -------
    ndarray of float64, shape (d,)
        What each column was divided by, its root mean square; stays here.

    Raises
    ------
    InputError
        If an argument does not fit.
    PolicyError
        If the label holder has more columns than are allowed.
    PeerProtocolError
        If a peer breaks the protocol.
    """
    parts, scale = unit_columns(columns)
    place = _place(peers, coordinator, participants, me, zero)
    scales = GramScales.of(server.profile, parts.shape[1])
    start = await peers[coordinator].recv(GramStart)
    _check_start(start, parts, len(participants), place, coordinator)
    limit = parts.shape[1] // 2 if max_own_columns is None else max_own_columns
    if start.own_columns > limit:
        raise PolicyError(
            "the label holder asks for products with more columns than are allowed here.",
            party=coordinator,
            step=_STEP,
            fix="use fewer columns",
        )
    provider = _Provider(
        peers, coordinator, tuple(participants), place, server, parts, scales, zero
    )
    if start.weighted:
        await provider.send_angles()
        await provider.serve_own()
    await provider.serve_label_holder(start.own_columns)
    if start.weighted:
        await provider.serve_angles(start.sizes)
    else:
        await provider.send_own()
        await provider.send_masked(start.sizes)
    return scale


class _Provider:
    """One provider's columns (d, n) in units of root mean square, and what it does with them."""

    def __init__(
        self,
        peers: Peers,
        coordinator: str,
        names: tuple[str, ...],
        place: int,
        server: SumServer,
        parts: F64,
        scales: GramScales,
        zero: ZeroShares,
    ) -> None:
        self._peers, self._holder = peers, peers[coordinator]
        self._names, self._place = names, place
        self._server, self._scales, self._zero = server, scales, zero
        self._parts = parts

    async def _serve(self, columns: F64, tables: F64 | None = None) -> None:
        if tables is None:
            tables = np.ones((1, columns.shape[1]))
        await self._server.serve_dense(self._holder, columns, tables)

    async def serve_own(self) -> None:
        """Answer for the products of the own columns, a group of them at a time."""
        first, second = own_pairs(len(self._parts))
        for group in pair_groups(len(self._parts)):
            products = self._parts[first[group]] * self._parts[second[group]]
            await self._serve(dithered(products * self._scales.product))

    async def serve_label_holder(self, count: int) -> None:
        """Answer for each of the label holder's columns."""
        if count:
            columns = dithered(self._parts * self._scales.column)
        for _ in range(count):
            await self._serve(columns)

    # -------------------------------------------------------------------------- weighted

    async def send_angles(self) -> None:
        """Send the own columns as masked angles to all providers before this one."""
        if not self._place:
            return
        seed = (await self._holder.recv(GramSeed)).seed
        if len(seed) != _SEED_BYTES:
            raise PeerProtocolError(
                "the seed of the masks has another length.", party=self._holder.name, step=_STEP
            )
        for column, values in enumerate(self._parts):
            masked = self._scales.angles(values, angle_masks(seed, column, len(values)))
            data = masked.astype("<u4").tobytes()
            for name in self._names[: self._place]:
                await self._peers[name].send(GramAngles(self._zero.seal(name, data, _PURPOSE)))

    async def serve_angles(self, sizes: tuple[int, ...]) -> None:
        """Answer for every column of the providers after this one."""
        columns = self._parts * self._scales.column
        n = columns.shape[1]
        for name, size in list(zip(self._names, sizes, strict=True))[self._place + 1 :]:
            for _ in range(size):
                message = await self._peers[name].recv(GramAngles)
                data = self._zero.open(name, message.sealed, _PURPOSE)
                if len(data) != 4 * n:
                    raise PeerProtocolError(
                        "a column of angles has another number of rows.", party=name, step=_STEP
                    )
                angles = np.frombuffer(data, "<u4").astype(np.uint32, copy=False)
                await self._serve(columns, self._scales.tables(angles))

    # ------------------------------------------------------------------------ unweighted

    async def send_own(self) -> None:
        """Send the own block."""
        products = self._parts @ self._parts.T
        await self._holder.send(GramOwn((products + products.T) / 2))

    async def send_masked(self, sizes: tuple[int, ...]) -> None:
        """Send the own columns under masks, then what the masks add to the products."""
        if len(self._names) < 2:
            return
        n = self._parts.shape[1]
        fixed = np.rint(self._parts * 2.0 ** exact_bits(n)).astype(np.int64).view(np.uint64)
        seed = await self._zero.common(_SEED_BYTES)
        firsts = np.cumsum([0, *sizes])

        def masks(provider: int) -> U64:
            columns = range(int(firsts[provider]), int(firsts[provider + 1]))
            return np.stack([prg_u64(seed, n, column) for column in columns])

        own = masks(self._place)
        for values, mask in zip(fixed, own, strict=True):
            await self._holder.send(GramMasked(values + mask))
        parts: list[U64] = []
        for j, k in cross_pairs(len(sizes)):
            if self._place == j:
                parts.append(fixed @ masks(k).T)
            elif self._place == k:
                parts.append(masks(j) @ (fixed + own).T)
            else:
                parts.append(np.zeros((sizes[j], sizes[k]), np.uint64))
        total = np.concatenate([part.reshape(-1) for part in parts])
        await self._holder.send(GramCorrection(total + self._zero.u64(total.size)))


def _place(
    peers: Peers, coordinator: str, participants: Sequence[str], me: str, zero: ZeroShares
) -> int:
    names = sorted(participants)
    absent = [name for name in (coordinator, *participants) if name != me and name not in peers]
    if absent or me not in names or coordinator in names or tuple(names) != zero.names:
        raise InputError(
            "the label holder and the providers must be different parties of this session.",
            step=_STEP,
        )
    return list(participants).index(me)


def _check_start(
    start: GramStart, parts: F64, providers: int, place: int, coordinator: str
) -> None:
    size, n = parts.shape
    if (
        start.n_rows != n
        or len(start.sizes) != providers
        or not 1 <= min(start.sizes) <= max(start.sizes) <= _MAX_COLUMNS
        or start.sizes[place] != size
        or start.own_columns < 0
    ):
        raise PeerProtocolError(
            "the Gram matrix is for other rows or columns than agreed.",
            party=coordinator,
            step=_STEP,
        )
