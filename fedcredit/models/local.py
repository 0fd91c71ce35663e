"""Frames of one party: what an estimator makes of plain arrays and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length, validate_data

from fedcredit.errors import InputError
from fedcredit.models.backend import InProcessBackend
from fedcredit.models.columns import to_pandas
from fedcredit.models.federation import Federation
from fedcredit.models.frame import FederatedFrame

__all__ = ["PLATFORM", "checked_table", "checked_training", "local_frame"]

PLATFORM = "platform"


def local_frame(table: Any) -> FederatedFrame:
    """Return a frame of a single party's table, in its own order.

    Parameters
    ----------
    table : pandas.DataFrame, Arrow table, or array of shape (n, k)
    """
    frame = to_pandas(table, party=PLATFORM)
    federation = Federation(InProcessBackend(PLATFORM, {}), frame)
    return FederatedFrame(
        federation,
        frame_id="local",
        key="",
        order=np.arange(len(frame), dtype=np.int64),
        providers=(),
    )


def checked_table(estimator: BaseEstimator, X: Any, *, reset: bool) -> pd.DataFrame:
    """Check a table of one party as scikit-learn does; return it with the model's column names.

    Tables keep their names and types; arrays and lists become numbers in columns ``x0``, ``x1``
    and so on.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets ``n_features_in_`` and, from a table, ``feature_names_in_`` if ``reset``, and is
        compared with otherwise.
    X : table or array_like, shape (n, k)
    reset : bool
        Whether the estimator is being fitted.

    Raises
    ------
    ValueError, TypeError
        As scikit-learn raises them.
    """
    if isinstance(X, pd.DataFrame) or hasattr(X, "__arrow_c_stream__"):
        frame = to_pandas(X, party=PLATFORM)
        validate_data(estimator, frame, reset=reset, skip_check_array=True)
    else:
        frame = pd.DataFrame(
            validate_data(
                estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan"
            )
        )
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        names = [f"x{i}" for i in range(frame.shape[1])]
    return frame.set_axis(list(names), axis="columns")


def checked_training(
    estimator: BaseEstimator, X: Any, y: Any, *, numeric: bool
) -> tuple[pd.DataFrame, npt.NDArray[Any]]:
    """Check a table and its target as scikit-learn does; see :func:`checked_table`.

    Parameters
    ----------
    estimator : BaseEstimator
    X : table or array_like, shape (n, k)
    y : array_like, shape (n,)
    numeric : bool
        Whether the target has to be a number.

    Raises
    ------
    InputError
        ``y`` is the name of a column, which only a frame has.
    ValueError, TypeError
        As scikit-learn raises them.
    """
    if isinstance(y, str):
        raise InputError(
            "y names a column, but the rows are no federated frame.",
            step="train",
            fix="pass the column itself as y and leave it out of X",
        )
    target = validate_data(estimator, "no_validation", y, reset=True, y_numeric=numeric)
    table = checked_table(estimator, X, reset=True)
    check_consistent_length(table, target)
    return table, target
