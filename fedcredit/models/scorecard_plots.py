"""The figures of a scorecard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from fedcredit.models.report.style import PALETTE, drawing, literal, new_figure, percent_axis
from fedcredit.models.scorecard_share import ScorecardShare
from fedcredit.models.scorecard_tables import cutoff_frame, odds_frame
from fedcredit.stats.scorecard_points import PointScale

__all__ = ["cutoff_curves", "iv_bars", "odds_by_points", "point_spans", "score_histogram"]

Floats = npt.NDArray[np.float64]
_BARS = 40
_MOST_FEATURES = 30


def iv_bars(selection: pd.DataFrame) -> Figure:
    """Draw the information value of every feature, those in the card in another colour."""
    lines = selection.sort_values("iv", ascending=False, kind="stable").head(_MOST_FEATURES)[::-1]
    with drawing():
        figure, (axes,) = new_figure(size=(5.2, 1.0 + 0.24 * len(lines)))
        colours = [PALETTE["joint"] if kept else PALETTE["muted"] for kept in lines["kept"]]
        axes.barh(np.arange(len(lines)), lines["iv"], 0.7, color=colours)
        axes.set_yticks(np.arange(len(lines)), [literal(str(name)) for name in lines.index])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("Information value")
        axes.set_title("Features: in the card (blue), dropped (grey)")
    return figure


def point_spans(share: ScorecardShare) -> Figure:
    """Draw from how many to how many points every characteristic goes, where that is known."""
    known = [c for c in share.characteristics if c.points is not None][::-1]
    with drawing():
        figure, (axes,) = new_figure(size=(5.2, 1.0 + 0.28 * max(1, len(known))))
        for place, c in enumerate(known):
            assert c.points is not None
            points = c.points[c.has_bins]
            axes.plot([points.min(), points.max()], [place, place], color=PALETTE["grid"])
            axes.plot(points, np.full(len(points), place), "o", color=PALETTE["joint"])
        axes.set_yticks(np.arange(len(known)), [literal(c.name) for c in known])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("Points of each bin")
        axes.set_title("Points by characteristic")
    return figure


def score_histogram(points: Floats, y: Floats, scale: PointScale) -> Figure:
    """Draw how events and non-events are spread over the points."""
    with drawing():
        figure, (axes,) = new_figure()
        edges = np.linspace(points.min() - 0.5, points.max() + 0.5, _BARS + 1).tolist()
        for event, colour, label in ((0, "other", "Non-events"), (1, "event", "Events")):
            part = points[y == event]
            weight = np.full(len(part), 1.0 / max(1, len(part)))
            axes.hist(part, edges, weights=weight, color=PALETTE[colour], alpha=0.55, label=label)
        percent_axis(axes.yaxis)
        axes.set_xlabel("Points")
        axes.set_ylabel("Share of each class")
        axes.set_title("Distribution of the points")
        axes.legend()
    return figure


def odds_by_points(points: Floats, y: Floats, scale: PointScale) -> Figure:
    """Draw the odds in bands of points beside those that the points stand for."""
    table = odds_frame(points, y, scale, None, 10)
    seen = table[np.isfinite(table["odds"]) & (table["odds"] > 0)]
    middle = [
        float(points[(points >= a) & (points < b)].mean())
        for a, b in zip(seen["from"], seen["below"], strict=True)
    ]
    with drawing():
        figure, (axes,) = new_figure()
        axes.plot(middle, seen["implied odds"], color=PALETTE["muted"], label="By the scale")
        axes.plot(middle, seen["odds"], "o", color=PALETTE["joint"], label="Observed")
        axes.set_yscale("log", base=2)
        axes.set_xlabel("Mean points of the band")
        axes.set_ylabel("Odds of non-event to event")
        axes.set_title("Odds by points")
        axes.legend()
    return figure


def cutoff_curves(points: Floats, y: Floats, scale: PointScale) -> Figure:
    """Draw approval rate and event rate of the approved by cut-off."""
    table = cutoff_frame(points, y, None)
    with drawing():
        figure, (axes,) = new_figure()
        axes.plot(table.index, table["approval rate"], color=PALETTE["joint"], label="Approved")
        axes.plot(
            table.index,
            table["event rate"],
            color=PALETTE["event"],
            linestyle=(0, (5, 2)),
            label="Event rate of the approved",
        )
        axes.set_ylim(0, 1)
        percent_axis(axes.yaxis)
        axes.set_xlabel("Cut-off, points")
        axes.set_ylabel("Share")
        axes.set_title("What each cut-off would do")
        axes.legend()
    return figure
