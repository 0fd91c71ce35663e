"""From a federated frame to what the label holder's role trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError
from fedcredit.models.columns import ColumnCoder, fit_coders
from fedcredit.models.frame import FederatedFrame, split_rows
from fedcredit.protocols.forest import LabelData
from fedcredit.stats.binning import FeatureBins, bin_matrix, fit_bins

__all__ = [
    "Columns",
    "JobRows",
    "OwnFeatures",
    "choose_columns",
    "choose_rows",
    "fit_own",
    "label_columns",
    "label_data",
    "row_values",
    "with_rows",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Which columns a model uses and which of them are constrained, by party.

    Attributes
    ----------
    use : dict of str to tuple of str, or None
        Labels per party; None for all.
    monotone : dict of str to dict of str to int
        Signs per party and label.
    """

    use: dict[str, tuple[str, ...]] | None
    monotone: dict[str, dict[str, int]]


def _party_of(frame: FederatedFrame, name: str) -> tuple[str, str]:
    platform = frame.federation.platform
    party, _, label = name.partition(".")
    if label and party in (platform, *frame.providers):
        known = f"{party}.{label}" in frame.columns
        if known:
            return party, label
    if f"{platform}.{name}" in frame.columns:
        return platform, name
    raise InputError(
        f"there is no column {name!r}.",
        step="select features",
        fix="use the names in frame.columns",
    )


def choose_columns(
    frame: FederatedFrame,
    features: Sequence[str] | None,
    monotone: Mapping[str, int] | None,
) -> Columns:
    """Sort column names by party.

    Raises
    ------
    InputError
        A name is unknown, or a sign is not -1 or 1.
    """
    use: dict[str, tuple[str, ...]] | None = None
    if features is not None:
        use = {}
        for name in features:
            party, label = _party_of(frame, name)
            use[party] = (*use.get(party, ()), label)
    signs: dict[str, dict[str, int]] = {}
    for name, sign in (monotone or {}).items():
        if sign not in (-1, 0, 1):
            raise InputError(
                "a monotone constraint is neither -1, 0 nor 1.",
                step="train: parameters",
                fix="use 1 for rising, -1 for falling",
            )
        party, label = _party_of(frame, name)
        if sign:
            signs.setdefault(party, {})[label] = int(sign)
    return Columns(use, signs)


@dataclass(frozen=True, eq=False)
class JobRows:
    """The rows of a training job in ascending order of the alignment.

    Attributes
    ----------
    frame : FederatedFrame
        Train and validation rows together.
    is_train : ndarray of bool, shape (n,)
    y : ndarray, shape (n,)
        As given; not yet coded.
    weight : ndarray of float64, shape (n,), or None
    """

    frame: FederatedFrame
    is_train: npt.NDArray[np.bool_] = field(repr=False)
    y: npt.NDArray[Any] = field(repr=False)
    weight: Floats | None = field(repr=False)


def row_values(frame: FederatedFrame, values: Any, what: str) -> npt.NDArray[Any]:
    """Return one value per row of a frame, given as an array or by a column's name; shape (n,).

    Parameters
    ----------
    frame : FederatedFrame
    values : str or array_like of shape (n,)
    what : str
        For the error message.

    Raises
    ------
    InputError
        The column is unknown, or the array has another shape.
    """
    array = _plain(frame.column(values) if isinstance(values, str) else values)
    if array.shape != (len(frame),):
        raise InputError(
            f"{what} has shape {array.shape}, the frame has {len(frame)} rows.",
            step="train",
            fix=f"pass one value per row or the name of a column as {what}",
        )
    return array


def _plain(values: Any) -> npt.NDArray[Any]:
    """Return a numpy array; nullable numbers and bools become floats if any is missing."""
    types = pd.api.types
    if types.is_extension_array_dtype(values) and types.is_numeric_dtype(values):
        if pd.isna(values).any():
            return np.asarray(values.to_numpy(np.float64, na_value=np.nan))
        return np.asarray(values.to_numpy())
    return np.asarray(values)


def label_columns(rows: JobRows, y: Any, weight: Any) -> tuple[str, ...]:
    """Return the platform's columns that are label or weight, hence no features.

    These are the columns named, and, for labels given as an array, every column with the same
    value in every row: rows and labels are split separately by scikit-learn's searches and
    cross-validation, so the label's column still stands in the frame.
    """
    prefix = f"{rows.frame.federation.platform}."
    named = [name.removeprefix(prefix) for name in (y, weight) if isinstance(name, str)]
    table = rows.frame.platform
    if not isinstance(y, str):
        label = pd.Series(rows.y).astype(object)
        named += [str(n) for n in table.columns if table[n].astype(object).equals(label)]
    return tuple(dict.fromkeys(named))


