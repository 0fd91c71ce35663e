"""The figures of a training report, as matplotlib figures without any global state.

Every function returns a new :class:`matplotlib.figure.Figure` (show it in a notebook, or
``savefig`` it), or None where the report has nothing to draw. Colours come in pairs with line
styles, so that a print in grey can be read too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedcredit.models.report import text
from fedcredit.models.report.data import TrainingReport
from fedcredit.models.report.headline import MODEL_NAMES, SPLIT_NAMES, shown
from fedcredit.models.report.quality import ClassifierQuality, RegressorQuality
from fedcredit.models.report.style import (
    LINES,
    PALETTE,
    in_style,
    literal,
    new_figure,
    percent_axis,
)
from fedcredit.models.report.views import feature_name

__all__ = [
    "calibration",
    "feature_importance",
    "gains",
    "ks",
    "learning_curve",
    "lift",
    "predicted_actual",
    "residuals",
    "roc",
    "score_distribution",
    "tree_costs",
    "uplift",
]

Quality = ClassifierQuality | RegressorQuality


def _headroom(axes: Axes) -> None:
    """Make room for a legend above the data."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.32 * (high - low))


def _models(report: TrainingReport) -> list[Quality]:
    return [q for q in (shown(report, "joint"), shown(report, "alone")) if q is not None]


def _rankings(report: TrainingReport) -> list[ClassifierQuality]:
    return [
        q for q in _models(report) if isinstance(q, ClassifierQuality) and q.ranking is not None
    ]


def _legend_name(quality: Quality) -> str:
    return MODEL_NAMES[quality.name].capitalize()


@in_style
def uplift(report: TrainingReport) -> Figure | None:
    """Draw the difference of each metric with its bootstrap interval."""
    # Metrics in units of the target have no common axis with R².
    rows = [u for u in report.uplift if u.metric not in ("RMSE", "MAE")]
    if not rows:
        return None
    figure, (axes,) = new_figure(size=(4.6, 0.95 + 0.42 * len(rows)))
    places = np.arange(len(rows))[::-1]
    centre = np.array([u.difference for u in rows])
    spans = [centre - [u.low for u in rows], [u.high for u in rows] - centre]
    axes.errorbar(
        centre,
        places,
        xerr=np.maximum(spans, 0.0),
        fmt="o",
        color=PALETTE["joint"],
        capsize=4,
        markersize=5,
    )
    axes.axvline(0.0, color=PALETTE["muted"], linewidth=1.2)
    axes.set_yticks(places, [u.metric for u in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"Joint minus platform alone, {text.percent(rows[0].confidence, 0)} interval")
    axes.set_ylabel("Metric")
    axes.set_title("Difference on the same rows")
    return figure


@in_style
def roc(report: TrainingReport) -> Figure | None:
    """Draw the receiver operating characteristic of both models."""
    found = _rankings(report)
    if not found:
        return None
    figure, (axes,) = new_figure(size=(4.6, 4.1))
    for q in found:
        assert q.ranking is not None
        label = f"{_legend_name(q)}, AUC {text.decimal(q.auc)}"
        axes.plot(q.ranking.others, q.ranking.events, label=label, **LINES[q.name])
    axes.plot([0, 1], [0, 1], color=PALETTE["muted"], linewidth=1, linestyle=":", label="Chance")
    axes.set_aspect("equal")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.005)
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.set_xlabel("Non-events flagged")
    axes.set_ylabel("Events flagged")
    axes.set_title(f"ROC, {SPLIT_NAMES[found[0].split]} rows")
    axes.legend(loc="lower right")
    return figure


@in_style
def ks(report: TrainingReport) -> Figure | None:
    """Draw the two distributions whose largest distance is the KS of the joint model."""
    found = _rankings(report)
    if not found:
        return None
    quality = found[0]
    ranking = quality.ranking
    assert ranking is not None
    figure, (axes,) = new_figure(size=(4.6, 4.1))
    axes.plot(ranking.population, ranking.events, color=PALETTE["event"], label="Events")
    axes.plot(
        ranking.population,
        ranking.others,
        color=PALETTE["other"],
        linestyle=(0, (5, 2)),
        label="Non-events",
    )
    at = ranking.ks_index
    x, low, high = ranking.population[at], ranking.others[at], ranking.events[at]
    axes.plot(
        [x, x],
        [low, high],
        color=PALETTE["ink"],
        linewidth=1.2,
        marker="_",
        label=f"KS {text.decimal(quality.ks, 3)} at {100 * x:.0f} % of rows",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.005)
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.set_xlabel("Rows, riskiest first")
    axes.set_ylabel("Cumulative share")
    axes.set_title(f"KS, {MODEL_NAMES[quality.name]}, {SPLIT_NAMES[quality.split]} rows")
    axes.legend(loc="lower right")
    return figure


