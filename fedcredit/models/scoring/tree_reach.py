"""From a party's columns to the leaves that its splits leave reachable: the quick part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from fedcredit.models.columns import ColumnCoder
from fedcredit.stats.binning import FeatureBins, apply_bins

__all__ = ["ColumnBinner", "rule_out"]

Integers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]


class ColumnBinner:
    """Finds the bins of one column as prediction does; quick for plain numbers and texts.

    Parameters
    ----------
    coder : ColumnCoder
    bins : FeatureBins
    """

    def __init__(self, coder: ColumnCoder, bins: FeatureBins) -> None:
        self._coder, self._bins = coder, bins
        names = coder.categories or ()
        codes = apply_bins(bins, np.arange(len(names), dtype=np.float64))
        self._known = dict(zip(names, codes.tolist(), strict=True))
        self._unknown = int(apply_bins(bins, [np.nan])[0])

    def __call__(self, frame: pd.DataFrame, party: str) -> npt.NDArray[np.integer[Any]]:
        """Return the bin of each row, shape (n,).

        Raises
        ------
        InputError
            The column is missing, or of another type than in the training.
        """
        if self._coder.name in frame.columns:
            values = frame[self._coder.name].to_numpy()
            if self._coder.is_categorical:
                if values.dtype == object and all(map(_is_plain, values)):
                    known, unknown = self._known, self._unknown
                    return np.array([known.get(value, unknown) for value in values], np.int64)
            elif values.dtype.kind in "fiu" and not np.isinf(values).any():
                codes = self._bins.edges.searchsorted(values.astype(np.float64))
                codes[np.isnan(values)] = self._unknown
                return codes
        # Other types, and errors: the long way of training and prediction.
        return apply_bins(self._bins, self._coder.transform(frame, party=party))


def _is_plain(value: object) -> bool:
    """Tell texts and missing values, for which the coder's text is the value, from the rest."""
    return type(value) is str or value is None or (type(value) is float and value != value)


@njit(cache=True, nogil=True)
def rule_out(
    bins: npt.NDArray[np.uint16],
    tree: Integers,
    first: Integers,
    half: Integers,
    feature: Integers,
    threshold: Integers,
    default_left: Bits,
    missing_bin: Integers,
    category_start: Integers,
    categories: Integers,
    reach: Bits,
) -> None:
    """Clear the leaves on the side that each split turns the row away from.

    The leaves below a node are neighbours, so a side is one run of them.
    """
    for i in range(len(bins)):
        for k in range(len(tree)):
            b = np.int64(bins[i, feature[k]])
            low = category_start[k]
            high = category_start[k + 1]
            if high > low:
                goes_left = False
                for j in range(low, high):
                    goes_left = goes_left or categories[j] == b
            elif b == missing_bin[k]:
                goes_left = default_left[k]
            else:
                goes_left = b <= threshold[k]
            start = first[k] + (half[k] if goes_left else 0)
            for leaf in range(start, start + half[k]):
                reach[i, tree[k], leaf] = False
