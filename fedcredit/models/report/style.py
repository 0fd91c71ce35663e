"""The look of a report's figures, and the frame in which they are drawn and saved."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = [
    "LINES",
    "PALETTE",
    "SIZE",
    "drawing",
    "in_style",
    "literal",
    "new_figure",
    "percent_axis",
]

P = ParamSpec("P")

#: Name to colour on white; every colour occurs once, so a page can replace it by its own.
PALETTE = {
    "ink": "#1b2631",
    "muted": "#5a6775",
    "grid": "#d9e0e7",
    "joint": "#1765ad",
    "alone": "#b2521a",
    "event": "#b02a45",
    "other": "#2b7565",
}
#: Line of each model.
LINES: dict[str, dict[str, Any]] = {
    "joint": {"color": PALETTE["joint"], "linestyle": "-"},
    "alone": {"color": PALETTE["alone"], "linestyle": (0, (5, 2))},
}
#: Inches; set so that 10 pt text stays readable on a phone and beside a second figure.
SIZE = (4.6, 3.5)
_RC = {
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fedcredit",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.labelcolor": PALETTE["ink"],
    "axes.titlecolor": PALETTE["ink"],
    "axes.edgecolor": PALETTE["muted"],
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.7,
    "text.color": PALETTE["ink"],
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelcolor": PALETTE["ink"],
    "ytick.labelcolor": PALETTE["ink"],
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.7,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}
#: Fonts with Chinese characters, for names of features; used if installed.
_WIDE_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "PingFang SC",
)
_LOCK = threading.RLock()


@functools.cache
def _fonts() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(f for f in _WIDE_FONTS if f in installed)]


@contextmanager
def drawing() -> Iterator[None]:
    """Draw or save in the report's style, one thread at a time; the reader's settings stay."""
    with (
        _LOCK,
        matplotlib.rc_context({**_RC, "font.sans-serif": _fonts()}),
        warnings.catch_warnings(),
    ):
        # A name in a script without an installed font still reads well in a page, where the
        # browser sets the text.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        yield


def in_style(draw: Callable[P, Figure | None]) -> Callable[P, Figure | None]:
    """Run a drawing function within :func:`drawing`."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure | None:
        with drawing():
            return draw(*args, **kwargs)

    return styled


def literal(name: str) -> str:
    """Keep ``$`` from starting a formula."""
    return name.replace("$", r"\$")


def new_figure(rows: int = 1, size: tuple[float, float] = SIZE) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (inches) with ``rows`` axes one below the other."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=rows > 1, squeeze=False)
    return figure, [row[0] for row in axes]


def percent_axis(axis: Any, digits: int = 0) -> None:
    """Label an axis of shares in percent."""
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.{digits}f} %"))
