"""What an alignment leaves at each party: an order of its own rows that all parties share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError, ProtocolError
from fedcredit.models.store import Store
from fedcredit.uscc import IdReport, normalise
from fedcredit.wire import I64x1, Message, decode, encode

__all__ = ["AlignJob", "AlignedOrder", "LocalTable", "MatchInfo"]

_KIND = "alignment"


@dataclass(frozen=True, eq=False, repr=False)
class AlignJob(
    Message,
    kind="job.align",
    version=1,
    max_bytes=64 << 10,
    reveals="that an alignment is asked for, its method and its floor",
):
    """Platform to each provider: align by private set intersection.

    ``participants`` are the providers in the order of the platform; ``salt`` (32 bytes) makes
    the run's hashes its own.
    """

    frame_id: str
    id_column: str
    id_kind: str
    strategy: str
    floor: int
    participants: tuple[str, ...]
    salt: bytes


@dataclass(frozen=True, eq=False, repr=False)
class MatchInfo(
    Message,
    kind="align.match_info",
    version=1,
    max_bytes=1 << 20,
    reveals="row counts, counts of blank, duplicate and unusable ids, and feature labels "
    "(names only if the provider releases them)",
):
    """Provider to platform, after an alignment: counts of its ids and labels of its features."""

    rows: int
    blank: int
    duplicate: int
    invalid_check_digit: int
    pre_standard: int
    unusable: int
    distinct: int
    matched: int
    labels: tuple[str, ...]
    categorical: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class AlignedOrder(Message, kind="store.aligned_order", version=1, max_bytes=8 << 30):
    """At rest at one party: its row numbers in the shared order. Never sent."""

    frame_id: str
    id_column: str
    rows: I64x1

    def save(self, store: Store) -> None:
        """Keep the order under its frame id."""
        store.put(_KIND, self.frame_id, encode(self).to_pybytes())

    @classmethod
    def load(cls, store: Store, frame_id: str, *, party: str) -> AlignedOrder:
        """Read an order.

        Raises
        ------
        ProtocolError
            This party holds no such alignment.
        """
        data = store.get(_KIND, frame_id)
        if data is None:
            raise ProtocolError(
                "this alignment is not known here.",
                party=party,
                step="load aligned rows",
                fix="align again; the party may have lost or cleared its storage",
            )
        order = decode(data)
        assert isinstance(order, cls)
        return order


class LocalTable:
    """A party's own table with its id column.

    Parameters
    ----------
    frame : pandas.DataFrame
    party : str
    """

    def __init__(self, frame: pd.DataFrame, *, party: str) -> None:
        self.frame = frame
        self.party = party

    def ids(self, column: str, kind: str) -> IdReport:
        """Normalise the id column; see :func:`fedcredit.uscc.normalise`.

        Raises
        ------
        InputError
            The column is missing or holds no usable id.
        """
        if column not in self.frame.columns:
            raise InputError(
                f"the id column {column!r} is missing.",
                party=self.party,
                step="align",
                fix="name the column that holds the enterprises' codes",
            )
        try:
            report = normalise(self.frame[column], kind=kind)  # type: ignore[arg-type]
        except InputError as error:
            error.at(party=self.party, step="align")
            raise
        if len(report) == 0:
            raise InputError(
                f"the id column {column!r} holds no usable id.",
                party=self.party,
                step="align",
                fix="check that it holds unified social credit codes, or align with id_kind='text'",
            )
        return report

    def known(self, names: Sequence[str], what: str) -> tuple[str, ...]:
        """Return column names, all of which the table has.

        Raises
        ------
        InputError
            It lacks one.
        """
        unknown = sorted(set(names) - set(self.frame.columns))
        if unknown:
            raise InputError(
                f"unknown {what}: {', '.join(unknown)}.",
                party=self.party,
                step="select columns",
                fix="name columns of this party's table",
            )
        return tuple(names)

    def take(self, rows: npt.NDArray[np.integer], columns: Sequence[str]) -> pd.DataFrame:
        """Return some columns of some rows, by row number."""
        return self.frame[list(columns)].take(rows)

    def __repr__(self) -> str:
        return f"LocalTable({self.party!r}, {len(self.frame)} rows)"
