"""Per-row scores, which enter a report's making and do not stay in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError

__all__ = ["SPLITS", "ModelName", "Scores", "SplitName", "best_split", "find"]

ModelName = Literal["joint", "alone"]
SplitName = Literal["train", "valid", "test", "out_of_time"]
#: Parts of the data, best evidence first.
SPLITS: tuple[SplitName, ...] = ("test", "out_of_time", "valid", "train")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """One model's scores on one part of the data.

    Attributes
    ----------
    name : {"joint", "alone"}
        The joint model, or the model that the platform gets from its own data.
    split : {"train", "valid", "test", "out_of_time"}
    y_true : ndarray, shape (n,)
        Labels 0 and 1 (1 = event), or the values of a regression target.
    y_score : ndarray, shape (n,)
        Probability of the event, or the predicted value.
    weights : ndarray of float, shape (n,), optional
        Sample weights, not negative; rows of weight zero are left out.

    Raises
    ------
    InputError
        Lengths that differ, no rows, values that are not finite, negative weights.
    """

    name: ModelName
    split: SplitName
    y_true: npt.NDArray[np.generic]
    y_score: npt.NDArray[np.generic]
    weights: npt.NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        step = f"report: scores {self.name}, {self.split}"
        if self.name not in ("joint", "alone") or self.split not in SPLITS:
            raise InputError(
                "scores are of an unknown model or split.",
                step="report",
                fix="name is joint or alone; split is train, valid, test or out_of_time",
            )
        for attribute in ("y_true", "y_score", "weights"):
            given = getattr(self, attribute)
            if given is None:
                continue
            try:
                values = np.asarray(given, dtype=np.float64)
            except (TypeError, ValueError):
                raise InputError(f"{attribute} is not numeric.", step=step) from None
            if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
                raise InputError(
                    f"{attribute} must be one column of finite numbers.",
                    step=step,
                    fix="pass arrays of shape (n,), for a classifier the event's probability",
                )
            object.__setattr__(self, attribute, values)
        if len(self.y_true) != len(self.y_score):
            raise InputError("y_true and y_score differ in length.", step=step)
        if self.weights is not None:
            if len(self.weights) != len(self.y_true):
                raise InputError("weights and y_true differ in length.", step=step)
            counted = self.weight > 0
            if float(np.min(self.weight)) < 0 or not counted.any():
                raise InputError("weights are negative, or all of them zero.", step=step)
            if not counted.all():
                for attribute in ("y_true", "y_score", "weights"):
                    object.__setattr__(self, attribute, getattr(self, attribute)[counted])

    @property
    def truth(self) -> FloatArray:
        """Labels as float64."""
        return np.asarray(self.y_true, dtype=np.float64)

    @property
    def score(self) -> FloatArray:
        """Scores as float64."""
        return np.asarray(self.y_score, dtype=np.float64)

    @property
    def weight(self) -> FloatArray:
        """Weights as float64; ones where none were given."""
        if self.weights is None:
            return np.ones(len(self.y_true))
        return np.asarray(self.weights, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.y_true)

    def __repr__(self) -> str:
        return f"Scores({self.name!r}, {self.split!r}, {len(self)} rows)"


def find(scores: Sequence[Scores], name: str, split: str) -> Scores | None:
    """Return the scores of one model on one part, or None."""
    return next((s for s in scores if s.name == name and s.split == split), None)


def best_split(available: Collection[str]) -> SplitName | None:
    """Return the part of the data that is the best evidence among those available, or None."""
    return next((split for split in SPLITS if split in available), None)
