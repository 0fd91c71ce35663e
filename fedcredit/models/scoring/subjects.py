"""Which row of a party's table is an enterprise's."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError, Refusal
from fedcredit.models.alignment import LocalTable
from fedcredit.uscc import normalise

__all__ = ["SubjectIndex", "check_normalised", "normalised_subjects"]

Rows = npt.NDArray[np.int64]
_STEP = "look up enterprises"
#: What :func:`fedcredit.uscc.normalise` leaves as it is.
_PLAIN = re.compile(r"[0-9A-Z]{18}", re.ASCII)


class SubjectIndex:
    """Finds rows by unified social credit code.

    Parameters
    ----------
    table : LocalTable
    id_column, id_kind : str
    """

    def __init__(self, table: LocalTable, id_column: str, id_kind: str) -> None:
        self._table, self._id_column = table, id_column
        self._lock = threading.Lock()
        self._sorted: tuple[npt.NDArray[np.bytes_], Rows] | None = None
        self._frame = table.frame
        self.id_kind = id_kind

    def __repr__(self) -> str:
        return f"SubjectIndex({len(self._frame)} rows)"

    def build(self) -> tuple[npt.NDArray[np.bytes_], Rows]:
        """Return the ids, sorted, and their rows; made at the first call.

        Raises
        ------
        InputError
            The id column is missing or holds no usable id.
        """
        with self._lock:
            if self._sorted is None:
                report = self._table.ids(self._id_column, self.id_kind)
                order = np.argsort(report.ids, kind="stable")
                self._sorted = report.ids[order], report.rows[order]
            return self._sorted

    def rows(self, subjects: Sequence[str]) -> Rows:
        """Return the row of each enterprise, -1 where this party has no record; shape (n,)."""
        wanted = np.array([subject.encode() for subject in subjects])
        ids, rows = self.build()
        places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        return np.where(ids[places] == wanted, rows[places], -1)

    def everybody(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns of the whole table, and last one row in which all values are missing."""
        frame = self._columns(columns)
        return frame.reindex(range(len(frame) + 1))

    def frame(self, rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns of these rows; all values are missing where a row is -1."""
        return self._columns(columns).reindex(rows)

    def require(self, columns: Sequence[str]) -> None:
        """Refuse a question whose columns the table does not have; no row is looked at.

        Raises
        ------
        Refusal
            ``part_failed``.
        """
        gone = [name for name in columns if name not in self._frame.columns]
        if gone:
            raise Refusal(
                f"{len(gone)} columns of the model are not in this party's table any more.",
                code="part_failed",
                party=self._table.party,
                step=_STEP,
                fix="the party has to start its node with a table that has them",
            )

    def _columns(self, columns: Sequence[str]) -> pd.DataFrame:
        self.require(columns)
        return self._frame[list(columns)].reset_index(drop=True)


def normalised_subjects(subjects: Sequence[str], *, id_kind: str = "uscc") -> tuple[str, ...]:
    """Bring enterprises' codes to the spelling that all parties look up.

    Raises
    ------
    InputError
        One is blank, no code, or stands there twice.
    """
    if id_kind == "uscc" and _is_plain(subjects):
        return tuple(subjects)
    report = normalise(list(subjects), kind=id_kind)  # type: ignore[arg-type]
    if len(report) != len(subjects):
        raise InputError(
            f"of {report.n_rows} codes {report.blank} are blank, {report.unusable} are no codes "
            f"and {report.duplicate} repeat another.",
            step=_STEP,
            fix="ask about each enterprise once, by its unified social credit code",
        )
    return tuple(item.decode() for item in report.ids)


def _is_plain(subjects: Sequence[str]) -> bool:
    """Whether every code is in the one spelling already, and none stands there twice."""
    return all(map(_PLAIN.fullmatch, subjects)) and len(set(subjects)) == len(subjects)


def check_normalised(subjects: Sequence[str], *, id_kind: str, party: str) -> None:
    """Hold the codes of a request to the one spelling, so that consents and rows speak of one.

    Raises
    ------
    Refusal
        ``request_invalid``.
    """
    if id_kind == "uscc" and _is_plain(subjects):
        return
    try:
        same = normalised_subjects(subjects, id_kind=id_kind) == tuple(subjects)
    except InputError:
        same = False
    if not same:
        raise Refusal(
            "the request names an enterprise by something other than its normalised code.",
            code="request_invalid",
            party=party,
            step=_STEP,
            fix="ask through fedcredit.Institution or the command line of the same release",
        )
