"""The figures of a scorecard's model document."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedcredit.models.report import text
from fedcredit.models.report.scorecard_data import Characteristic, ScorecardReport
from fedcredit.models.report.style import PALETTE, in_style, new_figure, percent_axis

__all__ = ["bands", "convergence", "woe"]

_LABEL = 18


def _short(label: str) -> str:
    clean = text.name(label)
    shown = clean if len(clean) <= _LABEL else clean[: _LABEL - 1] + "…"
    return shown.replace("$", r"\$")


@in_style
def woe(item: Characteristic) -> Figure | None:
    """Draw one characteristic: share of rows and event rate per bin, and below its WOE."""
    if not item.bins:
        return None
    figure, (upper, lower) = new_figure(2, size=(4.6, 4.4))
    places = np.arange(len(item.bins))
    total = sum(b.count for b in item.bins) or 1
    upper.bar(
        places,
        [b.count / total for b in item.bins],
        0.72,
        color=PALETTE["grid"],
        label="Share of rows",
    )
    upper.plot(
        places,
        [np.nan if b.event_rate is None else b.event_rate for b in item.bins],
        color=PALETTE["event"],
        marker="o",
        markersize=4,
        label="Event rate",
    )
    upper.grid(axis="x", visible=False)
    upper.set_ylim(bottom=0)
    upper.margins(y=0.2)
    percent_axis(upper.yaxis)
    upper.legend(loc="upper right", ncols=2)
    upper.set_title(f"{_short(item.feature)}, IV {text.decimal(item.iv, 3)}")
    heights = [b.woe for b in item.bins]
    colours = [PALETTE["event"] if h > 0 else PALETTE["other"] for h in heights]
    lower.bar(places, heights, 0.72, color=colours)
    lower.axhline(0.0, color=PALETTE["muted"], linewidth=0.8)
    lower.grid(axis="x", visible=False)
    lower.set_ylabel("WOE")
    lower.set_xticks(places, [_short(b.label) for b in item.bins], rotation=35, ha="right")
    return figure


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
