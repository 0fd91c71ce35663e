"""From a fitted scorecard and its federation to the model document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import InputError
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.report import Provenance, Scores, SplitSize, TrainingReport
from fedcredit.models.report.scorecard_data import (
    BandRow,
    BinRow,
    Characteristic,
    CoefficientRow,
    FitQuality,
    MetricRow,
    ScorecardReport,
    SelectionRow,
    SliceRow,
    StabilityRow,
    TraceRow,
)
from fedcredit.models.report.scores import SplitName
from fedcredit.models.scorecard_tables import odds_frame
from fedcredit.stats import metrics
from fedcredit.stats.bootstrap import bootstrap_draws
from fedcredit.stats.credit_metrics import (
    brier_score,
    hosmer_lemeshow,
    population_stability_index,
)
from fedcredit.stats.glm import wald
from fedcredit.stats.scorecard_points import band_edges

if TYPE_CHECKING:
    from fedcredit.models.scorecard import VerticalScorecard
    from fedcredit.models.scorecard_fit import CardRows

__all__ = ["build_scorecard_report"]

Floats = npt.NDArray[np.float64]

_STEP = "scorecard report"
_METRICS = ("AUC", "Gini", "KS")
_BANDS = 10
#: Groups of fewer rows are left out of the slices.
MIN_SLICE_ROWS = 50


def build_scorecard_report(
    card: VerticalScorecard,
    test: FederatedFrame | None = None,
    *,
    train: FederatedFrame | None = None,
    out_of_time: FederatedFrame | None = None,
    slices: Sequence[str] = (),
    cutoff: float | None = None,
    compare: bool = True,
    resamples: int = 200,
    seed: int = 0,
    notes: Mapping[str, str] | None = None,
    created: datetime | None = None,
    title: str = "Scorecard model document",
) -> ScorecardReport:
    """Measure a scorecard on every part of the data and collect all about its making.

    Parameters
    ----------
    card : VerticalScorecard
        Fitted or loaded. A loaded card does not hold its convergence trace.
    test, out_of_time : FederatedFrame, optional
        Rows that the card has not seen, at random and of another time. Scoring a part shows the
        platform one sum of points per row, unless it was shown before.
    train : FederatedFrame, optional
        The rows of the fit, for a card that was loaded.
    slices : sequence of str
        Columns of the platform (region, industry, size) by whose values the card is compared;
        numbers are cut at their quartiles.
    cutoff : float, optional
        Points from which the slices count an enterprise as approved; by default such that four in
        five are.
    compare : bool
        Whether to fit a card on the platform's features alone and say what the joint data added.
    resamples, seed : int
        Of the bootstrap intervals.
    notes : mapping of str to str, optional
        Statements on purpose and limits.
    created : datetime, optional
        With time zone; now by default.
    title : str

    Returns
    -------
    ScorecardReport

    Raises
    ------
    InputError
        The card is a loaded copy without its rows, or a slice is no column of the platform.
    FedCreditError
        A provider refuses to score, or cannot be reached.
    """
    check_is_fitted(card)
    rows: CardRows | None = getattr(card, "training_", None)
    frames: dict[SplitName, FederatedFrame | None] = {
        "train": train if rows is None else rows.frame,
        "test": test,
        "out_of_time": out_of_time,
    }
    known = {split: frame for split, frame in frames.items() if frame is not None}
    if not known:
        raise InputError(
            "there are no rows to measure the scorecard on.",
            step=_STEP,
            fix="pass test, or train for a card that was loaded",
        )
    first = next(iter(known.values()))
    federation = first.federation
    target = card.binner_.target_ if rows is None else rows.y
    parts = {
        split: _Part.of(card, frame, target if split == "train" else _column(target))
        for split, frame in known.items()
    }
    best = parts.get("test") or parts.get("out_of_time") or next(iter(parts.values()))
    limit = float(np.quantile(best.points, 0.2)) if cutoff is None else cutoff
    scores = [part.scores("joint", name) for name, part in parts.items()]
    if compare and federation.providers and rows is not None:
        scores += _alone(card, rows, parts)
    regression = getattr(card, "regression_", None)
    run = TrainingReport.build(
        model="Vertical scorecard",
        task="classification",
        platform=federation.platform,
        target=target if isinstance(target, str) else "y",
        title=title,
        provenance=Provenance(
            job=card.model_id_,
            created=created or datetime.now(UTC),
            fingerprint=card.fingerprint(),
            seeds={"bootstrap": seed},
        ),
        scores=scores,
        transcript=federation.transcript if federation.transcript.counts else None,
        resamples=resamples,
        seed=seed,
        match=first.match,
        aligned_rows=len(first.order),
        splits=tuple(
            SplitSize(name, len(part.y), int(part.y.sum())) for name, part in parts.items()
        ),
        parameters=_parameters(card),
        phases=tuple(p for p in federation.phases if p.bytes or not federation.providers),
    )
    share = card.share_
    return ScorecardReport(
        run=run,
        scale={
            "points to double the odds": share.scale.pdo,
            "base score": share.scale.base_score,
            "odds at the base score": share.scale.base_odds,
            "whole points": share.rounding,
        },
        base_points=share.base or None,
        characteristics=_characteristics(card),
        selection=_selection(card),
        coefficients=_coefficients(card),
        trace=_trace(getattr(regression, "trace_", None)),
        revealed=int(getattr(card, "revealed_", 0)),
        metrics=_metrics(parts, resamples, seed),
        stability=_stability(card, parts),
        fit=tuple(_fit(name, part) for name, part in parts.items()),
        bands=_bands(card, best),
        slices=_slices(best, slices, limit),
        cutoff=limit,
        notes=dict(notes or {}),
    )


class _Part:
    """One part of the data, scored."""

    def __init__(
        self, frame: FederatedFrame, points: Floats, probability: Floats, y: Floats
    ) -> None:
        self.frame, self.points, self.probability, self.y = frame, points, probability, y

    @classmethod
    def of(cls, card: VerticalScorecard, frame: FederatedFrame, y: Any) -> _Part:
        points, outcomes = card._scored(frame, y)
        return cls(frame, points, card._scale().to_probability(points), outcomes)

    def scores(self, name: Any, split: SplitName) -> Scores:
        return Scores(name, split, self.y, self.probability)


def _column(y: Any) -> str:
    if not isinstance(y, str):
        raise InputError(
            "the card was fitted on an array of labels, which other rows do not have.",
            step=_STEP,
            fix="fit with y as the name of a column",
        )
    return y


def _alone(
    card: VerticalScorecard, rows: CardRows, parts: Mapping[SplitName, _Part]
) -> list[Scores]:
    """Score with a card of the platform's own features, as it would have without the others."""
    own = [n for n in card.binner_.names_ if n.startswith(f"{card.platform_}.")]
    if not own:
        return []
    alone = clone(card).set_params(features=own, binner=None, keep=())
    if card.binner is not None:
        binner = clone(card.binner_).set_params(features=own)
        alone.set_params(binner=binner)
    try:
        alone.fit(rows.frame, rows.y, rows.weight)
    except InputError:
        # None of the platform's own features is of use: there is nothing to compare with.
        return []
    y = rows.y
    return [
        _Part.of(alone, part.frame, y if name == "train" else _column(y)).scores("alone", name)
        for name, part in parts.items()
    ]


