"""One party's columns: which are features, and their encoding as float64 for the tree code.

Numbers stay numbers with NaN for missing; booleans are 0 and 1. Text, categorical and named
categorical columns become codes of a dictionary that is kept with the model, so that new rows are
encoded alike; a value outside the dictionary is missing to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError

__all__ = ["ColumnCoder", "fit_coders", "to_pandas"]


def to_pandas(table: Any, *, party: str) -> pd.DataFrame:
    """Return a DataFrame of anything that is one, exports Arrow, or is a 2-D array.

    Parameters
    ----------
    table : pandas.DataFrame, pyarrow.Table, polars.DataFrame, or array of shape (n, k)
    party : str
        For the error message.

    Raises
    ------
    InputError
        The object is none of these, or has repeated column names.
    """
    if isinstance(table, pd.DataFrame):
        frame = table
    elif hasattr(table, "__arrow_c_stream__"):
        import pyarrow as pa

        frame = pa.table(table).to_pandas()
    elif isinstance(table, np.ndarray) and table.ndim == 2:
        frame = pd.DataFrame(table).add_prefix("x")
    else:
        raise InputError(
            f"a table of type {type(table).__name__} cannot be read.",
            party=party,
            step="read data",
            fix="pass a pandas, polars or pyarrow table",
        )
    # A frame of our own: rows that the caller drops or adds later must not shift an alignment.
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    if frame.columns.has_duplicates:
        raise InputError(
            "the table has two columns of the same name.",
            party=party,
            step="read data",
            fix="rename one of them",
        )
    return frame


@dataclass(frozen=True)
class ColumnCoder:
    """How one column becomes float64.

    Attributes
    ----------
    name : str
    categories : tuple of str or None
        The dictionary of a categorical column, None for a numeric one.
    """

    name: str
    categories: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def is_categorical(self) -> bool:
        """Whether the column is coded by a dictionary."""
        return self.categories is not None

    def transform(self, frame: pd.DataFrame, *, party: str) -> npt.NDArray[np.float64]:
        """Encode the column of ``frame``; shape (n,).

        Raises
        ------
        InputError
            The column is missing, or is not numeric where the model expects numbers.
        """
        if self.name not in frame.columns:
            raise InputError(
                f"the column {self.name!r} is missing.",
                party=party,
                step="encode columns",
                fix="supply every column that the model was trained on",
            )
        column = frame[self.name]
        if self.categories is None:
            return _numbers(column, self.name, party)
        text = _text(column).to_numpy(object)
        codes = pd.Index(self.categories, dtype=object).get_indexer(text).astype(np.float64)
        codes[codes < 0] = np.nan
        return codes

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {"name": self.name, "categories": self.categories and list(self.categories)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ColumnCoder:
        """Rebuild from :meth:`to_dict`."""
        categories = data["categories"]
        return cls(str(data["name"]), None if categories is None else tuple(categories))


def fit_coders(
    frame: pd.DataFrame,
    *,
    party: str,
    exclude: Sequence[str] = (),
    features: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    max_categories: int = 1024,
) -> list[ColumnCoder]:
    """Decide how each feature column of a party is encoded.

    Parameters
    ----------
    frame : pandas.DataFrame
    party : str
    exclude : sequence of str
        Columns that are no features (id, label).
    features : sequence of str, optional
        The feature columns; by default all that are not excluded.
    categorical : sequence of str
        Columns to treat as categorical whatever their type.
    max_categories : int
        More distinct values than this are refused: such a column is an identifier.

    Raises
    ------
    InputError
        An unknown column, a column of an unusable type, or too many categories.
    """
    names = [str(c) for c in frame.columns if c not in set(exclude)]
    if features is not None:
        unknown = sorted(set(features) - set(names))
        if unknown:
            raise InputError(
                f"unknown feature columns: {', '.join(unknown)}.",
                party=party,
                step="select features",
                fix="name columns of this party's table",
            )
        names = [name for name in names if name in set(features)]
    unknown = sorted(set(categorical) - {str(c) for c in frame.columns})
    if unknown:
        raise InputError(
            f"unknown categorical columns: {', '.join(unknown)}.",
            party=party,
            step="select features",
            fix="name columns of this party's table",
        )
    coders = []
    for name in names:
        column = frame[name]
        if name not in categorical and pd.api.types.is_numeric_dtype(column.dtype):
            _numbers(column, name, party)
            coders.append(ColumnCoder(name))
            continue
        kind = column.dtype
        if pd.api.types.is_datetime64_any_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind):
            raise InputError(
                f"the column {name!r} holds dates.",
                party=party,
                step="select features",
                fix="derive a number from it, for instance an age in days",
            )
        values = sorted(set(_text(column).dropna().tolist()))
        if len(values) > max_categories:
            raise InputError(
                f"the column {name!r} has more than {max_categories} distinct values.",
                party=party,
                step="select features",
                fix="drop it or group its values; it looks like an identifier",
            )
        coders.append(ColumnCoder(name, tuple(values)))
    return coders


def _text(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype):
        names = _text(pd.Series(column.cat.categories)).to_numpy(object)
        codes = column.cat.codes.to_numpy()
        # Code -1, a missing value, takes the None at the end.
        return pd.Series(np.append(names, [None])[codes], index=column.index, dtype=object)
    # 1.0 and 1 are one category whether or not a missing value turned the column into floats.
    if pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=np.nan)
        text = [
            None if value != value else str(int(value)) if value.is_integer() else repr(value)
            for value in values.tolist()
        ]
        return pd.Series(text, index=column.index, dtype=object)
    missing = column.isna()
    return column.astype(str).astype(object).mask(missing, None)


def _numbers(column: pd.Series, name: str, party: str) -> npt.NDArray[np.float64]:
    try:
        if pd.api.types.is_complex_dtype(column.dtype):
            raise TypeError
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError(
            f"the column {name!r} is not numeric.",
            party=party,
            step="encode columns",
            fix="convert it, or declare it categorical",
        ) from None
    if np.isinf(values).any():
        raise InputError(
            f"the column {name!r} contains infinite values.",
            party=party,
            step="encode columns",
            fix="replace them by a number or by a missing value",
        )
    return values
