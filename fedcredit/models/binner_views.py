"""A fitted binner's tables, and how its bins are changed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import pandas as pd
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fedcredit.models.binner_arguments import full_name
from fedcredit.models.binner_tables import BinnedFeature, MergeOptions, binning_table, iv_table
from fedcredit.models.report import scorecard_plots
from fedcredit.models.report.scorecard_data import BinRow, Characteristic
from fedcredit.stats.woe import WoeTable

__all__ = ["BinnerTables"]


class BinnerTables(BaseEstimator):
    """What of :class:`~fedcredit.models.binner.VerticalBinner` needs the counts alone."""

    features_: dict[str, BinnedFeature]
    options_: MergeOptions
    platform_: str

    # ------------------------------------------------------------------- inspection

    @property
    def names_(self) -> list[str]:
        """``party.label`` of all features, the platform's first."""
        check_is_fitted(self)
        return list(self.features_)

    def _feature(self, name: str) -> BinnedFeature:
        check_is_fitted(self)
        return self.features_[full_name(name, self.features_, self.platform_)]

    def usable(self) -> list[str]:
        """Names of the features that tell rows apart: not constant, all missing or merged away."""
        check_is_fitted(self)
        return [name for name, feature in self.features_.items() if feature.excluded() is None]

    def labels_of(self, party: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Labels of a party's usable features, in the order of the fit.

        Parameters
        ----------
        party : str
        names : sequence of str, optional
            Only these.
        """
        chosen = [self._feature(name) for name in (self.usable() if names is None else names)]
        wanted = {feature.name for feature in chosen}
        return tuple(
            feature.label
            for name, feature in self.features_.items()
            if feature.party == party and name in wanted and feature.excluded() is None
        )

    def woe_table(self, name: str) -> WoeTable:
        """Return counts, weights and information values of the final bins, empty ones included.

        The order of the bins is that in which providers number them.
        """
        return self._feature(name).woe(self.options_)

    def binning_table(self, name: str) -> pd.DataFrame:
        """Return a feature's table: one line per final bin with rows, and the totals.

        A provider's bins are numbered, its limits are in the provider's own table
        (:func:`fedcredit.models.engine_binning.own_binning_tables`).
        """
        return binning_table(self._feature(name), self.options_)

    def iv(self) -> pd.DataFrame:
        """Information value of every feature, the most predictive first, with a verdict."""
        check_is_fitted(self)
        return iv_table(list(self.features_.values()), self.options_)

    def plot(self, name: str) -> Figure:
        """Draw a feature's bins: shares of rows, event rates and weights."""
        feature = self._feature(name)
        table = self.binning_table(name)
        lines = table.drop(index="Totals").itertuples(index=False)
        bins = tuple(
            BinRow(bin_, int(count), int(events), float(rate), float(woe), float(iv))
            for bin_, count, _, _, events, rate, woe, iv in lines
        )
        iv = float(table.loc["Totals", "IV"])
        figure = scorecard_plots.woe(Characteristic(feature.party, feature.name, iv, bins))
        # Rows were counted, so there is a bin to draw.
        assert figure is not None
        return figure

    # ------------------------------------------------------------------------ edits

    def merge(self, name: str, first: int, second: int) -> Self:
        """Merge two bins, named by their lines in :meth:`binning_table`.

        Raises
        ------
        InputError
            There is no such line, or they are intervals that are no neighbours.
        """
        self._feature(name).merge(first, second)
        return self

    def split(self, name: str, line: int) -> Self:
        """Take a bin apart into the fine bins that were counted.

        Raises
        ------
        InputError
            There is no such line, or nothing to take apart.
        """
        self._feature(name).split(line)
        return self

    def force_trend(self, name: str, trend: str) -> Self:
        """Merge a feature's intervals as little as it takes to follow a trend."""
        self._feature(name).follow(trend, self.options_.smoothing)
        return self

    def reset(self, name: str) -> Self:
        """Go back to the bins of the fit."""
        self._feature(name).reset()
        return self
