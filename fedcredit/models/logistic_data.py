"""From a federated frame to what the label holder's role of a logistic regression works on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import FedCreditError, InputError
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.columns import fit_coders
from fedcredit.models.fitting import JobRows, choose_columns, row_values
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.linear_columns import NumericColumns, check_columns, fit_numeric

__all__ = ["Chosen", "OwnColumns", "choose", "fitted_binner", "named_positions", "row_offset"]

Floats = npt.NDArray[np.float64]
_STEP = "train"


@dataclass(frozen=True)
class Chosen:
    """Which columns a linear model uses, and which signs they are held to, by party.

    Attributes
    ----------
    own : tuple of str
        Labels of the platform.
    providers : dict of str to tuple of str
        Labels per provider that takes part.
    signs : dict of str to dict of str to int
        By party and label.
    """

    own: tuple[str, ...]
    providers: dict[str, tuple[str, ...]]
    signs: dict[str, dict[str, int]]


def choose(
    frame: FederatedFrame,
    *,
    features: Sequence[str] | None,
    signs: Mapping[str, int] | None,
    exclude: Sequence[str],
    binner: VerticalBinner | None,
) -> Chosen:
    """Sort columns and signs by party.

    Parameters
    ----------
    frame : FederatedFrame
    features : sequence of str, optional
        ``party.label``; all by default.
    signs : mapping of ``party.label`` to -1, 0 or 1, optional
    exclude : sequence of str
        Columns of the platform that are no features.
    binner : VerticalBinner, optional
        Fitted; its usable features are all there are.

    Raises
    ------
    InputError
        A name is unknown, a sign is out of range or of a column that the model does not use, or
        no column is left.
    """
    if any(sign not in (-1, 0, 1) for sign in (signs or {}).values()):
        raise InputError(
            "a sign constraint is neither -1, 0 nor 1.",
            step=f"{_STEP}: parameters",
            fix="use 1 for a coefficient that is not negative, -1 for one that is not positive",
        )
    platform = frame.federation.platform
    columns = choose_columns(frame, features, signs)
    use = columns.use
    if binner is None:
        own = [name for name in _own_names(frame) if name not in set(exclude)]
        theirs = {name: frame.labels.get(name, ()) for name in frame.providers}
    else:
        own = list(binner.labels_of(platform))
        theirs = {name: binner.labels_of(name) for name in frame.providers}
        _require_binned(features, binner, platform)
    if use is not None:
        _require_features(use.get(platform, ()), own)
        own = [name for name in own if name in use.get(platform, ())]
        theirs = {
            name: tuple(label for label in labels if label in use.get(name, ()))
            for name, labels in theirs.items()
        }
    providers = {name: tuple(labels) for name, labels in theirs.items() if labels}
    if not own and not providers:
        raise InputError(
            "there are no features.", step=_STEP, fix="name some of frame.columns as features"
        )
    known = {platform: tuple(own), **providers}
    for party, constrained in columns.monotone.items():
        unused = sorted(set(constrained) - set(known.get(party, ())))
        if unused:
            raise InputError(
                f"sign_constraints names columns that the model does not use: "
                f"{', '.join(f'{party}.{label}' for label in unused)}.",
                step=f"{_STEP}: parameters",
                fix="add them to features, or take them out of sign_constraints",
            )
    return Chosen(tuple(own), providers, columns.monotone)


def _own_names(frame: FederatedFrame) -> list[str]:
    return [str(name) for name in frame.platform.columns]


def _require_features(names: Sequence[str], known: Sequence[str]) -> None:
    unusable = sorted(set(names) - set(known))
    if unusable:
        raise InputError(
            f"{', '.join(unusable)} cannot be a feature: it is the label, a weight or an offset.",
            step=f"{_STEP}: parameters",
            fix="take it out of features",
        )


def _require_binned(features: Sequence[str] | None, binner: VerticalBinner, platform: str) -> None:
    usable = set(binner.usable())
    missing = [n for n in features or () if not {n, f"{platform}.{n}"} & usable]
    if missing:
        raise InputError(
            f"the binner has no usable bins for {', '.join(missing)}.",
            step=f"{_STEP}: parameters",
            fix="use names of binner.usable()",
        )


def fitted_binner(binner: Any, X: Any, y: Any) -> VerticalBinner:
    """Return the binner if it is fitted, as it is, else a copy fitted on these rows.

    scikit-learn's searches hand out copies that are not fitted; each fold then bins anew.
    """
    try:
        check_is_fitted(binner)
    except NotFittedError:
        fresh: VerticalBinner = clone(binner)
        return fresh.fit(X, y)
    chosen: VerticalBinner = binner
    return chosen


@dataclass(frozen=True, eq=False)
class OwnColumns:
    """The platform's columns of a fit.

    Attributes
    ----------
    labels : tuple of str
    numeric : NumericColumns or None
        None with a binner.
    matrix : ndarray of float64, shape (n, d)
    """

    labels: tuple[str, ...]
    numeric: NumericColumns | None
    matrix: Floats = field(repr=False)

    @classmethod
    def of(
        cls,
        rows: JobRows,
        labels: Sequence[str],
        *,
        binner: VerticalBinner | None,
        clip_quantile: float,
        dependent: bool,
    ) -> OwnColumns:
        """Encode the platform's columns of a job.

        Raises
        ------
        InputError
            A column is categorical, has missing values, is constant or, unless ``dependent``, a
            combination of others.
        """
        frame = rows.frame
        federation = frame.federation
        party = federation.platform
        numeric = None
        if binner is not None:
            names = [f"{party}.{label}" for label in labels]
            matrix = binner.transform_own(frame, names)[names].to_numpy(np.float64)
        else:
            _refuse_categories(frame.platform, labels, federation.categorical, party)
            numeric = fit_numeric(
                federation.table.frame, labels, party=party, clip_quantile=clip_quantile
            )
            matrix = numeric.matrix(frame.platform, party=party)
        check_columns(matrix, labels, party=party, dependent=dependent)
        return cls(tuple(labels), numeric, matrix)


def _refuse_categories(
    table: pd.DataFrame, labels: Sequence[str], categorical: Sequence[str], party: str
) -> None:
    # Reads every column once, so that dates and other types get the error that they get elsewhere.
    coders = fit_coders(
        table,
        party=party,
        features=labels,
        categorical=[name for name in categorical if name in labels],
    )
    named = [repr(coder.name) for coder in coders if coder.is_categorical]
    if named:
        raise InputError(
            f"categorical columns have no coefficient: {', '.join(named)}.",
            party=party,
            step="linear model: columns",
            fix="bin them: use a VerticalBinner; or leave them out of features",
        )


def row_offset(frame: FederatedFrame, offset: Any) -> Floats:
    """Return the offset of the rows in ascending order of the alignment; shape (n,).

    Raises
    ------
    InputError
        It has another shape, or a value that is no finite number.
    """
    try:
        values = row_values(frame, offset, "offset").astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, FedCreditError):
            raise
        values = np.full(1, np.nan)
    if not np.isfinite(values).all():
        raise InputError(
            "offset has values that are missing, infinite or no numbers.",
            step=_STEP,
            fix="pass one finite number per row, on the scale of log odds",
        )
    return values[np.argsort(frame.rows, kind="stable")]


def named_positions(error: InputError, labels: Sequence[str]) -> InputError:
    """Return an error of a fit that names columns instead of their positions."""
    head, colon, tail = error.reason.partition("(positions from 0):")
    if colon:
        named = re.sub(r"\d+", lambda found: repr(labels[int(found[0])]), tail)
        error.reason = head.rstrip() + ":" + named
        error.args = (error.reason,)
    return error
