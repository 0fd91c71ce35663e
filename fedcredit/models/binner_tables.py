"""Binned features as the platform holds them: counts, how bins are merged, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError
from fedcredit.models.columns import ColumnCoder
from fedcredit.protocols.binning import CONSTANT, EMPTY, USABLE, FeatureCounts
from fedcredit.stats.bin_merging import Groups, force_trend, merge_bins
from fedcredit.stats.bin_rules import BinRule, regroup
from fedcredit.stats.credit_metrics import population_stability_index
from fedcredit.stats.woe import WoeTable, woe_table

__all__ = ["BinnedFeature", "MergeOptions", "binning_table", "iv_table", "stability_table"]

_STEP = "binning"
Integers = npt.NDArray[np.int64]
_VALUES = ("ordered", "category")

_REASONS = {
    CONSTANT: "excluded: one bin holds all rows",
    EMPTY: "excluded: all values are missing",
}
#: Information values from which a feature is called by the next name (Siddiqi 2006, chapter 6).
_STRENGTHS = ((0.02, "unpredictive"), (0.1, "weak"), (0.3, "medium"), (0.5, "strong"))


@dataclass(frozen=True)
class MergeOptions:
    """How bins are merged and weighed; the arguments of :class:`VerticalBinner`."""

    method: str
    max_bins: int
    min_bin_share: float
    smoothing: float
    convention: str


@dataclass(eq=False)
class BinnedFeature:
    """One feature, of the platform or of a provider.

    Attributes
    ----------
    party, label : str
    state : {"usable", "constant", "all missing"}
    roles : tuple of str
        Of the bins that were counted.
    count, event : ndarray of int64, shape (n_bins,)
        Rows and events in them.
    groups : tuple of tuples of int
        How they are merged now.
    first_groups : tuple of tuples of int
        How they were merged by the fit.
    coder, rule : ColumnCoder, BinRule or None
        Of the platform's own features.
    """

    party: str
    label: str
    state: str
    roles: tuple[str, ...]
    count: Integers = field(repr=False)
    event: Integers = field(repr=False)
    groups: Groups = ()
    first_groups: Groups = ()
    coder: ColumnCoder | None = field(default=None, repr=False)
    rule: BinRule | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        party: str,
        counts: FeatureCounts,
        options: MergeOptions,
        *,
        trend: str,
        keep_bins: bool,
        coder: ColumnCoder | None = None,
        rule: BinRule | None = None,
    ) -> BinnedFeature:
        """Merge the bins of a feature that was counted; ``keep_bins`` leaves them as they are."""
        groups = merge_bins(
            counts.count,
            counts.event,
            counts.roles,
            method="none" if keep_bins else options.method,  # type: ignore[arg-type]
            max_bins=options.max_bins,
            min_bin_share=options.min_bin_share,
            trend=trend,  # type: ignore[arg-type]
            smoothing=options.smoothing,
        )
        return cls(
            party=party,
            label=counts.label,
            state=counts.state,
            roles=counts.roles,
            count=counts.count,
            event=counts.event,
            groups=groups,
            first_groups=groups,
            coder=coder,
            rule=rule,
        )

    @property
    def name(self) -> str:
        """``party.label``."""
        return f"{self.party}.{self.label}"

    def places(self) -> tuple[Integers, tuple[str, ...]]:
        """Return the final bin of every counted one, and the roles of the final bins."""
        place, roles = regroup(self.roles, self.groups)
        return place, roles

    def woe(self, options: MergeOptions) -> WoeTable:
        """Return counts, weights and information values of the final bins, empty ones included."""
        place, roles = self.places()
        size = len(roles)
        return woe_table(
            np.bincount(place, weights=self.count, minlength=size).astype(np.int64),
            np.bincount(place, weights=self.event, minlength=size).astype(np.int64),
            smoothing=options.smoothing,
            convention=options.convention,  # type: ignore[arg-type]
        )

    def excluded(self) -> str | None:
        """Say why the feature cannot be used, or None."""
        if self.state != USABLE:
            return _REASONS[self.state]
        place, roles = self.places()
        filled = np.bincount(place, weights=self.count, minlength=len(roles)) > 0
        return None if filled.sum() > 1 else "excluded: all bins are merged into one"

    def texts(self) -> list[str]:
        """Name the final bins: by their limits if the platform owns the feature, else by number."""
        if self.rule is not None and self.coder is not None:
            return self.rule.merged(self.groups).describe(self.coder.categories)
        _, roles = self.places()
        values = sum(role in _VALUES for role in roles)
        specials = roles.count("special")
        texts = [f"bin {number} (of {self.party})" for number in range(1, values + 1)]
        for number in range(1, specials + 1):
            which = f" {number}" if specials > 1 else ""
            texts.append(f"special{which} (of {self.party})")
        return [*texts, "missing"]

    # --------------------------------------------------------------------------- edits

    def shown(self) -> list[list[int]]:
        """Return the counted bins in every line of the table: final bins that hold rows."""
        place, roles = self.places()
        members = [np.flatnonzero(place == b).tolist() for b in range(len(roles))]
        return [group for group in members if self.count[group].sum() > 0]

    def _line(self, number: int) -> list[int]:
        lines = self.shown()
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise InputError("a bin is named by its line in the table.", step=_STEP)
        if not 0 <= number < len(lines):
            raise InputError(
                f"the table of {self.name!r} has no line {number}.",
                step=_STEP,
                fix=f"use a line from 0 to {len(lines) - 1}",
            )
        return lines[int(number)]

    def _change(self, groups: Sequence[Sequence[int]]) -> None:
        regroup(self.roles, groups)  # refuses what cannot be
        self.groups = tuple(tuple(int(b) for b in group) for group in groups)

    def merge(self, first: int, second: int) -> None:
        """Merge two lines of the table.

        Raises
        ------
        InputError
            There is no such line, they are the same, or intervals that are no neighbours.
        """
        into, other = self._line(min(first, second)), self._line(max(first, second))
        if into == other:
            raise InputError(
                "a bin cannot be merged with itself.", step=_STEP, fix="name two lines"
            )
        merged = sorted([*into, *other])
        place, roles = self.places()
        groups = [np.flatnonzero(place == b).tolist() for b in range(len(roles))]
        self._change([merged if g == into else g for g in groups if g and g != other])

    def split(self, number: int) -> None:
        """Take a line of the table apart into the bins that were counted.

        Raises
        ------
        InputError
            There is no such line, or it is one counted bin.
        """
        line = self._line(number)
        if len(line) == 1:
            raise InputError(
                f"line {number} of {self.name!r} is a single counted bin.",
                step=_STEP,
                fix="fit with more prebins",
            )
        groups: list[list[int]] = []
        place, roles = self.places()
        for b in range(len(roles)):
            group = np.flatnonzero(place == b).tolist()
            groups += [[bin_] for bin_ in group] if group == line else [group] if group else []
        values = [g for g in groups if self.roles[g[0]] in _VALUES]
        self._change([*values, *(g for g in groups if self.roles[g[0]] not in _VALUES)])

    def follow(self, trend: str, smoothing: float) -> None:
        """Merge as little as it takes for the event rate to follow a trend."""
        self._change(
            force_trend(
                self.count,
                self.event,
                self.roles,
                self.groups,
                trend,  # type: ignore[arg-type]
                smoothing=smoothing,
            )
        )

    def reset(self) -> None:
        """Go back to the bins of the fit."""
        self.groups = self.first_groups

    # ------------------------------------------------------------------------- at rest

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "party": self.party,
            "label": self.label,
            "state": self.state,
            "roles": list(self.roles),
            "count": self.count.tolist(),
            "event": self.event.tolist(),
            "groups": [list(group) for group in self.groups],
            "first_groups": [list(group) for group in self.first_groups],
            "coder": self.coder and self.coder.to_dict(),
            "rule": self.rule and self.rule.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BinnedFeature:
        """Rebuild from :meth:`to_dict`; ValueError if the parts contradict each other."""
        coder, rule = data["coder"], data["rule"]
        feature = cls(
            party=str(data["party"]),
            label=str(data["label"]),
            state=str(data["state"]),
            roles=tuple(data["roles"]),
            count=np.array(data["count"], np.int64),
            event=np.array(data["event"], np.int64),
            groups=tuple(tuple(group) for group in data["groups"]),
            first_groups=tuple(tuple(group) for group in data["first_groups"]),
            coder=None if coder is None else ColumnCoder.from_dict(coder),
            rule=None if rule is None else BinRule.from_dict(rule),
        )
        feature.places()
        fits = feature.count.shape == feature.event.shape == (len(feature.roles),)
        fits = fits and feature.state in (USABLE, CONSTANT, EMPTY)
        if not fits or (rule is not None and feature.rule.roles != feature.roles):  # type: ignore[union-attr]
            raise ValueError
        return feature


# ------------------------------------------------------------------------------------ tables


def binning_table(feature: BinnedFeature, options: MergeOptions) -> pd.DataFrame:
    """Return the table of a feature, one line per final bin with rows and a line of totals."""
    table = feature.woe(options)
    shown = table.count > 0
    rows, events = int(table.count.sum()), int(table.event.sum())
    lines = pd.DataFrame(
        {
            "Bin": feature.texts(),
            "Count": table.count,
            "Count (%)": table.count / rows,
            "Non-event": table.non_event,
            "Event": table.event,
            "Event rate": table.event_rate,
            "WoE": table.woe,
            "IV": table.iv,
        }
    )[shown].reset_index(drop=True)
    totals = pd.DataFrame(
        {
            "Bin": [""],
            "Count": [rows],
            "Count (%)": [1.0],
            "Non-event": [rows - events],
            "Event": [events],
            "Event rate": [events / rows],
            "WoE": [np.nan],
            "IV": [table.total_iv],
        },
        index=pd.Index(["Totals"]),
    )
    return pd.concat([lines, totals])


def iv_table(features: Sequence[BinnedFeature], options: MergeOptions) -> pd.DataFrame:
    """Return one line per feature, the most predictive first and unusable ones last."""
    lines = []
    for feature in features:
        table = feature.woe(options)
        reason = feature.excluded()
        missing = feature.count[[role == "missing" for role in feature.roles]].sum()
        lines.append(
            {
                "feature": feature.name,
                "party": feature.party,
                "iv": table.total_iv if reason is None else 0.0,
                "bins": int((table.count > 0).sum()),
                "missing share": float(missing / feature.count.sum()),
                "constant": feature.state != USABLE,
                "verdict": reason or _strength(table.total_iv),
            }
        )
    columns = ["feature", "party", "iv", "bins", "missing share", "constant", "verdict"]
    out = pd.DataFrame(lines, columns=columns).set_index("feature")
    usable = [feature.excluded() is None for feature in features]
    order = np.lexsort((-out["iv"].to_numpy(np.float64), ~np.array(usable, np.bool_)))
    return out.iloc[order]


def _strength(iv: float) -> str:
    for limit, text in _STRENGTHS:
        if iv < limit:
            return text
    return "suspiciously strong"


def stability_table(
    features: Sequence[BinnedFeature], counts: Sequence[Integers], options: MergeOptions
) -> pd.DataFrame:
    """Return the population stability index of every feature.

    Parameters
    ----------
    features : sequence of BinnedFeature
    counts : sequence of ndarray of int64
        Rows per final bin now; -1 in bins that are counted together, and then one number more
        for these.
    options : MergeOptions
    """
    lines = []
    for feature, found in zip(features, counts, strict=True):
        expected = feature.woe(options).count
        now = found[: len(expected)]
        hidden = now < 0
        before = expected[~hidden]
        now = now[~hidden]
        if hidden.any():
            before = np.append(before, expected[hidden].sum())
            now = np.append(now, found[-1])
        psi = population_stability_index(before, now)
        lines.append(
            {
                "feature": feature.name,
                "party": feature.party,
                "psi": psi,
                "verdict": _verdict_of_psi(psi),
            }
        )
    return pd.DataFrame(lines, columns=["feature", "party", "psi", "verdict"]).set_index("feature")


def _verdict_of_psi(psi: float) -> str:
    """Say in words how far a distribution has moved (Siddiqi 2006, chapter 10)."""
    return "stable" if psi < 0.1 else "slightly shifted" if psi < 0.25 else "shifted"
