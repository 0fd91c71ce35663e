"""From the arguments of an estimator to the parameters of a forest."""

from __future__ import annotations

import numbers
from typing import Any

from sklearn.utils import check_random_state

from fedcredit.errors import InputError
from fedcredit.protocols.forest import ForestParams
from fedcredit.stats.tree_params import TreeParams

__all__ = ["forest_params"]

_STEP = "train: parameters"
_RANGES = "choose a value of the documented range"
_INTEGERS = {
    "n_estimators": (1, 1_000_000),
    "max_depth": (1, 8),
    "max_bins": (2, 65_535),
    "min_child_samples": (0, 2**31),
    "min_child_rows": (0, 2**31),
    "gradient_bits": (2, 24),
    "block": (1, 2**31),
    "early_stopping_rounds": (1, 1_000_000),
}
_OPTIONAL = ("block", "early_stopping_rounds")
_REALS = (
    "learning_rate",
    "min_child_weight",
    "min_split_gain",
    "reg_lambda",
    "subsample",
    "colsample_bytree",
    "validation_fraction",
    "mbit_per_second",
)


def forest_params(model: Any, seed: int | None = None) -> ForestParams:
    """Check the arguments of a tree estimator and collect them.

    Parameters
    ----------
    model : BaseVerticalGBDT
    seed : int, optional
        Takes the place of a seed that would be drawn at random.

    Raises
    ------
    InputError
        An argument is of another type or out of range.
    """
    for name, (least, most) in _INTEGERS.items():
        value = getattr(model, name)
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (whole and least <= value <= most) and (value is not None or name not in _OPTIONAL):
            raise InputError(
                f"{name} is not an integer from {least} to {most}.", step=_STEP, fix=_RANGES
            )
    for name in _REALS:
        if not isinstance(getattr(model, name), numbers.Real):
            raise InputError(f"{name} is not a number.", step=_STEP, fix=_RANGES)
    if seed is None or isinstance(model.random_state, numbers.Integral):
        seed = int(check_random_state(model.random_state).randint(2**31 - 1))
    try:
        return ForestParams(
            objective=model._objective,
            n_estimators=model.n_estimators,
            learning_rate=model.learning_rate,
            tree=TreeParams(
                max_depth=model.max_depth,
                lambda_l2=model.reg_lambda,
                min_child_samples=model.min_child_samples,
                min_child_rows=model.min_child_rows,
                min_child_weight=model.min_child_weight,
                min_split_gain=model.min_split_gain,
            ),
            subsample=model.subsample,
            colsample=model.colsample_bytree,
            hide_membership=model.hide_membership,
            precision=model.precision,
            backend=model.backend,
            gradient_bits=model.gradient_bits,
            block=model.block,
            mbit_per_second=model.mbit_per_second,
            seed=seed,
            early_stopping_rounds=model.early_stopping_rounds,
        )
    except InputError as error:
        error.fix = error.fix or _RANGES
        raise