def choose_rows(
    frame: FederatedFrame,
    y: Any,
    weight: Any,
    validation: FederatedFrame | None,
    *,
    fraction: float | None,
    stratify: bool,
    seed: int,
) -> JobRows:
    """Put train and validation rows into one ascending order.

    Parameters
    ----------
    frame : FederatedFrame
    y, weight : str or array
    validation : FederatedFrame, optional
    fraction : float, optional
        Share of ``frame`` to hold out if there is no validation frame; None holds out nothing.
    stratify : bool
        Keep the share of events when holding out.
    seed : int

    Raises
    ------
    InputError
        Rows occur twice, or values do not fit.
    """
    if len(frame) < 2:
        found = "1 sample" if len(frame) else "no rows"
        raise InputError(
            f"the frame has {found}; training needs at least 2.",
            step="train",
            fix="choose more rows",
        )
    labels = row_values(frame, y, "y")
    weights = None if weight is None else row_values(frame, weight, "sample_weight")
    is_train = np.ones(len(frame), np.bool_)
    rows = frame.rows
    if validation is not None:
        if validation.frame_id != frame.frame_id or not isinstance(y, str):
            raise InputError(
                "a validation frame must come from the same alignment, with y a column name.",
                step="train",
                fix="split one frame by train_test_split",
            )
        rows = np.concatenate([rows, validation.rows])
        labels = np.concatenate([labels, row_values(validation, y, "y")])
        if weights is not None:
            held = (
                row_values(validation, weight, "sample_weight") if isinstance(weight, str) else 1.0
            )
            weights = np.concatenate([weights, np.broadcast_to(held, len(validation))])
        is_train = np.arange(len(rows)) < len(frame)
    elif fraction is not None:
        _, held = split_rows(
            frame.own_rows, test_size=fraction, strata=labels if stratify else None, seed=seed
        )
        is_train[held] = False
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    if (np.diff(ascending.astype(np.int64)) == 0).any():
        raise InputError(
            "a row occurs twice.",
            step="train",
            fix="train on distinct rows, none of them a validation row; give multiplicities as "
            "sample_weight",
        )
    return JobRows(
        frame=with_rows(frame, ascending),
        is_train=is_train[order],
        y=labels[order],
        weight=None if weights is None else _weights(weights[order], is_train[order]),
    )


def _weights(values: npt.NDArray[Any], is_train: npt.NDArray[np.bool_]) -> Floats:
    try:
        weights = values.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(
            "sample_weight is not numeric.", step="train", fix="pass numbers of at least 0"
        ) from None
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError(
            "sample_weight has missing, infinite or negative values.",
            step="train",
            fix="pass finite weights of at least 0",
        )
    for part, what in ((weights[is_train], "training"), (weights[~is_train], "validation")):
        if len(part) and not part.any():
            raise InputError(
                f"every sample_weight of the {what} rows is zero.",
                step="train",
                fix="give some rows a positive weight",
            )
    return weights


def with_rows(frame: FederatedFrame, rows: npt.NDArray[np.uint32]) -> FederatedFrame:
    """Return the frame of these rows of the alignment."""
    out = frame.take(np.zeros(0, np.int64))
    out.rows = rows
    return out


@dataclass(frozen=True, eq=False)
class OwnFeatures:
    """The platform's features of a model: how they are encoded and binned."""

    coders: tuple[ColumnCoder, ...]
    bins: tuple[FeatureBins, ...]

    def matrix(self, table: pd.DataFrame, *, party: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Encode and bin rows; shape (n, features)."""
        if not self.coders:
            return np.zeros((len(table), 0), np.uint8)
        columns = np.column_stack([c.transform(table, party=party) for c in self.coders])
        return bin_matrix(self.bins, columns)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "coders": [c.to_dict() for c in self.coders],
            "bins": [b.to_dict() for b in self.bins],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> OwnFeatures:
        """Rebuild from :meth:`to_dict`."""
        return cls(
            tuple(ColumnCoder.from_dict(c) for c in data["coders"]),
            tuple(FeatureBins.from_dict(b) for b in data["bins"]),
        )


def fit_own(
    rows: JobRows,
    columns: Columns,
    *,
    exclude: Sequence[str],
    categorical: Sequence[str],
    max_bins: int,
) -> OwnFeatures:
    """Encode and bin the platform's features of a job."""
    table = rows.frame.platform
    party = rows.frame.federation.platform
    use = None if columns.use is None else columns.use.get(party, ())
    bare = [name.removeprefix(f"{party}.") for name in categorical]
    bare += rows.frame.federation.categorical
    coders = fit_coders(table, party=party, exclude=exclude, features=use, categorical=bare)
    bins = [
        fit_bins(
            coder.transform(table, party=party),
            is_categorical=coder.is_categorical,
            max_bins=max_bins,
        )
        for coder in coders
    ]
    return OwnFeatures(tuple(coders), tuple(bins))


def label_data(rows: JobRows, own: OwnFeatures, columns: Columns, target: Floats) -> LabelData:
    """Assemble the label holder's input.

    Raises
    ------
    InputError
        A constraint cannot be held.
    """
    party = rows.frame.federation.platform
    signs = columns.monotone.get(party, {})
    try:
        infos = [
            feature.info(signs.get(coder.name, 0))
            for coder, feature in zip(own.coders, own.bins, strict=True)
        ]
    except InputError as error:
        error.at(party=party)
        raise
    return LabelData(
        y=target,
        weight=rows.weight,
        is_train=rows.is_train,
        bins=own.matrix(rows.frame.platform, party=party),
        draw_order=np.argsort(rows.frame.own_rows, kind="stable"),
        infos=infos,
    )
