"""What there is to see of a scorecard: its table, its bins, a summary, figures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Console, ConsoleOptions, RenderResult
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import InputError
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.report.scorecard_data import ScorecardReport
from fedcredit.models.report.tables import Column, Table
from fedcredit.models.scorecard_share import ScorecardShare

__all__ = ["CardViews", "ScorecardSummary"]

_WIDTH = 110


@dataclass(frozen=True)
class ScorecardSummary:
    """A card in a few tables: prints through rich, shows in a notebook, reads as text.

    Attributes
    ----------
    tables : tuple of Table
    """

    tables: tuple[Table, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.tables

    def _repr_html_(self) -> str:
        return str(Markup("").join(table.to_html() for table in self.tables))

    def __str__(self) -> str:
        out = io.StringIO()
        Console(file=out, width=_WIDTH, color_system=None, legacy_windows=False).print(self)
        return out.getvalue()

    def __repr__(self) -> str:
        return f"ScorecardSummary({len(self.tables)} tables)"


class CardViews:
    """Tables and figures of a scorecard; a part of :class:`VerticalScorecard`."""

    share_: ScorecardShare
    scoring_binner_: VerticalBinner
    selection_: pd.DataFrame
    n_fits_: int
    platform_: str

    @property
    def features_(self) -> list[str]:
        """``party.label`` of the characteristics, the platform's first."""
        check_is_fitted(self)
        return [c.name for c in self.share_.characteristics]

    @property
    def providers_(self) -> tuple[str, ...]:
        """Providers with characteristics in the card, in the order of its fit."""
        check_is_fitted(self)
        parties = dict.fromkeys(c.party for c in self.share_.characteristics)
        return tuple(party for party in parties if party != self.platform_)

    def table(self) -> pd.DataFrame:
        """Return the card, one line per bin with training rows.

        Returns
        -------
        pandas.DataFrame
            ``party``, ``feature``, ``bin`` (limits of the platform's own features, numbers of
            others), ``count``, ``share`` of the rows, ``event rate``, ``woe``, ``coefficient``,
            ``points``. Coefficient and points are missing where a provider does not release its
            coefficients; base points that are not spread stand in the first line.
        """
        check_is_fitted(self)
        return self.share_.table()

    def binning_table(self, name: str) -> pd.DataFrame:
        """Return a feature's bins as they were in the fit, also of a feature that was dropped.

        See :meth:`VerticalBinner.binning_table`.
        """
        check_is_fitted(self)
        return self.scoring_binner_.binning_table(name)

    def coefficients(self) -> pd.DataFrame:
        """Return one line per characteristic.

        Returns
        -------
        pandas.DataFrame
            Index ``feature``; ``party``, ``coefficient``, ``standard error``, ``iv``,
            ``least points``, ``most points``; missing where a provider does not release them.
        """
        check_is_fitted(self)
        lines = []
        for c in self.share_.characteristics:
            points = None if c.points is None else c.points[c.has_bins]
            lines.append(
                {
                    "feature": c.name,
                    "party": c.party,
                    "coefficient": np.nan if c.coef is None else c.coef,
                    "standard error": np.nan if c.standard_error is None else c.standard_error,
                    "iv": float(self.selection_.loc[c.name, "iv"]),
                    "least points": np.nan if points is None else float(points.min()),
                    "most points": np.nan if points is None else float(points.max()),
                }
            )
        return pd.DataFrame(lines).set_index("feature")

    def summary(self) -> ScorecardSummary:
        """Return scale, characteristics and what selection dropped, for terminals and notebooks."""
        check_is_fitted(self)
        share = self.share_
        scale = share.scale
        facts = (
            ("points to double the odds", f"{scale.pdo:g}"),
            ("score at the base odds", f"{scale.base_score:g} at {scale.base_odds:g} to 1"),
            ("base points", f"{share.base:g}" if share.base else "spread over characteristics"),
            ("characteristics", str(len(share.characteristics))),
            ("regressions fitted", str(self.n_fits_)),
        )
        dropped = self.selection_[~self.selection_["kept"]]
        tables = [
            Table("Scale", (Column("", False), Column("", False)), facts),
            Table(
                "Characteristics",
                (
                    Column("feature", False),
                    *(Column(n) for n in ("IV", "coefficient", "std. error", "points")),
                ),
                tuple(
                    (
                        str(name),
                        f"{line['iv']:.3f}",
                        _number(line["coefficient"], 3),
                        _number(line["standard error"], 3),
                        _span(line["least points"], line["most points"]),
                    )
                    for name, line in self.coefficients().iterrows()
                ),
                note="A dash stands where a provider keeps its coefficients to itself.",
            ),
        ]
        if len(dropped):
            tables.append(
                Table(
                    "Dropped",
                    (
                        Column("feature", False),
                        Column("step", False),
                        Column("value"),
                        Column("threshold"),
                        Column("against", False),
                    ),
                    tuple(
                        (
                            str(name),
                            str(line["step"]),
                            _number(line["value"], 3),
                            _number(line["threshold"], 3),
                            str(line["against"]),
                        )
                        for name, line in dropped.iterrows()
                    ),
                )
            )
        return ScorecardSummary(tuple(tables))

    def report(self, test: FederatedFrame | None = None, **options: Any) -> ScorecardReport:
        """Measure the card and collect all about its making; see :func:`build_scorecard_report`."""
        from fedcredit.models.scorecard_report import build_scorecard_report

        return build_scorecard_report(self, test, **options)  # type: ignore[arg-type]

    def plot(self, name: str, X: Any = None, y: Any = None) -> Figure:
        """Draw a figure.

        Parameters
        ----------
        name : str
            A feature, for its bins; ``"iv"`` or ``"points"``; or, with rows and outcomes,
            ``"scores"``, ``"odds"`` or ``"cutoffs"``.
        X, y
            As in :meth:`VerticalScorecard.bands`.

        Raises
        ------
        InputError
            The name is unknown, or rows and outcomes are missing.
        """
        from fedcredit.models import scorecard_plots

        check_is_fitted(self)
        if name == "iv":
            return scorecard_plots.iv_bars(self.selection_)
        if name == "points":
            return scorecard_plots.point_spans(self.share_)
        drawn = {
            "scores": scorecard_plots.score_histogram,
            "odds": scorecard_plots.odds_by_points,
            "cutoffs": scorecard_plots.cutoff_curves,
        }
        if name in drawn:
            if X is None or y is None:
                raise InputError(
                    f"the figure {name!r} needs rows and their outcomes.",
                    step="plot",
                    fix=f"call plot({name!r}, frame, y)",
                )
            points, outcomes = self._scored(X, y)  # type: ignore[attr-defined]
            return drawn[name](points, outcomes, self.share_.scale)
        try:
            return self.scoring_binner_.plot(name)
        except InputError as error:
            error.fix = f"{error.fix}; other figures are iv, points, {', '.join(drawn)}"
            raise


def _number(value: Any, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def _span(least: Any, most: Any) -> str:
    return "–" if pd.isna(least) else f"{least:.0f} to {most:.0f}"
