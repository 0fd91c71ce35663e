"""Which way rows go at the splits of a data provider.

The label holder knows in which node a row is, the provider how each of its nodes splits. Nodes are
numbered by *slots* within a *lane*; a lane serves up to :data:`HIDDEN_SLOTS` nodes (of one tree and
level) when membership is hidden, :data:`OPEN_SLOTS` otherwise. One exchange answers any number of
lanes, each with one choice per row::

    label holder                                         provider
      SelectionOffer / SelectionSeeds       <------>      SelectionReply      once per job (hidden)

      SlotCorrection{masked slots}           ------->      hidden membership
      SlotMap{slots}                         ------->      open membership
      (which of the slots are whose, and how they split: the calling protocol's business)
                                            <-------      MaskedDirections / Directions

What each role learns:

=============  ======================================  =======================================
role           hidden membership                       open membership
=============  ======================================  =======================================
label holder   for each lane and row the direction at  the same
               the chosen slot if it is this
               provider's; nothing of other slots
provider       how many lanes and rows                 which rows share a node
=============  ======================================  =======================================

Hidden directions are fetched by 1-of-16 oblivious transfer; the sixteenth choice of every lane
means "none" and is never answered. The transfer's consistency check holds a malicious label
holder to one choice per row and lane; it may choose a slot that is not the row's own.

Sources: Roy, "SoftSpokenOT", CRYPTO 2022; Cheng et al., "SecureBoost", IEEE Intelligent Systems
2021 (open membership).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.softspoken import (
    Correction,
    SelectionAnswer,
    SelectionReceiver,
    SelectionSender,
)
from fedcredit.errors import PeerProtocolError
from fedcredit.protocols.blame import blamed_on
from fedcredit.wire import Message, Peer, U8x1, U8x2

__all__ = ["HIDDEN_SLOTS", "OPEN_SLOTS", "DirectionsClient", "DirectionsServer", "no_slot"]

BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]

#: Nodes per lane; one more choice means "none".
HIDDEN_SLOTS = 15
OPEN_SLOTS = 255

_STEP = "directions"
_LARGE = 1 << 30


def no_slot(hide_membership: bool) -> int:
    """Return the choice that means "in no node of this lane"."""
    return HIDDEN_SLOTS if hide_membership else OPEN_SLOTS


@dataclass(frozen=True, eq=False, repr=False)
class SelectionOffer(
    Message,
    kind="directions.offer",
    version=1,
    max_bytes=64 << 10,
    reveals="nothing: first flight of the oblivious transfers' set-up",
):
    """Label holder to provider: 128 base transfers, first flight."""

    data: bytes


@dataclass(frozen=True, eq=False, repr=False)
class SelectionReply(
    Message,
    kind="directions.reply",
    version=1,
    max_bytes=64 << 10,
    reveals="nothing: second flight of the oblivious transfers' set-up",
):
    """Provider to label holder: second flight."""

    data: bytes


@dataclass(frozen=True, eq=False, repr=False)
class SelectionSeeds(
    Message,
    kind="directions.seeds",
    version=1,
    max_bytes=64 << 10,
    reveals="nothing: last flight of the oblivious transfers' set-up",
):
    """Label holder to provider: last flight."""

    data: bytes


@dataclass(frozen=True, eq=False, repr=False)
class SlotCorrection(
    Message,
    kind="directions.correction",
    version=1,
    max_bytes=_LARGE,
    reveals="how many lanes and rows a level has; the slots themselves are masked",
):
    """Label holder to provider: the slot of every row of every lane, masked; 16 bytes per row."""

    lanes: int
    first_row: int
    n_rows: int
    columns: U8x2
    checks: U8x2


@dataclass(frozen=True, eq=False, repr=False)
class SlotMap(
    Message,
    kind="directions.map",
    version=1,
    max_bytes=_LARGE,
    reveals="which rows share a node (membership is open)",
):
    """Label holder to provider: ``slots`` (lanes, n), in the clear; 255 is none."""

    slots: U8x2


@dataclass(frozen=True, eq=False, repr=False)
class MaskedDirections(
    Message,
    kind="directions.masked",
    version=1,
    max_bytes=_LARGE,
    reveals="one direction bit per lane and row, for the chosen slot only",
):
    """Provider to label holder: one masked bit per row for each slot listed."""

    first_row: int
    n_rows: int
    slots: tuple[int, ...]
    pads: U8x2


@dataclass(frozen=True, eq=False, repr=False)
class Directions(
    Message,
    kind="directions.open",
    version=1,
    max_bytes=_LARGE,
    reveals="the direction of each row of the provider's nodes",
):
    """Provider to label holder: packed bits, shape (ceil(lanes * n / 8),); 1 is left."""

    bits: U8x1


class DirectionsClient:
    """The label holder's side towards one provider."""

    def __init__(self, peer: Peer, *, hide_membership: bool) -> None:
        self._peer = peer
        self._hide = hide_membership
        self._selection: SelectionReceiver | None = None
        self._shape: tuple[int, int] | None = None

    async def open(self, salt: bytes) -> None:
        """Set the transfers up; ``salt`` is unique to the job and the pair."""
        if not self._hide:
            return
        selection = SelectionReceiver(salt)
        await self._peer.send(SelectionOffer(selection.offer()))
        reply = await self._peer.recv(SelectionReply)
        with blamed_on(self._peer, _STEP):
            seeds = selection.finish(reply.data)
        await self._peer.send(SelectionSeeds(seeds))
        self._selection = selection

    async def commit(self, choices: ByteArray) -> None:
        """Send the slot of every row; shape (lanes, n)."""
        self._shape = (choices.shape[0], choices.shape[1])
        if self._selection is None:
            await self._peer.send(SlotMap(np.ascontiguousarray(choices)))
            return
        c = self._selection.correct(choices.reshape(-1))
        await self._peer.send(
            SlotCorrection(choices.shape[0], c.first_row, c.n_rows, c.columns, c.checks)
        )

    async def fetch(self, slots: Collection[int]) -> BoolArray:
        """Receive the directions, shape (lanes, n); False where the slot is not the provider's.

        Parameters
        ----------
        slots : collection of int
            The slots that the provider has to answer for, in any lane.

        Raises
        ------
        PeerProtocolError
            The answer is for other rows or slots. An unanswered slot would read as "right".
        CiphertextError
            The masked bits have another shape.
        """
        assert self._shape is not None
        size = self._shape[0] * self._shape[1]
        if self._selection is None:
            reply = await self._peer.recv(Directions)
            if reply.bits.size != -(-size // 8):
                raise PeerProtocolError(
                    "the directions do not cover the rows.", party=self._peer.name, step=_STEP
                )
            bits = np.unpackbits(reply.bits, count=size)
        else:
            masked = await self._peer.recv(MaskedDirections)
            if set(masked.slots) != set(slots):
                raise PeerProtocolError(
                    "the directions are for other nodes.", party=self._peer.name, step=_STEP
                )
            with blamed_on(self._peer, _STEP):
                bits = self._selection.select(
                    SelectionAnswer(masked.first_row, masked.n_rows, masked.slots, masked.pads)
                )
        return bits.reshape(self._shape).astype(np.bool_)


class DirectionsServer:
    """The provider's side."""

    def __init__(self, peer: Peer, *, hide_membership: bool, n_rows: int) -> None:
        self._peer = peer
        self._hide = hide_membership
        self._n = n_rows
        self._selection: SelectionSender | None = None
        self.slots: ByteArray | None = None
        self.lanes = 0

    async def open(self, salt: bytes) -> None:
        """Set the transfers up."""
        if not self._hide:
            return
        selection = SelectionSender(salt)
        offer = await self._peer.recv(SelectionOffer)
        with blamed_on(self._peer, _STEP):
            reply = selection.reply(offer.data)
        await self._peer.send(SelectionReply(reply))
        seeds = await self._peer.recv(SelectionSeeds)
        with blamed_on(self._peer, _STEP):
            selection.finish(seeds.data)
        self._selection = selection

    async def receive(self, lanes: int, *, n_rows: int | None = None) -> None:
        """Take the (masked) slots of a level of ``lanes`` lanes.

        Raises
        ------
        PeerProtocolError
            The message does not cover exactly these lanes and rows.
        CiphertextError
            The correction does not hold one slot per row and lane.
        """
        self._n = self._n if n_rows is None else n_rows
        self.lanes = lanes
        if self._selection is None:
            message = await self._peer.recv(SlotMap)
            if message.slots.shape != (lanes, self._n):
                self._refuse("the slot map does not cover the rows.")
            self.slots = message.slots
            return
        correction = await self._peer.recv(SlotCorrection)
        if correction.lanes != lanes or correction.n_rows != lanes * self._n:
            self._refuse("the correction does not cover the rows.")
        with blamed_on(self._peer, _STEP):
            self._selection.absorb(
                Correction(
                    correction.first_row, correction.n_rows, correction.columns, correction.checks
                )
            )

    async def answer(self, lanes: Sequence[Mapping[int, BoolArray]]) -> None:
        """Send the directions of this provider's slots.

        Parameters
        ----------
        lanes : sequence of mapping
            For each lane: slot number to the direction of every row (n,), true for left.
        """
        assert len(lanes) == self.lanes
        if self._selection is None:
            assert self.slots is not None
            out = np.zeros((self.lanes, self._n), np.bool_)
            for lane, owned in enumerate(lanes):
                for slot, left in owned.items():
                    here = self.slots[lane] == slot
                    out[lane, here] = left[here]
            await self._peer.send(Directions(np.packbits(out.reshape(-1))))
            return
        used = sorted({slot for owned in lanes for slot in owned})
        bits = np.zeros((len(used), self.lanes, self._n), np.uint8)
        for lane, owned in enumerate(lanes):
            for slot, left in owned.items():
                bits[used.index(slot), lane] = left
        a = self._selection.answer(bits.reshape(len(used), self.lanes * self._n), used)
        await self._peer.send(MaskedDirections(a.first_row, a.n_rows, a.slots, a.pads))

    def _refuse(self, reason: str) -> NoReturn:
        raise PeerProtocolError(reason, party=self._peer.name, step=_STEP)
