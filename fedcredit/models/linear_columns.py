"""One party's columns of a linear model: numbers in units of their own, without gaps.

A column is centred and divided by a unit before it enters a protocol or a penalty. Centre and unit
are two digits of its mean and standard deviation over the party's *whole* table: what the party
may tell others of them, to put coefficients into the columns' own units, then does not depend on
the rows that somebody chooses, and no single enterprise shows in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import qr

from fedcredit.errors import InputError
from fedcredit.models.columns import ColumnCoder

__all__ = ["NumericColumns", "check_columns", "fit_numeric", "whole_units"]

Floats = npt.NDArray[np.float64]

_STEP = "linear model: columns"
#: Share of a column's size that its best combination of others may miss to count as none.
_DEPENDENT = 1e-9


@dataclass(frozen=True, eq=False)
class NumericColumns:
    """How a party's columns become a matrix.

    Attributes
    ----------
    names : tuple of str
        Of the table's columns.
    centre, scale : ndarray of float64, shape (d,)
    low, high : ndarray of float64, shape (d,)
        Values beyond are taken for these; infinite where nothing is clipped.
    """

    names: tuple[str, ...]
    centre: Floats
    scale: Floats
    low: Floats = field(repr=False)
    high: Floats = field(repr=False)

    def matrix(self, frame: pd.DataFrame, *, party: str) -> Floats:
        """Return the columns of these rows in their units, shape (n, d).

        Raises
        ------
        InputError
            A column is missing, not numeric, or has a missing or infinite value.
        """
        out = np.empty((len(frame), len(self.names)))
        for j, name in enumerate(self.names):
            values = _values(frame, name, party)
            if np.isnan(values).any():
                raise InputError(
                    f"the column {name!r} has missing values (NaN).",
                    party=party,
                    step=_STEP,
                    fix="bin it: use a VerticalBinner; or impute it",
                )
            clipped = np.clip(values, self.low[j], self.high[j])
            out[:, j] = (clipped - self.centre[j]) / self.scale[j]
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "names": list(self.names),
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NumericColumns:
        """Rebuild from :meth:`to_dict`."""
        arrays = (np.array(data[key], np.float64) for key in ("centre", "scale", "low", "high"))
        return cls(tuple(data["names"]), *arrays)


def fit_numeric(
    table: pd.DataFrame, names: Sequence[str], *, party: str, clip_quantile: float = 0.0
) -> NumericColumns:
    """Choose centre, unit and clipping of columns by a party's whole table.

    Parameters
    ----------
    table : pandas.DataFrame
    names : sequence of str
    party : str
    clip_quantile : float
        Share of a column's values to clip at either end, below 0.5; 0 for none.

    Raises
    ------
    InputError
        A column is not numeric or has infinite values.
    """
    low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    centre, scale = np.zeros(len(names)), np.ones(len(names))
    for j, name in enumerate(names):
        values = _values(table, name, party)
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        if clip_quantile:
            low[j], high[j] = np.quantile(values, [clip_quantile, 1.0 - clip_quantile])
        centre[j], scale[j] = whole_units(np.clip(values, low[j], high[j]))
    return NumericColumns(tuple(names), centre, scale, low, high)


def whole_units(values: Floats) -> tuple[float, float]:
    """Return a centre and a unit of values: mean and standard deviation, coarsely rounded.

    Parameters
    ----------
    values : ndarray of float64, shape (n,), n at least 1

    Returns
    -------
    centre : float
        The mean, to a tenth of the unit.
    scale : float
        The standard deviation to two digits; 1 if it is zero.
    """
    mean, deviation = float(values.mean()), float(values.std())
    # Equal numbers differ from their mean by rounding.
    if deviation <= 1e-13 * max(abs(mean), 1e-300):
        return mean, 1.0
    scale = float(f"{deviation:.1e}")
    return round(10.0 * mean / scale) * scale / 10.0, scale


def _values(frame: pd.DataFrame, name: str, party: str) -> Floats:
    if name in frame.columns and not pd.api.types.is_numeric_dtype(frame[name].dtype):
        raise InputError(
            f"the column {name!r} is categorical.",
            party=party,
            step=_STEP,
            fix="bin it: use a VerticalBinner; or leave it out of features",
        )
    return ColumnCoder(name).transform(frame, party=party)


def check_columns(
    matrix: Floats, names: Sequence[str], *, party: str, dependent: bool = False
) -> None:
    """Refuse columns that cannot get a coefficient.

    Parameters
    ----------
    matrix : ndarray of float64, shape (n, d)
    names : sequence of str
    party : str
    dependent : bool
        Whether columns may depend linearly on each other (with a ridge penalty they may).

    Raises
    ------
    InputError
        A column is constant, or a linear combination of others.
    """
    if not matrix.shape[1]:
        return
    centred = matrix - matrix.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    flat = size <= 1e-12 * np.sqrt((matrix**2).sum(axis=0))
    if flat.any():
        raise InputError(
            f"{_listed(names, flat)} constant over the rows of the fit.",
            party=party,
            step=_STEP,
            fix="leave it out of features",
        )
    if dependent:
        return
    # QR with column pivoting (Businger & Golub, Numerische Mathematik 7, 1965).
    triangle, order = qr(centred / size, mode="r", pivoting=True, check_finite=False)
    # With fewer rows than columns the last ones have no entry on the diagonal.
    kept = np.abs(np.diagonal(triangle)) > _DEPENDENT
    rest = np.ones(len(names), np.bool_)
    rest[order[: len(kept)][kept]] = False
    if rest.any():
        raise InputError(
            f"{_listed(names, rest)} a linear combination of this party's other columns.",
            party=party,
            step=_STEP,
            fix="leave it out of features, or set C",
        )


def _listed(names: Sequence[str], which: npt.NDArray[np.bool_]) -> str:
    chosen = [repr(name) for name, is_one in zip(names, which, strict=True) if is_one]
    verb = "is" if len(chosen) == 1 else "are"
    return f"the column{'s' if len(chosen) > 1 else ''} {', '.join(chosen)} {verb}"
