"""Labels of a binary classifier: what may be one, and how it is coded."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.multiclass import type_of_target

from fedcredit.errors import InputError
from fedcredit.models.fitting import row_values
from fedcredit.models.frame import FederatedFrame

__all__ = ["binary_target", "named_columns"]


def binary_target(y: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return the two classes in ascending order, shape (2,), and the codes 0.0 and 1.0 of labels.

    Raises
    ------
    InputError
        Labels are missing, continuous, all alike, or of more than two values.
    """
    if pd.isna(y).any():
        raise InputError(
            "the label has missing values.", step="train", fix="drop the rows without a label"
        )
    kind = _label_type(y)
    if kind not in ("binary", "multiclass"):
        raise InputError(
            f"Unknown label type: {kind}.",
            step="train",
            fix="give a label of two values, or use the regressor",
        )
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) == 1:
        raise InputError(
            "the classifier can't train when only one class is present.",
            step="train",
            fix="choose rows with and without the event",
        )
    if len(classes) > 2:
        raise InputError(
            f"Only binary classification is supported. The type of the target is {kind}.",
            step="train",
            fix="merge the classes into two",
        )
    return classes, codes.astype(np.float64)


def _label_type(y: npt.NDArray[Any]) -> str:
    with warnings.catch_warnings():
        # More than two classes are refused; that there are suspiciously many is no news then.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return str(type_of_target(y))
        except (TypeError, ValueError):
            return "mixed"


def named_columns(X: Any, y: Any, weight: Any) -> tuple[Any, Any]:
    """Put the values of the platform's columns in the place of their names."""
    if not isinstance(X, FederatedFrame):
        return y, weight
    return row_values(X, y, "y"), None if weight is None else row_values(X, weight, "sample_weight")
