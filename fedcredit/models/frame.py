"""A federated frame: aligned rows of several parties, of which the platform sees its own part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import train_test_split

from fedcredit.errors import InputError
from fedcredit.models.report import PartyMatch

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation

__all__ = ["FederatedFrame", "split_rows"]


class FederatedFrame:
    """Rows that all parties hold, in one order; made by :meth:`Federation.align`.

    The frame is a handle: each party's values stay with it. What the platform owns can be read
    through :attr:`platform` or by column name; a provider's columns are only names (or numbers).
    Subsets by :meth:`take`, slices, masks and :meth:`train_test_split` are frames of the same
    alignment.

    Attributes
    ----------
    federation : Federation
    frame_id : str
        Names the alignment at all parties.
    key : str
        The platform's id column.
    rows : ndarray of uint32, shape (n,)
        Positions in the aligned order.
    match : tuple of PartyMatch
        Rows, blanks, duplicates, invalid, unusable, matched per party.
    columns : list of str
        ``"party.column"`` of every party.
    platform : pandas.DataFrame
        The platform's own columns of these rows.
    ids : pandas.Series
        The platform's ids of these rows, for instance to write scores against.
    """

    def __init__(
        self,
        federation: Federation,
        *,
        frame_id: str,
        key: str,
        order: npt.NDArray[np.int64],
        providers: Sequence[str],
        match: Sequence[PartyMatch] = (),
        labels: Mapping[str, Sequence[str]] | None = None,
        categorical: Mapping[str, Sequence[str]] | None = None,
        rows: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        self.federation = federation
        self.frame_id = frame_id
        self.key = key
        self.providers = tuple(providers)
        self.match = tuple(match)
        self.labels = {name: tuple(values) for name, values in (labels or {}).items()}
        self.categorical = {name: tuple(values) for name, values in (categorical or {}).items()}
        self._order = order
        self.rows = np.arange(len(order), dtype=np.uint32) if rows is None else rows

    # ------------------------------------------------------------------ what it is

    @property
    def own_rows(self) -> npt.NDArray[np.int64]:
        """The platform's row number of each of these rows."""
        return self._order[self.rows]

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """The platform's row numbers of all aligned rows, in the shared order."""
        return self._order

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self.columns or name in self._own_columns()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Refuse: the frame does not hold the providers' values.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            "a federated frame is no array: the providers' values are not in it.",
            step="read frame",
            fix="use one of fedcredit's estimators, or frame.platform for the platform's columns",
        )

    def __reduce__(self) -> Any:
        raise TypeError(
            "a federated frame lives with its federation's tables and connections and is never "
            "pickled; run scikit-learn's searches with n_jobs=None"
        )

    @property
    def columns(self) -> list[str]:
        """All columns as ``party.column``; a provider may show numbers instead of names."""
        own = [f"{self.federation.platform}.{name}" for name in self._own_columns()]
        return own + [f"{p}.{label}" for p in self.providers for label in self.labels.get(p, ())]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), len(self.columns)

    def _own_columns(self) -> list[str]:
        names = self.federation.table.frame.columns
        return [str(c) for c in names if c != self.key or not self.key]

    @property
    def platform(self) -> pd.DataFrame:
        """The platform's own columns of these rows, in the frame's order, without the id."""
        return self._own(self._own_columns())

    @property
    def ids(self) -> pd.Series:
        """The platform's ids of these rows, as its table holds them."""
        if not self.key:
            raise InputError(
                "these rows have no ids.", step="read ids", fix="align tables by an id"
            )
        return self._own([self.key])[self.key]

    def _own(self, names: Sequence[str]) -> pd.DataFrame:
        table = self.federation.table.take(self._order[self.rows], names)
        return table.reset_index(drop=True)

    @property
    def match_report(self) -> pd.DataFrame:
        """What became of every party's rows in the alignment, one line per party."""
        rows = [
            {
                "party": m.party,
                "rows": m.rows,
                "blank": m.blank,
                "duplicate": m.duplicate,
                "unusable": m.unusable,
                "distinct": m.distinct,
                "invalid check digit": m.invalid,
                "pre-standard": m.pre_standard,
                "matched": m.matched,
                "match rate": m.matched / m.distinct if m.matched and m.distinct else 0.0,
            }
            for m in self.match
        ]
        columns = ["party", "rows", "blank", "duplicate", "unusable", "distinct"]
        columns += ["invalid check digit", "pre-standard", "matched", "match rate"]
        return pd.DataFrame(rows, columns=columns).set_index("party")

    def __repr__(self) -> str:
        return f"FederatedFrame({len(self)} rows, {len(self.columns)} columns of {self._who()})"

    def _who(self) -> str:
        return ", ".join((self.federation.platform, *self.providers))

    def _repr_html_(self) -> str:
        table: str = self.match_report.to_html(float_format=lambda v: f"{v:.1%}")
        return f"<p><b>Federated frame</b>: {len(self):,} aligned rows of {self._who()}</p>{table}"

    # -------------------------------------------------------------------- selecting

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __getitem__(self, item: Any) -> Any:
        """Return one of the platform's columns by name, or a frame of some rows.

        Raises
        ------
        InputError
            The column is unknown, or belongs to a provider and so has no values here.
        """
        if isinstance(item, str):
            return self.column(item)
        if isinstance(item, tuple) and len(item) == 2 and item[1] in (Ellipsis, slice(None)):
            # The whole rows of an array-like, as scikit-learn asks for them.
            item = item[0]
        if isinstance(item, slice):
            return self.take(np.arange(len(self))[item])
        return self.take(item)

    def column(self, name: str) -> pd.Series:
        """Return the values of one of the platform's columns; see ``__getitem__``."""
        own = self._own_columns()
        bare = name.removeprefix(f"{self.federation.platform}.")
        if bare in own:
            return self._own([bare])[bare]
        if name in self.columns:
            raise InputError(
                f"the values of {name!r} stay with their owner.",
                step="read column",
                fix="model on the frame instead of reading it",
            )
        raise InputError(
            f"there is no column {name!r}.",
            step="read column",
            fix=f"use one of {', '.join(own)}, or frame.ids",
        )

    def take(self, positions: Any) -> FederatedFrame:
        """Return the frame of some rows, by position (integers) or mask (bools)."""
        chosen = np.asarray(positions)
        if chosen.shape == (0,):
            chosen = chosen.astype(np.int64)
        if chosen.dtype.kind == "b" and chosen.shape != (len(self),):
            raise InputError(
                "the mask has another length than the frame.",
                step="select rows",
                fix="pass one bool per row",
            )
        if chosen.ndim != 1 or chosen.dtype.kind not in "biu":
            raise InputError(
                "rows are selected by neither integers nor bools.",
                step="select rows",
                fix="pass a list of positions, a mask or a slice; columns are chosen by an "
                "estimator's features",
            )
        try:
            rows = self.rows[chosen]
        except IndexError:
            raise InputError(
                "a row is outside the frame.",
                step="select rows",
                fix="use positions below len(frame)",
            ) from None
        return FederatedFrame(
            self.federation,
            frame_id=self.frame_id,
            key=self.key,
            order=self._order,
            providers=self.providers,
            match=self.match,
            labels=self.labels,
            categorical=self.categorical,
            rows=rows,
        )

    def train_test_split(
        self,
        *,
        test_size: float | int = 0.25,
        stratify: str | npt.NDArray[Any] | None = None,
        random_state: int | None = None,
    ) -> tuple[FederatedFrame, FederatedFrame]:
        """Split the rows at random; see :func:`sklearn.model_selection.train_test_split`.

        Parameters
        ----------
        test_size : float or int
            Share or number of test rows.
        stratify : str or array, optional
            A column of the platform, usually the label.
        random_state : int, optional

        Returns
        -------
        train, test : FederatedFrame

        Raises
        ------
        InputError
            A share or a stratum is too small, or the values to stratify by do not fit.
        """
        strata = self.column(stratify).to_numpy() if isinstance(stratify, str) else stratify
        train, test = split_rows(
            self.own_rows, test_size=test_size, strata=strata, seed=random_state
        )
        return self.take(train), self.take(test)


def split_rows(
    own_rows: npt.NDArray[np.int64],
    *,
    test_size: float | int,
    strata: npt.NDArray[Any] | None,
    seed: int | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split positions 0 to n - 1 at random; see :meth:`FederatedFrame.train_test_split`.

    The draw follows the platform's own row numbers: the order of an alignment is random, and the
    same seed shall draw the same enterprises in every alignment.

    Parameters
    ----------
    own_rows : ndarray of int64, shape (n,)
        The platform's row number at each position.
    test_size, strata, seed
        See :func:`sklearn.model_selection.train_test_split`; strata by position.

    Raises
    ------
    InputError
        scikit-learn refuses; its own message could quote labels and is not passed on.
    """
    own_order = np.argsort(own_rows, kind="stable")
    try:
        first, second = train_test_split(
            own_order,
            test_size=test_size,
            stratify=None if strata is None else np.asarray(strata)[own_order],
            random_state=seed,
        )
    except (TypeError, ValueError, IndexError):
        raise InputError(
            "the rows cannot be split like this.",
            step="split rows",
            fix="check that the test share is between 0 and 1 (or a number of rows), and that the "
            "values to stratify by are complete, one per row, and each in at least 2 rows",
        ) from None
    return first, second
