"""What a model document on a scorecard holds besides the report on its training run.

All entries are aggregates: bins, coefficients, bands and slices. A provider's bins stand without
their ranges, as the platform, which writes the document, does not know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcredit.models.report import document
from fedcredit.models.report.data import TrainingReport
from fedcredit.models.report.scalars import Scalar

if TYPE_CHECKING:
    from fedcredit.models.report.scorecard_summary import ScorecardSummary

__all__ = [
    "FORMAT",
    "BandRow",
    "BinRow",
    "Characteristic",
    "CoefficientRow",
    "FitQuality",
    "MetricRow",
    "ScorecardReport",
    "SelectionRow",
    "SliceRow",
    "StabilityRow",
    "TraceRow",
]

#: Name and version of the JSON document.
FORMAT = "fedcredit.scorecard_report/1"


@dataclass(frozen=True)
class BinRow:
    """One bin of a characteristic; ``points`` is None where its owner does not release them."""

    label: str
    count: int
    events: int
    event_rate: float | None
    woe: float
    iv: float
    points: float | None = None


@dataclass(frozen=True)
class Characteristic:
    """One binned feature of the scorecard with its bins in order."""

    party: str
    feature: str
    iv: float
    bins: tuple[BinRow, ...]


@dataclass(frozen=True)
class SelectionRow:
    """What became of one candidate feature, and by which figure against which threshold."""

    feature: str
    kept: bool
    step: str
    statistic: str
    value: float | None
    threshold: float | None
    against: str | None = None


@dataclass(frozen=True)
class CoefficientRow:
    """One row of the coefficient table; None where the owner keeps a figure to itself."""

    party: str
    feature: str
    coefficient: float | None
    standard_error: float | None
    z: float | None
    p_value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class TraceRow:
    """One evaluation of the fit: norm of the gradient, and predictors revealed so far."""

    iteration: int
    phase: str
    gradient_norm: float
    revealed: int


@dataclass(frozen=True)
class MetricRow:
    """One metric on one part of the data with its bootstrap interval."""

    split: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StabilityRow:
    """Population stability index of the score or of a characteristic against the training rows."""

    split: str
    name: str
    index: float


@dataclass(frozen=True)
class FitQuality:
    """Calibration of the probabilities on one part of the data (Hosmer & Lemeshow, 1980)."""

    split: str
    brier: float
    hosmer_lemeshow: float
    degrees: int
    p_value: float


@dataclass(frozen=True)
class BandRow:
    """Rows of one band of the score, the lowest scores first; odds are non-events per event."""

    band: str
    rows: int
    events: int
    event_rate: float
    odds: float | None
    implied_odds: float | None
    cumulative_share: float
    approved_event_rate: float | None


@dataclass(frozen=True)
class SliceRow:
    """One group of enterprises, to be compared with the others in ranking and approval."""

    dimension: str
    value: str
    rows: int
    events: int
    event_rate: float
    mean_score: float
    approval_rate: float
    auc: float | None
    mean_predicted: float


@dataclass(frozen=True, kw_only=True)
class ScorecardReport:
    """The model document on one scorecard, as a validation team would file it.

    Attributes
    ----------
    run : TrainingReport
        Data, settings, quality of the scores, cost, and who learned what.
    scale : mapping of str to number
        ``pdo``, ``base_score``, ``base_odds`` and what else fixes the points.
    characteristics, selection, coefficients, trace, metrics, stability, fit, bands, slices
        See the classes.
    base_points : float or None
        Points that every enterprise gets; None if they are spread over the characteristics.
    revealed : int
        Predictors that the platform has seen during the fit.
    cutoff : float or None
        Score from which the slices count an enterprise as approved.
    """

    run: TrainingReport
    scale: Mapping[str, Scalar]
    characteristics: tuple[Characteristic, ...] = ()
    base_points: float | None = None
    selection: tuple[SelectionRow, ...] = ()
    coefficients: tuple[CoefficientRow, ...] = ()
    trace: tuple[TraceRow, ...] = ()
    revealed: int = 0
    metrics: tuple[MetricRow, ...] = ()
    stability: tuple[StabilityRow, ...] = ()
    fit: tuple[FitQuality, ...] = ()
    bands: tuple[BandRow, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    cutoff: float | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the document as one self-contained HTML page; write it to ``path`` if given."""
        from fedcredit.models.report.scorecard_html import render

        page = render(self)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def summary(self) -> ScorecardSummary:
        """Return the short form: rich in a terminal, a table in a notebook, text in ``str``."""
        from fedcredit.models.report.scorecard_summary import ScorecardSummary

        return ScorecardSummary(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the document as strict JSON values (no NaN, times in ISO 8601)."""
        return document.to_dict(self, FORMAT)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScorecardReport:
        """Read what :meth:`to_dict` returned.

        Raises
        ------
        InputError
            Another version, a missing or unknown entry, a value of the wrong type.
        """
        return document.from_dict(cls, values, FORMAT)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        return f"ScorecardReport({len(self.characteristics)} characteristics)"
