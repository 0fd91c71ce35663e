"""The figures of a usage report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fedcredit.governance.usage import ADMITTED, JOB_USES
from fedcredit.models.report import text
from fedcredit.models.report.style import PALETTE, in_style, literal, new_figure, percent_axis
from fedcredit.models.report.usage_data import UsageReport

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OTHERS", "contribution", "days", "fields", "refusals"]

#: Name of the institutions that do not have a colour of their own.
OTHERS = "others"
_COLOURS = (PALETTE["joint"], PALETTE["alone"], PALETTE["other"], PALETTE["muted"])
_MOST_BARS = 12
_LABEL = 24


def _short(label: str) -> str:
    clean = text.name(label)
    return literal(clean if len(clean) <= _LABEL else clean[: _LABEL - 1] + "…")


@in_style
def days(report: UsageReport) -> Figure | None:
    """Draw how many enterprises were answered about per day, by institution; jobs are left out."""
    daily = report.daily[~report.daily["use"].isin(JOB_USES)]
    if daily.empty or daily["enterprises"].sum() == 0:
        return None
    totals = daily.groupby("institution")["enterprises"].sum().sort_values(ascending=False)
    own = list(totals.index[: len(_COLOURS) - 1 if len(totals) > len(_COLOURS) else len(_COLOURS)])
    named = daily.assign(
        institution=daily["institution"].where(daily["institution"].isin(own), OTHERS)
    )
    table = named.pivot_table(
        index="day", columns="institution", values="enterprises", aggfunc="sum", fill_value=0
    )
    # Days without a question are days as well.
    span = table.index[-1] - table.index[0]
    table = table.asfreq("D", fill_value=0) if span.days < 800 else table
    figure, (axes,) = new_figure()
    places = table.index.tz_localize(None).to_numpy()
    below = np.zeros(len(table))
    order = [name for name in [*own, OTHERS] if name in table.columns]
    for name, colour in zip(order, _COLOURS, strict=False):
        heights = table[name].to_numpy(dtype=float)
        axes.bar(places, heights, 0.8, bottom=below, color=colour, label=_short(name))
        below += heights
    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if len(table) == 1:
        axes.set_xlim(places[0] - np.timedelta64(2, "D"), places[0] + np.timedelta64(2, "D"))
    _count_axis(axes.yaxis)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.22)
    axes.legend(loc="upper left", ncols=2)
    axes.set_title("Enterprises answered about per day")
    return figure


@in_style
def fields(report: UsageReport) -> Figure | None:
    """Draw how often each field was used, and how often that was refused."""
    if report.usage.empty:
        return None
    sums = report.usage.groupby("field")[["answered", "refused"]].sum()
    sums = sums.assign(all=sums.sum(axis=1)).sort_values("all", ascending=False)[:_MOST_BARS]
    figure, (axes,) = _bars_figure(len(sums))
    places = np.arange(len(sums))[::-1]
    answered = sums["answered"].to_numpy(dtype=float)
    axes.barh(places, answered, 0.68, color=PALETTE["joint"], label="Answered")
    refused = sums["refused"].to_numpy(dtype=float)
    axes.barh(places, refused, 0.68, left=answered, color=PALETTE["alone"], label="Refused")
    _named_bars(axes, places, sums.index)
    _count_axis(axes.xaxis)
    axes.legend(loc="lower right", ncols=1)
    axes.set_title("Uses per field")
    return figure


@in_style
def refusals(report: UsageReport) -> Figure | None:
    """Draw why questions were refused."""
    refused = report.outcomes[~report.outcomes["outcome"].isin(ADMITTED)]
    if refused.empty:
        return None
    sums = refused.groupby("outcome")["questions"].sum().sort_values(ascending=False)[:_MOST_BARS]
    figure, (axes,) = _bars_figure(len(sums))
    places = np.arange(len(sums))[::-1]
    axes.barh(places, sums.to_numpy(dtype=float), 0.68, color=PALETTE["alone"])
    _named_bars(axes, places, sums.index)
    _count_axis(axes.xaxis)
    axes.set_title("Refused questions by reason")
    return figure


@in_style
def contribution(table: pd.DataFrame) -> Figure | None:
    """Draw what the fields contribute to one model by one measure."""
    table = table[table["contribution"] > 0][:_MOST_BARS]
    if table.empty:
        return None
    figure, (axes,) = _bars_figure(len(table))
    places = np.arange(len(table))[::-1]
    axes.barh(places, table["contribution"].to_numpy(), 0.68, color=PALETTE["other"])
    _named_bars(axes, places, table["field"])
    if table["measure"].iloc[0] == "gain":
        percent_axis(axes.xaxis)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(_short(str(table["model"].iloc[0])))
    return figure


def _bars_figure(bars: int) -> tuple[Figure, list[Any]]:
    return new_figure(size=(4.6, 1.15 + 0.27 * bars))


def _named_bars(axes: Any, places: Any, names: Any) -> None:
    axes.set_yticks(places, [_short(str(name)) for name in names])
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.05)


def _count_axis(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
