"""What a provider has answered about its bins, and what it therefore refuses.

Two things are kept per column, before an answer leaves: how often events were counted in its bins,
and over which rows. From counts over several sets of rows, linear combinations give counts over
other sets: the difference of all rows and all but one is the bin of one enterprise. A pass is
refused if a combination of it with earlier ones could single out fewer rows than the floor.

Rows are known by a keyed hash of their id, so that tables may grow and change their order; the
store holds no id. Entries are only ever added.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedcredit.errors import BudgetError, PolicyError, StorageError
from fedcredit.models.store import Store
from fedcredit.wire import Message, U64x1, decode, encode

__all__ = ["MAX_ROW_SETS", "BinningLedger", "isolates_rows"]

#: Sets of rows over which a column is counted at most, with or without events.
MAX_ROW_SETS = 64

_KIND = "binning"
_LEDGER, _ROWS = "ledger", "rows"
_STEP = "binning: ledger"
#: Sessions of one party may run in several threads; reading, deciding and writing is one step.
_LOCK = threading.Lock()

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class _KnownRows(Message, kind="store.binned_rows", version=1, max_bytes=1 << 30):
    """At rest at a provider: the rows that were ever counted, by keyed hash of their ids."""

    key: bytes
    hashes: U64x1


class BinningLedger:
    """The ledger of one provider.

    Parameters
    ----------
    store : Store
    max_passes : int
        How often the events in a column's bins may be counted.
    floor : int
        Fewest rows that counts may single out.
    """

    def __init__(self, store: Store, *, max_passes: int, floor: int) -> None:
        self._store = store
        self._max_passes = max_passes
        self._floor = floor

    def passes(self) -> dict[str, int]:
        """Return how often the events of each column were counted."""
        return {column: entry["passes"] for column, entry in self._book().items()}

    def charge(self, columns: Mapping[str, str], ids: Sequence[str], *, events: bool) -> None:
        """Enter a pass over columns, or refuse it and enter nothing.

        Parameters
        ----------
        columns : mapping of str to str
            Column by the label under which the platform knows it.
        ids : sequence of str
            Of the rows, distinct.
        events : bool
            Whether events are counted, or rows only.

        Raises
        ------
        BudgetError
            A column has been counted as often as allowed, or over too many sets of rows.
        PolicyError
            With earlier passes the counts could single out fewer rows than the floor.
        """
        with _LOCK:
            book = self._book()
            entries = {
                label: book.setdefault(column, {"passes": 0, "rows": []})
                for label, column in columns.items()
            }
            if events:
                used = [n for n, e in entries.items() if e["passes"] >= self._max_passes]
                self._refuse_used(used)
            known, rows = self._rows(ids)
            packed = np.packbits(rows).tobytes().rstrip(b"\0")
            name = hashlib.sha256(packed).hexdigest()
            verdicts: dict[tuple[str, ...], bool] = {}
            for label, entry in entries.items():
                past = tuple(entry["rows"])
                if name in past:
                    continue
                if len(past) >= MAX_ROW_SETS:
                    raise BudgetError(
                        f"the feature {label!r} was counted over {MAX_ROW_SETS} sets of rows.",
                        step=_STEP,
                        fix="count over rows that were counted before",
                    )
                if past not in verdicts:
                    sets = [self._past_rows(digest, len(rows)) for digest in past]
                    verdicts[past] = isolates_rows([*sets, rows], self._floor)
                if verdicts[past]:
                    raise PolicyError(
                        f"with earlier counts of the feature {label!r}, these rows would single "
                        f"out fewer than {self._floor} enterprises.",
                        step=_STEP,
                        fix="count over the same rows as before, or over rows that differ by more",
                    )
                entry["rows"].append(name)
            for entry in entries.values():
                entry["passes"] += int(events)
            self._store.put(_KIND, _ROWS, encode(known).to_pybytes())
            self._store.put(_KIND, f"{_ROWS}-{name}", packed)
            self._store.put(_KIND, _LEDGER, json.dumps(book).encode())

    def _refuse_used(self, labels: Sequence[str]) -> None:
        if labels:
            shown = ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")
            raise BudgetError(
                f"the events of {len(labels)} features ({shown}) were counted "
                f"{self._max_passes} times, as often as is allowed here.",
                step=_STEP,
                fix="merge and split the bins of an earlier binner, leave these features out, or "
                "ask the provider for a higher max_binnings_per_feature",
            )

    def _book(self) -> dict[str, Any]:
        data = self._store.get(_KIND, _LEDGER)
        book: dict[str, Any] = {} if data is None else json.loads(data)
        return book

    def _rows(self, ids: Sequence[str]) -> tuple[_KnownRows, Bits]:
        """Return all rows ever counted, these included, and which of them these are."""
        data = self._store.get(_KIND, _ROWS)
        if data is None:
            known = _KnownRows(secrets.token_bytes(32), np.zeros(0, np.uint64))
        else:
            stored = decode(data)
            assert isinstance(stored, _KnownRows)
            known = stored
        hashes = np.fromiter(
            (
                int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8, key=known.key).digest())
                for i in ids
            ),
            np.uint64,
            len(ids),
        )
        new = np.setdiff1d(hashes, known.hashes)
        merged = np.concatenate([known.hashes, new])
        return _KnownRows(known.key, merged), np.isin(merged, hashes)

    def _past_rows(self, digest: str, size: int) -> Bits:
        packed = self._store.get(_KIND, f"{_ROWS}-{digest}")
        if packed is None:
            raise StorageError(
                "the ledger names rows that are not stored.",
                step=_STEP,
                fix="restore the party's storage from a backup",
            )
        bits = np.zeros(size, np.bool_)
        read = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.bool_)[:size]
        bits[: len(read)] = read
        return bits


def isolates_rows(sets: Sequence[Bits], floor: int) -> bool:
    """Say whether a linear combination of sets of rows could single out fewer rows than a floor.

    Rows that lie in the same sets form a cell, and a combination has one value on each. One that
    vanishes on all cells of at least ``floor`` rows, but not everywhere, exists exactly if the
    smaller cells raise the rank of the matrix of cells by sets.

    Parameters
    ----------
    sets : sequence of ndarray of bool, shape (n,)
    floor : int

    Returns
    -------
    bool
        Also True if several cells below the floor could only be singled out together.
    """
    keys = np.zeros(len(sets[0]), np.uint64)
    for rows in sets:
        # Rows in the same sets get the same sum of random numbers, others another one.
        keys[rows] ^= np.uint64(secrets.randbits(64))
    _, first, sizes = np.unique(keys, return_index=True, return_counts=True)
    cells = np.stack([rows[first] for rows in sets], axis=1)
    inside = cells.any(axis=1)
    small = inside & (sizes < floor)
    if not small.any():
        return False
    every = np.unique(cells[inside], axis=0).astype(np.float64)
    large = cells[inside & ~small].astype(np.float64)
    rank_of_large = int(np.linalg.matrix_rank(large)) if len(large) else 0
    return rank_of_large < int(np.linalg.matrix_rank(every))
