"""The platform's share of a linear model: what it scores with, and what it may show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedcredit.models.at_rest import AtRest, reading_model
from fedcredit.models.linear_columns import NumericColumns
from fedcredit.models.linear_jobs import LinearUnits
from fedcredit.protocols.logistic_types import LogisticOutcome
from fedcredit.wire import F64x1, F64x2, Message, U8x1, U32x1

__all__ = ["LinearShare", "StoredLinear", "joint_share", "own_share"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearShare:
    """A fitted linear model as the platform holds it.

    Attributes
    ----------
    platform : str
    own_labels : tuple of str
        The platform's columns.
    numeric : NumericColumns or None
        How its columns become numbers; None where they are a binner's WOE columns.
    weights : ndarray of float64, shape (d0,)
        Coefficients of the columns in their units, for scoring.
    constant : float
        Intercept that goes with them.
    labels : dict of str to tuple of str
        Columns of each provider, in the order of the job.
    coef : ndarray of float64, shape (D,)
        Of all columns in their natural units; NaN where a provider keeps them to itself.
    intercept : float
        Log odds where every column of :attr:`coef` is zero. Unless all providers release their
        coefficients, their columns count from their centres.
    standard_error : ndarray of float64, shape (D + 1,)
        The intercept's last; NaN where unknown.
    covariance : ndarray of float64, shape (D + 1, D + 1), or None
        Of the coefficients and, last, the intercept.
    """

    platform: str
    own_labels: tuple[str, ...]
    numeric: NumericColumns | None
    weights: Floats = field(repr=False)
    constant: float = field(repr=False)
    labels: dict[str, tuple[str, ...]]
    coef: Floats = field(repr=False)
    intercept: float = field(repr=False)
    standard_error: Floats = field(repr=False)
    covariance: Floats | None = field(repr=False)

    @property
    def names(self) -> list[str]:
        """``party.label`` of every column, the platform's first."""
        own = [f"{self.platform}.{label}" for label in self.own_labels]
        return own + [f"{p}.{label}" for p, labels in self.labels.items() for label in labels]

    @property
    def parties(self) -> list[str]:
        """The party of every column."""
        own = [self.platform] * len(self.own_labels)
        return own + [party for party, labels in self.labels.items() for _ in labels]


def _natural(
    coef: Floats, intercept: float, covariance: Floats | None, centre: Floats, scale: Floats
) -> tuple[Floats, float, Floats | None]:
    """Put coefficients of centred and scaled columns into the columns' natural units."""
    natural = coef / scale
    d = len(coef)
    back = np.zeros((d + 1, d + 1))
    back[:d, :d] = np.diag(1.0 / scale)
    back[d, :d], back[d, d] = -centre / scale, 1.0
    moved = None if covariance is None else back @ covariance @ back.T
    return natural, float(intercept - centre @ natural), moved


def _errors(covariance: Floats | None, size: int) -> Floats:
    if covariance is None:
        return np.full(size, np.nan)
    variance = np.diagonal(covariance)
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


def _units(numeric: NumericColumns | None, d: int) -> tuple[Floats, Floats]:
    if numeric is None:
        return np.zeros(d), np.ones(d)
    return numeric.centre, numeric.scale


def own_share(
    platform: str,
    own_labels: Sequence[str],
    numeric: NumericColumns | None,
    coef: Floats,
    intercept: float,
    covariance: Floats,
) -> LinearShare:
    """Make the share of a model of the platform's columns alone; it is the whole model.

    Parameters
    ----------
    coef, intercept, covariance
        Of the columns in their units; shapes (d,), scalar, (d + 1, d + 1).
    """
    centre, scale = _units(numeric, len(coef))
    natural, moved, matrix = _natural(coef, intercept, covariance, centre, scale)
    return LinearShare(
        platform=platform,
        own_labels=tuple(own_labels),
        numeric=numeric,
        weights=coef,
        constant=intercept,
        labels={},
        coef=natural,
        intercept=moved,
        standard_error=_errors(matrix, len(coef) + 1),
        covariance=matrix,
    )


