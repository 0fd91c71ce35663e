"""How often each row's linear predictor was revealed: a provider's account of its own exposure.

Whoever sees the predictors of as many models as a party has columns, on the same rows, and knows
a few rows' values, can solve for all of them. So a provider counts, per row of its table, the sums
shown to the label holder that hold its predictor of that row, over all models and for good, and
refuses what exceeds its limit. A count is stored before the sum leaves; a crash in between costs
one reveal and never hides one.

A finished model's predictor does not change. Shown once for a row, it tells nothing new there, so
the ledger remembers, per model, for which rows it was shown, and does not count it again.

Rows are counted by their number in the table, as alignments keep them: rows are appended to a
table, not moved.
"""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcredit.errors import BudgetError
from fedcredit.models.store import Store
from fedcredit.wire import Message, decode, encode

__all__ = ["RevealLedger"]

_KIND = "reveals"
_COUNTS = "counts"
_STEP = "reveal predictor"
_MOST = int(np.iinfo(np.uint16).max)
#: Sessions of one party may run side by side; reading, checking and writing is one act.
_LOCK = threading.Lock()

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class _StoredCounts(Message, kind="store.reveal_counts", version=1, max_bytes=8 << 30):
    """At rest at a provider: reveals per row of its table, uint16, deflated. Never sent."""

    n_rows: int
    counts: bytes


@dataclass(frozen=True, eq=False, repr=False)
class _StoredRows(Message, kind="store.reveal_rows", version=1, max_bytes=8 << 30):
    """At rest at a provider: for which rows a model's predictor was revealed. Never sent.

    ``digest`` stands for the model's coefficients, ``rows`` are bits, deflated.
    """

    digest: str
    n_rows: int
    rows: bytes


class RevealLedger:
    """The account of one provider.

    Parameters
    ----------
    store : Store
        The provider's own.
    limit : int
        Reveals per row.
    party : str
        For error messages.
    """

    def __init__(self, store: Store, limit: int, *, party: str) -> None:
        self.limit = min(limit, _MOST)
        self.party = party
        self._store = store

    def __repr__(self) -> str:
        return f"RevealLedger({self.party!r}, limit {self.limit})"

    def left(self, rows: Rows) -> int:
        """Return how many more predictors may be revealed for all of these rows.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Row numbers of the provider's table, n at least 1.
        """
        counts = self._counts(int(rows.max()) + 1)
        return max(0, self.limit - int(counts[rows].max()))

    def charge(self, rows: Rows, *, model_id: str | None = None, digest: str = "") -> int:
        """Count one reveal, and store it before returning.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Distinct row numbers of the provider's table.
        model_id, digest : str, optional
            Of a finished model, and of its coefficients: rows for which its predictor was
            revealed before are free.

        Returns
        -------
        int
            Rows that were charged.

        Raises
        ------
        BudgetError
            The limit of a row is reached. Nothing is counted then.
        """
        with _LOCK:
            shown = np.zeros(int(rows.max()) + 1, np.bool_)
            if model_id is not None:
                shown = self._shown(model_id, digest, len(shown))
            charged = rows[~shown[rows]]
            if not len(charged):
                return 0
            counts = self._counts(len(shown))
            self._require(counts[charged])
            counts[charged] += 1
            self._store.put(
                _KIND,
                _COUNTS,
                encode(_StoredCounts(len(counts), zlib.compress(counts.tobytes()))).to_pybytes(),
            )
            if model_id is not None:
                shown[charged] = True
                bits = zlib.compress(np.packbits(shown).tobytes())
                stored = _StoredRows(digest, len(shown), bits)
                self._store.put(_KIND, _rows_key(model_id), encode(stored).to_pybytes())
            return len(charged)

    def _require(self, counts: npt.NDArray[np.uint16]) -> None:
        spent = int((counts >= self.limit).sum())
        if not spent:
            return
        raise BudgetError(
            f"0 of {self.limit} reveals are left for {spent} of the {len(counts)} rows.",
            party=self.party,
            step=_STEP,
            fix="fit with polish_steps=0, which reveals nothing, or use other rows; the data owner "
            "may raise max_revealed_predictors",
        )

    def _counts(self, n_rows: int) -> npt.NDArray[np.uint16]:
        """Return a copy of the counts, of at least so many rows."""
        data = self._store.get(_KIND, _COUNTS)
        known = np.zeros(0, np.uint16)
        if data is not None:
            stored = decode(data)
            assert isinstance(stored, _StoredCounts)
            known = np.frombuffer(zlib.decompress(stored.counts), np.uint16)
        return np.pad(known, (0, max(0, n_rows - len(known))))

    def _shown(self, model_id: str, digest: str, n_rows: int) -> npt.NDArray[np.bool_]:
        """Return a copy of the mask of a model's revealed rows, of at least so many rows."""
        data = self._store.get(_KIND, _rows_key(model_id))
        known = np.zeros(0, np.bool_)
        if data is not None:
            stored = decode(data)
            assert isinstance(stored, _StoredRows)
            if stored.digest == digest:
                bits = np.frombuffer(zlib.decompress(stored.rows), np.uint8)
                known = np.unpackbits(bits, count=stored.n_rows).astype(np.bool_)
        return np.pad(known, (0, max(0, n_rows - len(known))))


def _rows_key(model_id: str) -> str:
    return f"model.{model_id}"
