"""Values of a predicate: thresholds as text and as numbers, columns by their type."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError

__all__ = ["Scalar", "column_values", "scalar_text", "threshold_number"]

#: A threshold or value; dates are ISO text, ``2025-12-31``.
Scalar = bool | int | float | str

_STEP = "predicate"
_EPOCH = datetime.date(1970, 1, 1)


def scalar_text(value: Scalar) -> str:
    """Return the one text of a threshold or value.

    >>> [scalar_text(value) for value in (500000.0, 0.1, True, "2025-12-31", 10**7)]
    ['500000', '0.1', 'true', '2025-12-31', '10000000']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def threshold_number(value: Scalar, kind: str) -> float:
    """Return a threshold or value as what columns of the type are compared with."""
    fits: bool = {
        "flag": isinstance(value, bool),
        "date": isinstance(value, str),
        "category": isinstance(value, str),
    }.get(kind, isinstance(value, int | float) and not isinstance(value, bool))
    if not fits:
        raise InputError(f"a threshold or value is not of the type {kind}.", step=_STEP)
    if kind == "category":
        return 0.0
    if kind == "date":
        try:
            return float((datetime.date.fromisoformat(str(value)) - _EPOCH).days)
        except ValueError:
            raise InputError("a threshold is no date.", step=_STEP, fix="2025-12-31") from None
    number = float(value)
    if not np.isfinite(number):
        raise InputError("a threshold or value is not finite.", step=_STEP)
    return number


def column_values(
    frame: pd.DataFrame, name: str, kind: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return a column as a field of a type, and where it is known.

    Parameters
    ----------
    frame : pandas.DataFrame
    name, kind : str
        The field and its type in the catalog.

    Returns
    -------
    values : ndarray, shape (n,)
        float64, whole numbers, flags as 0 and 1 and dates as days since 1970 included; text as
        objects for categories. Undefined where not known.
    known : ndarray of bool, shape (n,)

    Raises
    ------
    InputError
        There is no such column, or it is not of the type; no value is quoted.
    """
    if name not in frame.columns:
        raise InputError(
            f"there is no column {name!r}.", step=_STEP, fix="correct the catalog or the table"
        )
    series = frame[name]
    known = ~series.isna().to_numpy(np.bool_)
    values: npt.NDArray[Any]
    try:
        if kind in ("category", "id"):
            # A code has one text, also where a missing one elsewhere made the column floats.
            texts = [str(value).removesuffix(".0") for value in series[known].tolist()]
            values = np.full(len(series), "", object)
            values[known] = texts
            return values, known
        if kind == "date":
            days = pd.to_datetime(series, format="ISO8601").to_numpy("datetime64[D]")
            values = days.astype(np.int64).astype(np.float64)
            fits = True
        else:
            if series[known].map(type).isin([str, bytes]).any():
                raise TypeError
            values = pd.to_numeric(series).to_numpy(np.float64, na_value=np.nan)
            seen = values[known]
            fits = {
                "flag": bool(np.isin(seen, (0.0, 1.0)).all()),
                "integer": bool((np.isfinite(seen) & (seen == np.rint(seen))).all()),
            }.get(kind, bool(np.isfinite(seen).all()))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"the column {name!r} does not hold values of type {kind}.",
            step=_STEP,
            fix="correct the type in the catalog, or the table",
        )
    return values, known