def joint_share(
    platform: str,
    own_labels: Sequence[str],
    numeric: NumericColumns | None,
    outcome: LogisticOutcome,
    labels: Mapping[str, tuple[str, ...]],
    units: Mapping[str, LinearUnits],
) -> LinearShare:
    """Make the share of a joint model from the protocol's outcome.

    Parameters
    ----------
    labels : mapping of provider to its columns, in the order of the job
    units : mapping of provider to LinearUnits
    """
    d0 = len(outcome.coef)
    centre, scale = _units(numeric, d0)
    coef, intercept, covariance = _natural(
        outcome.coef, outcome.intercept, outcome.covariance_own, centre, scale
    )
    errors = _errors(covariance, d0 + 1)
    parts, spreads = [coef], [errors[:d0]]
    for name, columns in labels.items():
        known = outcome.released.get(name)
        if known is None:
            parts.append(np.full(len(columns), np.nan))
            spreads.append(np.full(len(columns), np.nan))
            continue
        unit = units[name].scale
        parts.append(known.coef / unit)
        error = known.standard_error
        spreads.append(np.full(len(unit), np.nan) if error is None else error / unit)
    everything, spread = np.concatenate(parts), np.append(np.concatenate(spreads), errors[d0])
    joint = None
    if all(name in outcome.released for name in labels):
        # The intercept can be told for columns that count from zero.
        everything, intercept, joint = _natural(
            np.concatenate([outcome.coef, *(outcome.released[n].coef for n in labels)]),
            outcome.intercept,
            outcome.covariance,
            np.concatenate([centre, *(units[n].centre for n in labels)]),
            np.concatenate([scale, *(units[n].scale for n in labels)]),
        )
        spread = spread if joint is None else _errors(joint, len(everything) + 1)
        if joint is None:
            # Without the whole covariance the moved intercept's is unknown.
            spread[-1] = np.nan
    return LinearShare(
        platform=platform,
        own_labels=tuple(own_labels),
        numeric=numeric,
        weights=outcome.coef,
        constant=outcome.intercept,
        labels=dict(labels),
        coef=everything,
        intercept=intercept,
        standard_error=spread,
        covariance=joint,
    )


@dataclass(frozen=True, eq=False, repr=False)
class StoredLinear(AtRest, Message, kind="store.linear", version=1, max_bytes=8 << 30):
    """At rest at the platform: its share of a linear model and what else an estimator needs.

    ``header`` is JSON, ``binner`` a stored binner (empty for none), ``rows`` and ``predictor``
    (n,) are the training rows whose log odds were revealed, or (0,).
    """

    _holds = "a linear model"

    header: str
    weights: F64x1
    coef: F64x1
    standard_error: F64x1
    covariance: F64x2
    binner: U8x1
    rows: U32x1
    predictor: F64x1

    @classmethod
    def of(
        cls,
        share: LinearShare,
        extra: dict[str, Any],
        *,
        binner: bytes = b"",
        rows: npt.NDArray[np.uint32],
        predictor: Floats,
    ) -> StoredLinear:
        """Collect a model; ``extra`` is JSON-able."""
        header = {
            "platform": share.platform,
            "own_labels": list(share.own_labels),
            "numeric": share.numeric and share.numeric.to_dict(),
            "constant": share.constant,
            "labels": {name: list(labels) for name, labels in share.labels.items()},
            "intercept": share.intercept,
            "extra": extra,
        }
        empty = np.zeros((0, 0))
        return cls(
            header=json.dumps(header),
            weights=share.weights,
            coef=share.coef,
            standard_error=share.standard_error,
            covariance=empty if share.covariance is None else share.covariance,
            binner=np.frombuffer(binner, np.uint8),
            rows=rows,
            predictor=predictor,
        )

    def unpack(self) -> tuple[LinearShare, dict[str, Any]]:
        """Rebuild the share and the extra part.

        Raises
        ------
        InputError
            The parts do not fit together.
        """
        with reading_model():
            header = json.loads(self.header)
            numeric = header["numeric"] and NumericColumns.from_dict(header["numeric"])
            share = LinearShare(
                platform=str(header["platform"]),
                own_labels=tuple(header["own_labels"]),
                numeric=numeric,
                weights=np.array(self.weights),
                constant=float(header["constant"]),
                labels={name: tuple(labels) for name, labels in header["labels"].items()},
                coef=np.array(self.coef),
                intercept=float(header["intercept"]),
                standard_error=np.array(self.standard_error),
                covariance=np.array(self.covariance) if self.covariance.size else None,
            )
            d = len(share.names)
            fits = (
                len(share.weights) == len(share.own_labels),
                numeric is None or numeric.names == share.own_labels,
                share.coef.shape == (d,),
                share.standard_error.shape == (d + 1,),
                share.covariance is None or share.covariance.shape == (d + 1, d + 1),
                self.rows.shape == self.predictor.shape,
            )
            if not all(fits):
                raise ValueError
            return share, dict(header["extra"])