@in_style
def gains(report: TrainingReport) -> Figure | None:
    """Draw the share of events captured against the share of rows looked at."""
    found = _rankings(report)
    if not found:
        return None
    figure, (axes,) = new_figure()
    for q in found:
        assert q.ranking is not None
        axes.plot(q.ranking.population, q.ranking.events, label=_legend_name(q), **LINES[q.name])
    axes.plot([0, 1], [0, 1], color=PALETTE["muted"], linewidth=1, linestyle=":", label="Chance")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.005)
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.set_xlabel("Rows, riskiest first")
    axes.set_ylabel("Events captured")
    axes.set_title(f"Cumulative gains, {SPLIT_NAMES[found[0].split]} rows")
    axes.legend(loc="lower right")
    return figure


@in_style
def lift(report: TrainingReport) -> Figure | None:
    """Draw the lift of each score group of both models."""
    found = [q for q in _rankings(report) if q.gains]
    if not found:
        return None
    figure, (axes,) = new_figure()
    width = 0.8 / len(found)
    for k, q in enumerate(found):
        places = np.arange(1, len(q.gains) + 1) + (k - (len(found) - 1) / 2) * width
        axes.bar(
            places,
            [g.lift for g in q.gains],
            width,
            color=PALETTE[q.name],
            edgecolor=PALETTE[q.name],
            fill=q.name == "joint",
            linewidth=1,
            label=_legend_name(q),
        )
    axes.axhline(1.0, color=PALETTE["muted"], linewidth=1, linestyle=":", label="Average")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} ×"))
    axes.set_xlabel("Score group, riskiest first")
    axes.set_ylabel("Event rate over average")
    axes.set_title(f"Lift by score group, {SPLIT_NAMES[found[0].split]} rows")
    axes.legend(loc="upper right")
    return figure


@in_style
def calibration(report: TrainingReport) -> Figure | None:
    """Draw observed event rates against mean predictions."""
    found = [q for q in _models(report) if isinstance(q, ClassifierQuality) and q.calibration]
    if not found:
        return None
    figure, (axes,) = new_figure()
    top = 0.0
    for q in found:
        x = np.array([b.predicted for b in q.calibration])
        y = np.array([b.observed for b in q.calibration])
        spans = [y - [b.low for b in q.calibration], [b.high for b in q.calibration] - y]
        axes.errorbar(
            x,
            y,
            yerr=np.maximum(spans, 0.0),
            marker="o" if q.name == "joint" else "s",
            markersize=4,
            linewidth=1.3,
            elinewidth=0.9,
            capsize=2,
            label=_legend_name(q),
            **LINES[q.name],
        )
        top = max(top, float(x.max()), max(b.high for b in q.calibration))
    axes.plot(
        [0, top], [0, top], color=PALETTE["muted"], linewidth=1, linestyle=":", label="Perfect"
    )
    axes.set_xlim(0, 1.03 * top)
    axes.set_ylim(0, 1.03 * top)
    percent_axis(axes.xaxis, 0 if top > 0.08 else 1)
    percent_axis(axes.yaxis, 0 if top > 0.08 else 1)
    axes.set_xlabel("Mean predicted probability")
    axes.set_ylabel("Observed event rate")
    axes.set_title(f"Calibration, {SPLIT_NAMES[found[0].split]} rows")
    axes.legend(loc="best")
    return figure


@in_style
def score_distribution(report: TrainingReport) -> Figure | None:
    """Draw how the joint score is distributed among events and among others."""
    quality = shown(report)
    if not isinstance(quality, ClassifierQuality) or quality.histogram is None:
        return None
    histogram = quality.histogram
    figure, (axes,) = new_figure()
    axes.stairs(
        histogram.others,
        histogram.edges,
        fill=True,
        color=PALETTE["other"],
        alpha=0.35,
        label="Non-events",
    )
    axes.stairs(histogram.others, histogram.edges, color=PALETTE["other"], linestyle=(0, (5, 2)))
    axes.stairs(
        histogram.events, histogram.edges, color=PALETTE["event"], linewidth=1.7, label="Events"
    )
    axes.set_ylim(0, None)
    percent_axis(axes.yaxis)
    axes.set_xlabel("Joint score")
    axes.set_ylabel("Share of the class per bin")
    axes.set_title(f"Score distribution, {SPLIT_NAMES[quality.split]} rows")
    axes.legend(loc="upper right")
    return figure


@in_style
def learning_curve(report: TrainingReport) -> Figure | None:
    """Draw training and validation loss by number of trees."""
    if len(report.learning) < 2:
        return None
    figure, (axes,) = new_figure()
    trees = [p.tree for p in report.learning]
    axes.plot(trees, [p.train_loss for p in report.learning], label="Training", **LINES["joint"])
    checked = [(p.tree, p.valid_loss) for p in report.learning if p.valid_loss is not None]
    if checked:
        axes.plot(*zip(*checked, strict=True), label="Validation", **LINES["alone"])
        tree, loss = min(checked, key=lambda point: point[1])
        axes.plot(
            [tree],
            [loss],
            "o",
            color=PALETTE["alone"],
            markersize=5,
            label=f"Least, {text.decimal(loss)} at {tree:,}",
        )
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Trees")
    axes.set_ylabel(literal(text.name(report.loss_name)).capitalize())
    axes.set_title("Learning curve")
    _headroom(axes)
    axes.legend(loc="upper right")
    return figure


