"""The figures of a scorecard's model document."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedcredit.models.report import text
from fedcredit.models.report.scorecard_data import Characteristic, ScorecardReport
from fedcredit.models.report.style import PALETTE, in_style, literal, new_figure, percent_axis

__all__ = ["bands", "convergence", "woe"]

Floats = npt.NDArray[np.float64]

_LABEL = 22
_TITLE = 26


def _short(label: str, longest: int = _LABEL) -> str:
    clean = text.name(label)
    return literal(clean if len(clean) <= longest else clean[: longest - 1] + "…")


@in_style
def woe(item: Characteristic) -> Figure | None:
    """Draw one characteristic: share of rows and event rate per bin, and below its WOE."""
    if not item.bins:
        return None
    figure, (upper, lower) = new_figure(2, size=(max(4.6, 1.0 + 0.45 * len(item.bins)), 4.6))
    places = np.arange(len(item.bins))
    total = sum(b.count for b in item.bins) or 1
    rates = np.array([np.nan if b.event_rate is None else b.event_rate for b in item.bins])
    upper.bar(
        places,
        [b.count / total for b in item.bins],
        0.72,
        color=PALETTE["grid"],
        label="Share of rows",
    )
    upper.plot(
        places,
        rates,
        color=PALETTE["event"],
        marker="o",
        markersize=4,
        label="Event rate",
    )
    upper.axhline(
        sum(b.events for b in item.bins) / total,
        color=PALETTE["muted"],
        linewidth=0.8,
        linestyle=":",
    )
    upper.grid(axis="x", visible=False)
    upper.set_ylim(bottom=0)
    upper.margins(y=0.2)
    percent_axis(upper.yaxis)
    upper.legend(loc="upper right", ncols=2)
    upper.set_title(f"{_short(item.feature, _TITLE)}, IV {text.decimal(item.iv, 3)}")
    heights = np.array([b.woe for b in item.bins])
    risky = heights * _direction(rates, heights) > 0
    colours = [PALETTE["event"] if bad else PALETTE["other"] for bad in risky]
    lower.bar(places, heights, 0.72, color=colours)
    lower.axhline(0.0, color=PALETTE["muted"], linewidth=0.8)
    lower.grid(axis="x", visible=False)
    lower.set_ylabel("WOE")
    lower.set_xticks(places, [_short(b.label) for b in item.bins], rotation=35, ha="right")
    return figure


def _direction(rates: Floats, heights: Floats) -> float:
    """Return 1 if a larger WOE means more events, else -1, as the convention has it."""
    known = np.isfinite(rates)
    if not known.any():
        return 1.0
    moved = (rates[known] - rates[known].mean()) * heights[known]
    return 1.0 if float(moved.sum()) >= 0 else -1.0


@in_style
def bands(report: ScorecardReport) -> Figure | None:
    """Draw observed odds per score band against the odds that the scale implies."""
    found = [b for b in report.bands if b.odds is not None and b.odds > 0]
    if len(found) < 2:
        return None
    figure, (axes,) = new_figure()
    places = np.arange(len(found))
    axes.plot(
        places,
        [b.odds or np.nan for b in found],
        color=PALETTE["joint"],
        marker="o",
        markersize=4,
        label="Observed",
    )
    implied = [np.nan if b.implied_odds is None else b.implied_odds for b in found]
    axes.plot(places, implied, color=PALETTE["alone"], linestyle=(0, (5, 2)), label="By the scale")
    axes.set_yscale("log")
    axes.set_xticks(places, [_short(b.band) for b in found], rotation=35, ha="right")
    axes.set_ylabel("Non-events per event")
    axes.set_title("Score to odds")
    axes.legend(loc="upper left")
    return figure


@in_style
def convergence(report: ScorecardReport) -> Figure | None:
    """Draw the norm of the gradient over the evaluations of the fit."""
    if len(report.trace) < 2:
        return None
    figure, (axes,) = new_figure()
    axes.plot(
        np.arange(1, len(report.trace) + 1),
        [r.gradient_norm for r in report.trace],
        color=PALETTE["joint"],
        marker="o",
        markersize=3,
    )
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("Evaluation")
    axes.set_ylabel("Norm of the gradient")
    axes.set_title("Convergence of the regression")
    return figure
