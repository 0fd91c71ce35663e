"""The figure of one binned feature: how many rows, how many events, which weight."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fedcredit.models.report.style import PALETTE, drawing, new_figure, percent_axis

__all__ = ["plot_bins"]

_LONGEST = 22


def plot_bins(table: pd.DataFrame, name: str) -> Figure:
    """Draw bars of the share of rows with a line of the event rate, and the weights below.

    Parameters
    ----------
    table : pandas.DataFrame
        As :meth:`VerticalBinner.binning_table` returns it.
    name : str
        Of the feature.
    """
    lines, totals = table.drop(index="Totals"), table.loc["Totals"]
    places = np.arange(len(lines))
    texts = [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…" for text in lines["Bin"]]
    with drawing():
        figure, (upper, lower) = new_figure(2, (max(4.6, 0.7 * len(lines) + 1.5), 5.0))
        upper.bar(places, lines["Count (%)"], 0.7, color=PALETTE["grid"], label="rows")
        upper.set_ylabel("share of rows")
        percent_axis(upper.yaxis)
        upper.set_title(f"{name}: IV {totals['IV']:.3f}")
        rates = upper.twinx()
        rates.grid(visible=False)
        rates.spines["right"].set_visible(True)
        rates.plot(
            places, lines["Event rate"], marker="o", color=PALETTE["event"], label="event rate"
        )
        rates.axhline(totals["Event rate"], color=PALETTE["muted"], linewidth=0.8, linestyle=":")
        rates.set_ylim(bottom=0)
        rates.set_ylabel("event rate")
        percent_axis(rates.yaxis, 1)
        figure.legend(loc="outside upper right", ncols=2)
        risky = lines["WoE"].to_numpy(np.float64) * np.sign(_slope(lines)) > 0
        colours = [PALETTE["event"] if bad else PALETTE["other"] for bad in risky]
        lower.bar(places, lines["WoE"], 0.7, color=colours)
        lower.axhline(0, color=PALETTE["muted"], linewidth=0.8)
        lower.set_ylabel("weight of evidence")
        lower.set_xticks(places, texts, rotation=30, ha="right")
    return figure


def _slope(lines: pd.DataFrame) -> float:
    """Return 1 if larger weights mean more events, else -1."""
    rate, weight = lines["Event rate"].to_numpy(), lines["WoE"].to_numpy()
    return 1.0 if float(((rate - rate.mean()) * weight).sum()) >= 0 else -1.0