def _parameters(card: VerticalScorecard) -> dict[str, Any]:
    given = card.get_params(deep=False)
    shown = {k: v for k, v in given.items() if isinstance(v, str | int | float | bool)}
    shown["regressions fitted"] = card.n_fits_
    return {k: v for k, v in shown.items() if not isinstance(v, float) or math.isfinite(v)}


def _characteristics(card: VerticalScorecard) -> tuple[Characteristic, ...]:
    out = []
    for item in card.share_.characteristics:
        table = card.scoring_binner_.woe_table(item.name)
        out.append(
            Characteristic(
                item.party,
                item.name,
                float(table.total_iv),
                tuple(
                    BinRow(
                        label=item.bins[b],
                        count=int(item.count[b]),
                        events=int(item.event[b]),
                        event_rate=float(item.event[b] / item.count[b]),
                        woe=float(item.woe[b]),
                        iv=float(table.iv[b]),
                        points=None if item.points is None else float(item.points[b]),
                    )
                    for b in np.flatnonzero(item.has_bins)
                ),
            )
        )
    return tuple(out)


def _maybe(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _selection(card: VerticalScorecard) -> tuple[SelectionRow, ...]:
    return tuple(
        SelectionRow(
            feature=str(name),
            kept=bool(line["kept"]),
            step=str(line["step"]) or "in the card",
            statistic=str(line["statistic"]),
            value=_maybe(line["value"]),
            threshold=_maybe(line["threshold"]),
            against=str(line["against"]) or None,
        )
        for name, line in card.selection_.fillna({"against": "", "statistic": ""}).iterrows()
    )


def _coefficients(card: VerticalScorecard) -> tuple[CoefficientRow, ...]:
    share = card.share_
    found = share.characteristics
    coef = np.array([np.nan if c.coef is None else c.coef for c in found])
    error = np.array([np.nan if c.standard_error is None else c.standard_error for c in found])
    table = wald(coef, np.diag(error**2))
    lines = zip(found, coef, error, table.z, table.p_value, table.lower, table.upper, strict=True)
    rows = [CoefficientRow(c.party, c.name, *(_maybe(v) for v in line)) for c, *line in lines]
    none = (None,) * 5
    return (*rows, CoefficientRow(card.platform_, "intercept", share.intercept, *none))


def _trace(trace: pd.DataFrame | None) -> tuple[TraceRow, ...]:
    if trace is None:
        return ()
    return tuple(
        TraceRow(
            int(line["iteration"]),
            str(line["phase"]),
            float(line["gradient_norm"]),
            int(line["revealed"]),
        )
        for _, line in trace.iterrows()
    )


def _ranking(part: _Part, weight: Floats) -> Floats:
    area = metrics.auc(part.y, part.probability, weight)
    return np.array([area, 2.0 * area - 1.0, metrics.ks(part.y, part.probability, weight)])


def _metrics(parts: Mapping[SplitName, _Part], resamples: int, seed: int) -> tuple[MetricRow, ...]:
    out = []
    for split, part in parts.items():
        ones = np.ones(len(part.y))
        values = _ranking(part, ones)
        draws = bootstrap_draws(partial(_ranking, part), ones, resamples, seed)
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        out += [
            MetricRow(split, name, float(values[k]), float(low[k]), float(high[k]))
            for k, name in enumerate(_METRICS)
        ]
    return tuple(out)


def _stability(
    card: VerticalScorecard, parts: Mapping[SplitName, _Part]
) -> tuple[StabilityRow, ...]:
    out: list[StabilityRow] = []
    later = {split: part for split, part in parts.items() if split != "train"}
    if "train" in parts:
        train = parts["train"].points
        edges = band_edges(train, _BANDS)
        before = _band_counts(train, edges)
        out += [
            StabilityRow(
                split, "score", population_stability_index(before, _band_counts(p.points, edges))
            )
            for split, p in later.items()
        ]
    for split, part in later.items():
        table = card.scoring_binner_.stability(part.frame)
        out += [StabilityRow(split, name, float(table.loc[name, "psi"])) for name in card.features_]
    return tuple(out)


def _band_counts(points: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    place = np.searchsorted(edges, points, side="right")
    return np.bincount(place, minlength=len(edges) + 1)


def _fit(split: str, part: _Part) -> FitQuality:
    found = hosmer_lemeshow(part.y, part.probability, fitted=split == "train")
    return FitQuality(
        split,
        brier_score(part.y, part.probability),
        float(found.chi2),
        int(found.df),
        float(found.p_value),
    )


def _bands(card: VerticalScorecard, part: _Part) -> tuple[BandRow, ...]:
    table = odds_frame(part.points, part.y, card._scale(), None, _BANDS)
    total, events = int(table["count"].sum()), int(table["events"].sum())
    out = []
    rows_before = events_before = 0
    for _, line in table.iterrows():
        count, bad = int(line["count"]), int(line["events"])
        rest = total - rows_before
        out.append(
            BandRow(
                band=_band(float(line["from"]), float(line["below"])),
                rows=count,
                events=bad,
                event_rate=bad / count if count else 0.0,
                odds=_finite(line["odds"]),
                implied_odds=_finite(line["implied odds"]),
                cumulative_share=(rows_before + count) / total,
                approved_event_rate=(events - events_before) / rest if rest else None,
            )
        )
        rows_before, events_before = rows_before + count, events_before + bad
    return tuple(out)


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _band(low: float, high: float) -> str:
    if not math.isfinite(low):
        return f"below {high:g}"
    return f"from {low:g}" if not math.isfinite(high) else f"{low:g} to {high:g}"


def _slices(part: _Part, names: Sequence[str], cutoff: float) -> tuple[SliceRow, ...]:
    out = []
    for name in names:
        values = _groups(part.frame, name)
        for value in sorted(set(values)):
            mask = values == value
            if mask.sum() < MIN_SLICE_ROWS:
                continue
            y = part.y[mask]
            ranked = 0 < y.sum() < len(y)
            out.append(
                SliceRow(
                    dimension=name,
                    value=str(value),
                    rows=int(mask.sum()),
                    events=int(y.sum()),
                    event_rate=float(y.mean()),
                    mean_score=float(part.points[mask].mean()),
                    approval_rate=float((part.points[mask] >= cutoff).mean()),
                    auc=metrics.auc(y, part.probability[mask]) if ranked else None,
                    mean_predicted=float(part.probability[mask].mean()),
                )
            )
    return tuple(out)


def _groups(frame: FederatedFrame, name: str) -> npt.NDArray[Any]:
    table = frame.platform
    bare = name.removeprefix(f"{frame.federation.platform}.")
    if bare not in table.columns:
        raise InputError(
            f"the platform has no column {name!r} to slice by.",
            step=_STEP,
            fix="name columns of the platform",
        )
    column = table[bare]
    if pd.api.types.is_numeric_dtype(column.dtype) and column.nunique() > 6:
        column = pd.qcut(column, 4, duplicates="drop")
    return column.astype(object).where(column.notna(), "missing").astype(str).to_numpy(object)
