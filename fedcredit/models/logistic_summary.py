"""The table and the figure of a logistic regression."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedcredit.errors import InputError
from fedcredit.models.report import text
from fedcredit.models.report.style import PALETTE, drawing, new_figure
from fedcredit.models.report.summary import Summary
from fedcredit.models.report.tables import Column, Table

if TYPE_CHECKING:
    from fedcredit.models.logistic_base import FittedLogistic

__all__ = ["LogisticSummary", "plot_trace"]

_PHASES = {
    "start": ("other", "o"),
    "hidden": ("joint", "o"),
    "exact": ("alone", "s"),
}


class LogisticSummary(Summary):
    """Coefficients and how they were found; prints through rich, shows in a notebook.

    Parameters
    ----------
    model : FittedLogistic
    """

    def __init__(self, model: FittedLogistic) -> None:
        self._model = model

    @property
    def title(self) -> str:
        """Model and label."""
        return f"{type(self._model).__name__} for {text.name(self._model.target_)}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """How the fit went, and what it revealed."""
        model = self._model
        parties = ", ".join(text.name(name) for name in (model.platform_, *model.providers_))
        end = "converged" if model.converged_ else "did not converge"
        steps = f"{text.count(model.n_iter_)} iteration{'s' if model.n_iter_ != 1 else ''}"
        out = [f"Fitted on columns of {parties}: {end} after {steps}."]
        if model.providers_:
            times = "once" if model.revealed_ == 1 else f"{text.count(model.revealed_)} times"
            out.append(
                "The providers' predictor was never revealed."
                if model.revealed_ == 0
                else f"The sum of the providers' predictors was revealed {times}."
            )
        return tuple(out)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The coefficients with their Wald statistics."""
        lines = self._model.coefficient_table()
        rows = tuple(
            (
                text.name(str(name)),
                text.decimal(line["coefficient"]),
                text.decimal(line["standard error"]),
                text.decimal(line["z"], 2),
                _p_value(line["p-value"]),
                text.decimal(line["lower"]),
                text.decimal(line["upper"]),
            )
            for name, line in lines.iterrows()
        )
        names = ("Coefficient", "Standard error", "z", "P > |z|", "2.5 %", "97.5 %")
        columns = (Column("Feature", numeric=False), *(Column(name) for name in names))
        hidden = lines["coefficient"].isna().any()
        note = "A dash stands for what its provider keeps to itself." if hidden else ""
        return (Table("Coefficients", columns, rows, note=note),)

    def __repr__(self) -> str:
        return f"LogisticSummary({self._model!r})"


def _p_value(value: float) -> str:
    if not math.isfinite(value):
        return text.ABSENT
    return "< 0.0001" if value < 1e-4 else text.decimal(value)


def plot_trace(trace: pd.DataFrame) -> Figure:
    """Draw the norm of the gradient per iteration, by phase.

    Parameters
    ----------
    trace : pandas.DataFrame
        ``trace_`` of a model.

    Raises
    ------
    InputError
        The trace is empty.
    """
    if not len(trace):
        raise InputError(
            "the fit has no trace: it ran at one party.",
            step="plot trace",
            fix="plot the trace of a model of several parties",
        )
    with drawing():
        figure, (axes,) = new_figure()
        norms = np.maximum(trace["gradient_norm"].to_numpy(np.float64), 1e-300)
        axes.plot(trace["iteration"], norms, color=PALETTE["muted"], linewidth=1.0, zorder=1)
        for phase, (colour, marker) in _PHASES.items():
            part = (trace["phase"] == phase).to_numpy()
            if part.any():
                axes.scatter(
                    trace["iteration"][part],
                    norms[part],
                    color=PALETTE[colour],
                    marker=marker,
                    s=22,
                    label=phase,
                    zorder=2,
                )
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("Iteration")
        axes.set_ylabel("Norm of the mean gradient")
        axes.set_title("Convergence")
        axes.legend()
    return figure
