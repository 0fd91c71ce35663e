"""How features are selected for a scorecard, and the trail that the selection leaves."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator

from fedcredit.errors import InputError

__all__ = ["FeatureSelector", "SelectionTrail", "TrailEntry"]

_STEP = "select features"
_CRITERIA = ("p_value", "aic")
_DIRECTIONS = (None, "forward", "backward", "both")


class FeatureSelector(BaseEstimator):
    """Settings of the steps that select a scorecard's features; None switches a step off.

    The steps run in this order, each on what the one before it kept. All but the last work on
    counts per bin and on one Gram matrix of weights of evidence.

    Parameters
    ----------
    min_iv : float or None, default 0.02
        Features of a lower information value are dropped.
    max_iv : float or None, default None
        Features of a higher one too: it may come from a leak of the label. 0.5 is common.
    max_missing : float or None, default 0.95
        Largest share of missing values.
    max_psi : float or None, default None
        Largest population stability index between training and validation rows. Needs
        ``validation``; the providers count rows per bin once more for it.
    max_correlation : float or None, default 0.8
        Of two features whose weights of evidence correlate more, in absolute value, the one of
        lower information value is dropped. Needs every provider's ``release_correlations``.
    max_vif : float or None, default 10
        Largest variance inflation factor; the feature of the largest is dropped until all are
        below. Needs ``release_correlations`` too.
    stepwise : {None, "forward", "backward", "both"}, default None
        Selection by the full fit's coefficients and their covariance, which approximate every
        smaller model without another fit (Lawless and Singhal, Biometrics 34, 1978); what is
        left is fitted once more. Needs every provider's ``release_coefficients``.
    criterion : {"p_value", "aic"}, default "p_value"
    enter, remove : float, default 0.05 and 0.10
        p-values below which a feature enters and above which it leaves.

    Examples
    --------
    >>> FeatureSelector(min_iv=0.05, stepwise="backward")
    FeatureSelector(min_iv=0.05, stepwise='backward')
    """

    def __init__(
        self,
        min_iv: float | None = 0.02,
        *,
        max_iv: float | None = None,
        max_missing: float | None = 0.95,
        max_psi: float | None = None,
        max_correlation: float | None = 0.8,
        max_vif: float | None = 10.0,
        stepwise: str | None = None,
        criterion: str = "p_value",
        enter: float = 0.05,
        remove: float = 0.10,
    ) -> None:
        self.min_iv = min_iv
        self.max_iv = max_iv
        self.max_missing = max_missing
        self.max_psi = max_psi
        self.max_correlation = max_correlation
        self.max_vif = max_vif
        self.stepwise = stepwise
        self.criterion = criterion
        self.enter = enter
        self.remove = remove

    @classmethod
    def none(cls) -> FeatureSelector:
        """Return a selector that drops constant features only."""
        return cls(None, max_missing=None, max_correlation=None, max_vif=None)

    @property
    def needs_correlations(self) -> bool:
        """Whether a step needs the correlations of the features."""
        return self.max_correlation is not None or self.max_vif is not None

    def check(self) -> None:
        """Raise an error if a setting cannot be used.

        Raises
        ------
        InputError
            A threshold is out of range, or a name is unknown.
        """
        ranges = {
            "min_iv": (0.0, math.inf),
            "max_iv": (0.0, math.inf),
            "max_missing": (0.0, 1.0),
            "max_psi": (0.0, math.inf),
            "max_correlation": (0.0, 1.0),
            "max_vif": (1.0, math.inf),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and not _within(value, least, most):
                raise InputError(
                    f"the selector's {name} is not a number from {least:g} to {most:g}.",
                    step=_STEP,
                    fix="choose a value of this range, or None to switch the step off",
                )
        for name in ("enter", "remove"):
            value = getattr(self, name)
            if not _within(value, 0.0, 1.0):
                raise InputError(
                    f"the selector's {name} is not a number from 0 to 1.",
                    step=_STEP,
                    fix="give a p-value",
                )
        if self.enter > self.remove:
            raise InputError(
                "the selector's enter is above remove, so a feature could enter and leave forever.",
                step=_STEP,
                fix="choose enter at most as large as remove",
            )
        for name, known in (("stepwise", _DIRECTIONS), ("criterion", _CRITERIA)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"the selector's {name} is unknown.",
                    step=_STEP,
                    fix=f"use one of {', '.join(map(repr, known))}",
                )


def _within(value: Any, least: float, most: float) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and least <= float(value) <= most


@dataclass(frozen=True)
class TrailEntry:
    """Why a feature was dropped, or that it was kept.

    Attributes
    ----------
    name : str
        ``"party.label"``.
    kept : bool
    step : str
        The step that dropped it; ``"kept"`` if none did.
    statistic : str
        What was measured there; empty if nothing was.
    value, threshold : float
        The statistic and what it was compared with; NaN if nothing was measured.
    against : str
        The other feature of a pair, or empty.
    """

    name: str
    kept: bool
    step: str = "kept"
    statistic: str = ""
    value: float = math.nan
    threshold: float = math.nan
    against: str = ""


class SelectionTrail:
    """What became of every feature, in the order of the features.

    Parameters
    ----------
    names : iterable of str
        All features at the start.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._entries = {name: TrailEntry(name, True) for name in names}

    @property
    def kept(self) -> list[str]:
        """Names of the features that no step has dropped."""
        return [name for name, entry in self._entries.items() if entry.kept]

    @property
    def entries(self) -> list[TrailEntry]:
        """One entry per feature."""
        return list(self._entries.values())

    def drop(
        self,
        name: str,
        step: str,
        statistic: str = "",
        value: float = math.nan,
        threshold: float = math.nan,
        against: str = "",
    ) -> None:
        """Drop a feature that is still there."""
        if self._entries[name].kept:
            self._entries[name] = TrailEntry(
                name, False, step, statistic, float(value), float(threshold), against
            )

    def note(self, name: str, step: str, statistic: str, value: float, threshold: float) -> None:
        """Record that a feature stays only because it was asked to be kept."""
        entry = self._entries[name]
        if entry.kept and entry.step == "kept":
            self._entries[name] = TrailEntry(
                name, True, f"kept in spite of {step}", statistic, float(value), float(threshold)
            )

    def frame(self) -> pd.DataFrame:
        """Return the trail as a table, one line per feature.

        Returns
        -------
        pandas.DataFrame
            Index ``feature``; columns ``party``, ``kept``, ``step``, ``statistic``, ``value``,
            ``threshold``, ``against``.
        """
        rows = [
            {
                "feature": e.name,
                "party": e.name.partition(".")[0],
                "kept": e.kept,
                "step": e.step,
                "statistic": e.statistic,
                "value": e.value,
                "threshold": e.threshold,
                "against": e.against,
            }
            for e in self._entries.values()
        ]
        columns = ["feature", "party", "kept", "step", "statistic", "value", "threshold"]
        return pd.DataFrame(rows, columns=[*columns, "against"]).set_index("feature")

    @classmethod
    def of(cls, entries: Iterable[TrailEntry]) -> SelectionTrail:
        """Rebuild from entries."""
        trail = cls(())
        trail._entries = {entry.name: entry for entry in entries}
        return trail
