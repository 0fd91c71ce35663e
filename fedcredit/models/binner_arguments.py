"""What the arguments of a binner mean, checked before anything leaves the platform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError
from fedcredit.models.binner_tables import MergeOptions
from fedcredit.models.fitting import choose_columns
from fedcredit.models.frame import FederatedFrame
from fedcredit.stats.bin_merging import Method, Trend
from fedcredit.stats.woe import Convention

__all__ = ["binary_target", "by_party", "full_name", "merge_options", "trends_by_party"]

_STEP = "bin: parameters"
_MOST_BINS = 255


def merge_options(binner: Any) -> MergeOptions:
    """Check a binner's arguments and return those that say how bins are merged and weighed.

    Raises
    ------
    InputError
        One of them is out of its domain.
    """
    _one_of("method", binner.method, get_args(Method))
    _one_of("convention", binner.convention, get_args(Convention))
    for name in ("max_bins", "prebins"):
        value = getattr(binner, name)
        if not _is_number(value, int) or not 2 <= value <= _MOST_BINS:
            raise InputError(
                f"{name} is no whole number.", step=_STEP, fix=f"use one from 2 to {_MOST_BINS}"
            )
    share, smoothing = binner.min_bin_share, binner.smoothing
    if not _is_number(share, float) or not 0 <= share <= 0.5:
        raise InputError(
            "min_bin_share is no such share.", step=_STEP, fix="use a number from 0 to 0.5"
        )
    if not _is_number(smoothing, float) or not (np.isfinite(smoothing) and smoothing >= 0):
        raise InputError(
            "smoothing is no such number.", step=_STEP, fix="use 0 or more, usually 0.5"
        )
    return MergeOptions(
        method=binner.method,
        max_bins=int(binner.max_bins),
        min_bin_share=float(binner.min_bin_share),
        smoothing=float(binner.smoothing),
        convention=binner.convention,
    )


def _is_number(value: Any, kind: type) -> bool:
    kinds = (int, np.integer) if kind is int else (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _one_of(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} is unknown.", step=_STEP, fix=f"use one of {', '.join(choices)}")


def trends_by_party(
    frame: FederatedFrame, trend: str | Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Sort trends of single features by party and label.

    Raises
    ------
    InputError
        A trend or a feature is unknown.
    """
    named = {} if isinstance(trend, str) else dict(trend)
    for value in [trend] if isinstance(trend, str) else named.values():
        _one_of("trend", value, get_args(Trend))
    out: dict[str, dict[str, str]] = {}
    for name, value in named.items():
        party, label = _party_and_label(frame, name)
        out.setdefault(party, {})[label] = value
    return out


def by_party(
    frame: FederatedFrame, values: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Sort split points or special codes by party and label.

    Raises
    ------
    InputError
        A feature is unknown, or its values are not finite numbers.
    """
    out: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, numbers in values.items():
        party, label = _party_and_label(frame, name)
        try:
            array = np.asarray(numbers, np.float64)
        except (TypeError, ValueError):
            array = np.full(1, np.nan)
        if array.ndim != 1 or not np.isfinite(array).all():
            raise InputError(
                "split points or special codes are no finite numbers.",
                step=_STEP,
                fix="pass a list of numbers for each feature",
            )
        out.setdefault(party, {})[label] = tuple(array.tolist())
    return out


def _party_and_label(frame: FederatedFrame, name: str) -> tuple[str, str]:
    use = choose_columns(frame, [name], None).use
    assert use is not None
    ((party, (label,)),) = use.items()
    return party, label


def full_name(name: str, known: Iterable[str], platform: str) -> str:
    """Return ``party.label`` of a feature; the platform's may be named without the party.

    Raises
    ------
    InputError
        The feature was not binned.
    """
    names = set(known)
    for candidate in (name, f"{platform}.{name}"):
        if candidate in names:
            return candidate
    raise InputError(
        f"there is no binned feature {name!r}.", step="binning", fix="use one of binner.names_"
    )


def binary_target(
    y: npt.NDArray[Any], event: Any = None
) -> tuple[npt.NDArray[Any], Any, npt.NDArray[np.int64]]:
    """Return the two classes, which of them is the event, and 1 for an event and 0 else.

    Parameters
    ----------
    y : ndarray, shape (n,)
    event : optional
        The larger class by default.

    Raises
    ------
    InputError
        Labels are missing, of one class or of more than two, or none of them is the event.
    """
    if pd.isna(y).any():
        raise InputError(
            "labels are missing.", step="bin", fix="choose rows whose outcome is known"
        )
    try:
        classes = np.unique(y)
    except TypeError:
        classes = np.zeros(0)
    if len(classes) != 2:
        raise InputError(
            "labels are of a single class."
            if len(classes) == 1
            else "labels are not of two classes.",
            step="bin",
            fix="pass labels of 0 and 1, or of two other classes",
        )
    chosen = classes[1] if event is None else event
    hits = [i for i in range(2) if classes[i] == chosen]
    if len(hits) != 1:
        raise InputError(
            "the event is none of the classes.", step="bin", fix="name one of the two as event"
        )
    chosen = classes[hits[0]]
    return classes, chosen, np.asarray(y == chosen, np.int64)
