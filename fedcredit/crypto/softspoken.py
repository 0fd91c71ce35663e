"""Oblivious selection: one bit per row out of up to 16, by OT extension.

The *receiver* (in training the label holder) has a slot number 0 to 15 for every row; the *sender*
(a data provider) has one bit per row for each slot that it owns. The receiver gets the bit of the
slot it picked and nothing about the others; the sender learns nothing about the slot numbers.

The scheme is SoftSpokenOT (Roy, CRYPTO 2022) as 1-of-16 OT extension over F_16: small-field VOLE
from puncturable seeds, the repetition code of length 32 as the subspace, hence a global secret Δ of
32 elements of F_16 (128 bits), and the paper's consistency check against a malicious receiver.

::

    receiver                                        sender
    seeds G_j,x, all 16 of each column j            all but G_j,Δj
    u ∈ F_16^n the slot numbers
    C_j = Σ_x G_j,x + u                  ── C ──►   W_j = Σ_x (Δ_j − x)·G_j,x + Δ_j·C_j
    V_j = Σ_x x·G_j,x                                   = V_j + Δ_j·u
    bit key H(V_row)                     ◄─ pads ─  pad of slot x: bit ⊕ H(W_row − x·Δ)

**Check.** Column sums that hide different slot numbers in different columns would let a receiver
read parts of Δ off the pads. So both sides apply a random F_2-linear map R, which is one on every
bit plane and hence F_16-linear, to the columns. The receiver sends R·u and a hash of R·V; the
sender compares with R·W − Δ·(R·u). R is two GHASH evaluations (the universal hash of AES-GCM,
McGrew and Viega 2004) under keys hashed from the whole correction (Fiat-Shamir), plus 256 rows of
uniform choices that are used for nothing else, so that R·u says nothing about u. Two different
columns of a block collide with probability below 2^-237, which leaves no room to search for a
correction with a lucky challenge. A receiver that guesses some Δ_j passes with probability 1/16
for each and would know those; a wrong guess ends the session, and both sides must set up afresh.

**Never twice.** Rows are numbered through the life of a pair of objects; the number of a block's
first row is the PRG counter and the number of a row is the tweak of its hash (TMMO). A correction
is answered once: two answers under one correction would reveal the difference of the bits in
slots that were not picked.

Work is done in blocks of 65536 rows, so memory beyond the messages and 16 bytes per row at the
sender is small whatever the number of rows.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.crypto import ggm
from fedcredit.crypto._bitplanes import pick_bits, planes_to_rows
from fedcredit.crypto._selection_messages import (
    CHECK_BYTES,
    MAX_ROWS,
    PROOF_BYTES,
    SELECTION_STEP,
    Correction,
    SelectionAnswer,
    check_answer,
    check_correction,
    check_slots,
)
from fedcredit.crypto._selection_vole import (
    BLOCK_ROWS,
    COLUMNS,
    HASH_BYTES,
    PLANES,
    SLOTS,
    WIDTH,
    Challenge,
    Columns,
    bit_hash,
    blocks,
    draw_delta,
    proof_digest,
    slot_offsets,
    slot_planes,
    times_planes,
)
from fedcredit.crypto.base_ot import BaseOTReceiver, BaseOTSender
from fedcredit.crypto.prg import TweakedHash
from fedcredit.errors import CiphertextError, InputError, ProtocolError

__all__ = [
    "MAX_ROWS",
    "SLOTS",
    "Correction",
    "SelectionAnswer",
    "SelectionReceiver",
    "SelectionSender",
]


class _Side:
    """What both sides keep: the session, the row cursor and whether it is still usable."""

    def __init__(self, session: bytes) -> None:
        self._session = hashlib.sha256(b"fedcredit-selection-v1" + session).digest()
        self._transcript = b""
        self._hasher = TweakedHash(self._session[:16])
        self._columns: Columns | None = None
        self._next_row = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rows_used={self._next_row})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a selection holds secrets and is never pickled")

    def _ready(self) -> Columns:
        if self._closed:
            raise ProtocolError(
                "the selection was closed after a failed check.",
                step=SELECTION_STEP,
                fix="set up a new session, if the peer is still to be trusted",
            )
        if self._columns is None:
            raise ProtocolError("the selection is not set up yet.", step=SELECTION_STEP)
        return self._columns

    def _close(self) -> None:
        self._closed = True
        self._columns = None

    def _bind(self, *flights: bytes) -> None:
        digest = hashlib.sha256(self._session)
        for flight in flights:
            digest.update(len(flight).to_bytes(8, "big") + flight)
        self._transcript = digest.digest()


class SelectionReceiver(_Side):
    """The side that picks a slot per row (the label holder).

    Setup is `offer` → the sender's reply → `finish`; then any number of `correct` → `select`.

    Parameters
    ----------
    session : bytes
        At least 16 bytes that name this pair and run and never occur again.

    Raises
    ------
    InputError
        If the session name is short.
    """

    def __init__(self, session: bytes) -> None:
        super().__init__(session)
        self._base = BaseOTSender(session, COLUMNS * ggm.DEPTH)
        self._offer = b""
        self._pending: tuple[int, NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def offer(self) -> bytes:
        """Return the first flight of the setup, once.

        Returns
        -------
        bytes
            4096 bytes.

        Raises
        ------
        ProtocolError
            If it was already called.
        """
        self._offer = self._base.first()
        return self._offer

    def finish(self, reply: bytes) -> bytes:
        """Take the sender's reply and return the last flight of the setup.

        Parameters
        ----------
        reply : bytes
            8192 bytes.

        Returns
        -------
        bytes
            6144 bytes.

        Raises
        ------
        CiphertextError
            If the reply has another length or holds a malformed point.
        ProtocolError
            If `offer` was not called before, or the setup is already done.
        """
        keys = self._base.keys(reply)
        seeds, message = ggm.build(self._session, keys)
        self._columns = Columns(seeds, None)
        self._bind(self._offer, bytes(reply), message)
        return message

    def correct(self, choices: ArrayLike) -> Correction:
        """Hide the slot numbers of all rows.

        Parameters
        ----------
        choices : array-like of int, shape (n,)
            The slot of every row, 0 to 15; secret. 1 to 2**28 rows.

        Returns
        -------
        Correction
            For the sender.

        Raises
        ------
        InputError
            If the choices are no vector of integers 0 to 15.
        ProtocolError
            Before the setup is done, or while another correction awaits its answer.
        """
        columns = self._ready()
        if self._pending is not None:
            raise ProtocolError("the last correction is not answered yet.", step=SELECTION_STEP)
        given = np.asarray(choices)
        if given.ndim != 1 or given.dtype.kind not in "biu" or not 1 <= len(given) <= MAX_ROWS:
            raise InputError(
                f"the choices must be a vector of 1 to {MAX_ROWS} integers.", step=SELECTION_STEP
            )
        if np.any((given < 0) | (given >= SLOTS)):
            raise InputError("a choice is outside 0..15.", step=SELECTION_STEP)
        slots = given.astype(np.uint8)
        n, base = len(slots), self._next_row
        self._next_row += n
        spans = list(blocks(n))
        message = np.empty((WIDTH, sum(span.words for span in spans)), np.uint64)
        own: list[NDArray[np.uint8]] = []
        checks: list[bytes] = []
        no_offset = np.zeros((1, 2), np.uint64)
        for span in spans:
            row = base + span.row
            u = slot_planes(slots[span.row : span.row + BLOCK_ROWS], span.words)
            total, value = columns.fold(row, u)
            message[:, span.word : span.word + span.words] = total
            challenge = Challenge(self._transcript, row, total)
            proof = proof_digest(self._transcript, row, challenge.image(value))
            checks.append(challenge.image(u).tobytes() + proof)
            rows = planes_to_rows(value, span.data_words)
            own.append(bit_hash(self._hasher, rows, no_offset, row)[0])
        self._pending = base, slots, np.concatenate(own)
        proofs = np.frombuffer(b"".join(checks), np.uint8).reshape(-1, CHECK_BYTES)
        return Correction(base, n, message.view(np.uint8), proofs)

    def select(self, answer: SelectionAnswer) -> NDArray[np.uint8]:
        """Open the bit of the picked slot of every row.

        Parameters
        ----------
        answer : SelectionAnswer
            The sender's answer to the last correction.

        Returns
        -------
        ndarray of uint8, shape (n,)
            0 or 1; 0 for a row whose slot is not among the answer's slots.

        Raises
        ------
        CiphertextError
            If the answer's shape, slots or rows do not fit the correction.
        ProtocolError
            If no correction awaits an answer.
        """
        self._ready()
        if self._pending is None:
            raise ProtocolError("no correction awaits an answer.", step=SELECTION_STEP)
        base, choices, own = self._pending
        n = len(choices)
        slots = check_answer(answer, base, n)
        self._pending = None
        position = np.full(SLOTS, -1, np.int64)
        position[list(slots)] = np.arange(len(slots))
        return pick_bits(choices, own, position, np.ascontiguousarray(answer.pads))


class SelectionSender(_Side):
    """The side that holds a bit per row and slot (a data provider).

    Setup is `reply` → `finish`; then any number of `absorb` → `answer`.

    Parameters
    ----------
    session : bytes
        As at the receiver.

    Raises
    ------
    InputError
        If the session name is short.
    """

    def __init__(self, session: bytes) -> None:
        super().__init__(session)
        self._delta = draw_delta()
        self._base = BaseOTReceiver(session, ggm.path_choices(self._delta))
        self._flights: tuple[bytes, bytes] | None = None
        self._pending: tuple[int, int, list[NDArray[np.uint64]]] | None = None
        self._offsets = slot_offsets(self._delta)

    def reply(self, offer: bytes) -> bytes:
        """Answer the receiver's first flight, once.

        Parameters
        ----------
        offer : bytes
            4096 bytes.

        Returns
        -------
        bytes
            8192 bytes.

        Raises
        ------
        CiphertextError
            If the offer has another length or holds a malformed point.
        ProtocolError
            If it was already called.
        """
        message = self._base.reply(offer)
        self._flights = bytes(offer), message
        return message

    def finish(self, message: bytes) -> None:
        """Take the receiver's last flight and check its seeds.

        Parameters
        ----------
        message : bytes
            6144 bytes.

        Raises
        ------
        CiphertextError
            If the message has another length or the seeds do not check; the session is closed.
        ProtocolError
            Before `reply`, or if the setup is already done.
        """
        if self._flights is None or self._columns is not None or self._closed:
            raise ProtocolError("the setup's last flight is not expected.", step=SELECTION_STEP)
        try:
            seeds = ggm.complete(self._session, self._delta, self._base.keys, message)
        except CiphertextError:
            self._close()
            raise
        self._columns = Columns(seeds, self._delta)
        self._bind(*self._flights, bytes(message))

    def absorb(self, correction: Correction) -> None:
        """Take a correction and check that it hides one slot number per row.

        Parameters
        ----------
        correction : Correction
            From the receiver.

        Raises
        ------
        CiphertextError
            If its shape or rows do not fit, or the check fails; a failed check closes the session.
        ProtocolError
            Before the setup is done, or while another correction awaits its answer.
        """
        columns = self._ready()
        if self._pending is not None:
            raise ProtocolError("the last correction is not answered yet.", step=SELECTION_STEP)
        check_correction(correction, self._next_row)
        n, base = correction.n_rows, correction.first_row
        spans = list(blocks(n))
        message = np.ascontiguousarray(correction.columns).view(np.uint64)
        kept: list[NDArray[np.uint64]] = []
        for span, check in zip(spans, correction.checks, strict=True):
            row = base + span.row
            block = np.ascontiguousarray(message[:, span.word : span.word + span.words])
            _, value = columns.fold(row, block)
            self._verify(row, block, value, check)
            kept.append(planes_to_rows(value, span.data_words))
        self._next_row += n
        self._pending = base, n, kept

    def _verify(
        self,
        row: int,
        block: NDArray[np.uint64],
        value: NDArray[np.uint64],
        check: NDArray[np.uint8],
    ) -> None:
        """Compare the receiver's digest with that of ``R·W − Δ·(R·u)``."""
        claimed = check[:PROOF_BYTES].reshape(PLANES, HASH_BYTES)
        image = Challenge(self._transcript, row, block).image(value)
        image = image.reshape(COLUMNS, PLANES, HASH_BYTES)
        image = image ^ times_planes(self._delta, claimed)
        expected = proof_digest(self._transcript, row, image)
        if not hmac.compare_digest(expected, check[PROOF_BYTES:].tobytes()):
            self._close()
            raise CiphertextError(
                "the correction of the selection does not check.",
                step=SELECTION_STEP,
                fix="drop the session; the peer did not use one slot number per row",
            )

    def answer(self, bits: ArrayLike, slots: Sequence[int]) -> SelectionAnswer:
        """Mask the bits of some slots for the correction that was absorbed.

        Parameters
        ----------
        bits : array-like of bool or int, shape (len(slots), n)
            Row ``k`` has the bits, 0 or 1, of slot ``slots[k]`` for all rows.
        slots : sequence of int
            The slots that this sender owns, each once, 0 to 15; may be empty.

        Returns
        -------
        SelectionAnswer
            For the receiver. One bit per row and slot.

        Raises
        ------
        InputError
            If the bits or slots are out of range or of another shape.
        ProtocolError
            If no correction awaits an answer.
        """
        self._ready()
        if self._pending is None:
            raise ProtocolError("no correction awaits an answer.", step=SELECTION_STEP)
        base, n, kept = self._pending
        chosen = check_slots(slots, InputError)
        given = np.asarray(bits)
        if given.shape != (len(chosen), n) or given.dtype.kind not in "biu":
            raise InputError(
                "the bits must have shape (slots, rows of the data).", step=SELECTION_STEP
            )
        if given.dtype.kind != "b" and np.any((given != 0) & (given != 1)):
            raise InputError("the bits must be 0 and 1.", step=SELECTION_STEP)
        self._pending = None
        pads = np.packbits(given.astype(bool), axis=1, bitorder="little")
        offsets = self._offsets[list(chosen)]
        for span, rows in zip(blocks(n), kept, strict=True):
            masks = bit_hash(self._hasher, rows, offsets, base + span.row)
            place = pads[:, span.row // 8 : span.row // 8 + masks.shape[1]]
            place ^= masks[:, : place.shape[1]]
        if n % 8:
            pads[:, -1] &= (1 << n % 8) - 1
        return SelectionAnswer(base, n, chosen, pads)
