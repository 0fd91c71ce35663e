"""What crosses the wire in an oblivious selection, and the checks of its shape.

The protocol is in `fedcredit.crypto.softspoken`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto._selection_vole import HASH_BYTES, PLANES, SLOTS, WIDTH, blocks
from fedcredit.errors import CiphertextError, InputError

__all__ = [
    "CHECK_BYTES",
    "MAX_ROWS",
    "PROOF_BYTES",
    "SELECTION_STEP",
    "Correction",
    "SelectionAnswer",
    "check_answer",
    "check_correction",
    "check_slots",
]

MAX_ROWS: Final = 1 << 28
PROOF_BYTES: Final = PLANES * HASH_BYTES
CHECK_BYTES: Final = PROOF_BYTES + 32
SELECTION_STEP: Final = "oblivious selection"


@dataclass(frozen=True, eq=False)
class Correction:
    """What the receiver sends before the sender's bits exist.

    Attributes
    ----------
    first_row : int
        The number of the first row; it grows through the session.
    n_rows : int
        How many rows.
    columns : ndarray of uint8, shape (128, width)
        Row ``4·j + b`` is bit plane ``b`` of column ``j``, 64 rows per 8 bytes, least significant
        bit first, with 32 bytes of masking rows at the end of every block of 65536 rows; uniform
        to the sender. About 16 bytes per row.
    checks : ndarray of uint8, shape (blocks, 160)
        The masked image of the slot numbers (128 bytes) and a digest (32 bytes) per block.
    """

    first_row: int
    n_rows: int
    columns: NDArray[np.uint8]
    checks: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SelectionAnswer:
    """What the sender returns: the masked bits of its slots.

    Attributes
    ----------
    first_row, n_rows : int
        As in the correction that is answered.
    slots : tuple of int
        The slots that follow, each once, 0 to 15.
    pads : ndarray of uint8, shape (len(slots), ceil(n_rows / 8))
        One masked bit per row, least significant bit first.
    """

    first_row: int
    n_rows: int
    slots: tuple[int, ...]
    pads: NDArray[np.uint8]


def check_slots(
    slots: Sequence[int], error: type[InputError] | type[CiphertextError]
) -> tuple[int, ...]:
    """Return slot numbers as a tuple if they are distinct and in range.

    Parameters
    ----------
    slots : sequence of int
        0 to 15 each.
    error : type
        What is raised otherwise: the caller's own input, or a peer's message.

    Returns
    -------
    tuple of int
    """
    chosen = tuple(int(slot) for slot in slots)
    if len(set(chosen)) != len(chosen) or any(not 0 <= slot < SLOTS for slot in chosen):
        raise error("the slots must be distinct numbers 0 to 15.", step=SELECTION_STEP)
    return chosen


def check_correction(correction: Correction, next_row: int) -> None:
    """Refuse a correction whose rows or shapes do not fit.

    Parameters
    ----------
    correction : Correction
        From the receiver.
    next_row : int
        The number that its first row must have.

    Raises
    ------
    CiphertextError
        If something does not fit.
    """
    n = correction.n_rows
    if not 1 <= n <= MAX_ROWS or correction.first_row != next_row:
        raise CiphertextError("the correction's rows are not the next ones.", step=SELECTION_STEP)
    spans = list(blocks(n))
    columns = (WIDTH, 8 * sum(span.words for span in spans))
    checks = (len(spans), CHECK_BYTES)
    if (
        correction.columns.dtype != np.uint8
        or correction.columns.shape != columns
        or correction.checks.dtype != np.uint8
        or correction.checks.shape != checks
    ):
        raise CiphertextError("the correction has another shape or type.", step=SELECTION_STEP)


def check_answer(answer: SelectionAnswer, first_row: int, n_rows: int) -> tuple[int, ...]:
    """Refuse an answer whose rows, slots or shape do not fit; return its slots.

    Parameters
    ----------
    answer : SelectionAnswer
        From the sender.
    first_row, n_rows : int
        The rows of the correction that awaits the answer.

    Returns
    -------
    tuple of int

    Raises
    ------
    CiphertextError
        If something does not fit.
    """
    if answer.first_row != first_row or answer.n_rows != n_rows:
        raise CiphertextError("the answer belongs to other rows.", step=SELECTION_STEP)
    slots = check_slots(answer.slots, CiphertextError)
    if answer.pads.dtype != np.uint8 or answer.pads.shape != (len(slots), -(-n_rows // 8)):
        raise CiphertextError("the pads have another shape or type.", step=SELECTION_STEP)
    return slots