@in_style
def predicted_actual(report: TrainingReport) -> Figure | None:
    """Draw median and 80 % band of the target against the joint prediction."""
    quality = shown(report)
    if not isinstance(quality, RegressorQuality):
        return None
    figure, (axes,) = new_figure()
    x = [b.predicted for b in quality.bins]
    _band(
        axes,
        x,
        [(b.target_low, b.target_median, b.target_high) for b in quality.bins],
        "Median target",
    )
    axes.plot(x, x, color=PALETTE["muted"], linewidth=1, linestyle=":", label="Perfect")
    axes.set_xlabel(f"Predicted {literal(text.name(report.target))}")
    axes.set_ylabel(f"Actual {literal(text.name(report.target))}")
    axes.set_title(f"Predicted and actual, {SPLIT_NAMES[quality.split]} rows")
    _headroom(axes)
    axes.legend(loc="upper left")
    return figure


@in_style
def residuals(report: TrainingReport) -> Figure | None:
    """Draw median and 80 % band of the residual against the joint prediction."""
    quality = shown(report)
    if not isinstance(quality, RegressorQuality):
        return None
    figure, (axes,) = new_figure()
    _band(
        axes,
        [b.predicted for b in quality.bins],
        [(b.residual_low, b.residual_median, b.residual_high) for b in quality.bins],
        "Median residual",
    )
    axes.axhline(0.0, color=PALETTE["muted"], linewidth=1, linestyle=":")
    axes.set_xlabel(f"Predicted {literal(text.name(report.target))}")
    axes.set_ylabel("Actual minus predicted")
    axes.set_title(f"Residuals, {SPLIT_NAMES[quality.split]} rows")
    _headroom(axes)
    axes.legend(loc="upper left")
    return figure


def _band(
    axes: Axes, x: Sequence[float], rows: Sequence[tuple[float, float, float]], label: str
) -> None:
    low, middle, high = zip(*rows, strict=True)
    axes.fill_between(
        x, low, high, color=PALETTE["joint"], alpha=0.2, linewidth=0, label="80 % of the rows"
    )
    axes.plot(x, middle, marker="o", markersize=4, label=label, **LINES["joint"])


@in_style
def feature_importance(report: TrainingReport, limit: int = 20) -> Figure | None:
    """Draw the gain of the most important features, coloured by owner."""
    ranked = sorted(report.importance, key=lambda item: -item.gain)[:limit]
    total = sum(item.gain for item in report.importance)
    if not total:
        return None
    figure, (axes,) = new_figure(size=(6.0, 1.0 + 0.26 * len(ranked)))
    places = np.arange(len(ranked))[::-1]
    own = [item.party == report.platform for item in ranked]
    for mine, label, colour in (
        (True, "Platform", PALETTE["alone"]),
        (False, "Data providers", PALETTE["joint"]),
    ):
        chosen = [k for k, flag in enumerate(own) if flag is mine]
        if chosen:
            axes.barh(
                places[chosen],
                [ranked[k].gain / total for k in chosen],
                0.7,
                color=colour,
                label=label,
            )
    axes.set_yticks(places, [literal(feature_name(item)) for item in ranked])
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    axes.grid(axis="y", visible=False)
    percent_axis(axes.xaxis)
    axes.set_xlabel("Share of gain")
    axes.set_ylabel("Feature")
    axes.set_title("Gain by feature")
    axes.legend(loc="lower right")
    return figure


@in_style
def tree_costs(report: TrainingReport) -> Figure | None:
    """Draw wall time and bytes of every tree."""
    if not report.trees:
        return None
    figure, (top, bottom) = new_figure(rows=2, size=(4.6, 4.1))
    trees = sorted(report.trees, key=lambda tree: tree.index)
    index = np.array([t.index for t in trees])
    edges = np.append(index, index[-1] + 1) - 0.5
    top.stairs([t.seconds for t in trees], edges, fill=True, color=PALETTE["joint"], alpha=0.8)
    up = np.array([t.bytes_up for t in trees], dtype=np.float64)
    down = np.array([t.bytes_down for t in trees], dtype=np.float64)
    power, unit = next(
        (p, u)
        for p, u in ((9, "GB"), (6, "MB"), (3, "kB"), (0, "B"))
        if (up + down).max() >= 10**p or p == 0
    )
    up, down = up / 10**power, down / 10**power
    bottom.stairs(up, edges, fill=True, color=PALETTE["joint"], alpha=0.8, label="Sent by platform")
    bottom.stairs(
        up + down,
        edges,
        baseline=up,
        fill=True,
        color=PALETTE["alone"],
        label="Received by platform",
    )
    for axes in (top, bottom):
        axes.set_ylim(0, None)
        axes.grid(axis="x", visible=False)
    bottom.set_ylim(0, 1.35 * max(float((up + down).max()), 1e-12))
    bottom.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
    top.set_ylabel("Wall time, s")
    bottom.set_ylabel(f"On the wire, {unit}")
    top.set_title("Cost of each tree")
    bottom.set_title("")
    bottom.set_xlabel("Tree")
    bottom.legend(loc="upper center", ncols=2, fontsize=8)
    return figure
