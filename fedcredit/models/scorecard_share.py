"""The platform's share of a scorecard: its characteristics, their bins and their points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.stats.scorecard_points import PointScale, characteristic_points

__all__ = ["Characteristic", "ScorecardShare", "make_share", "row_points"]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Characteristic:
    """One feature of the card as the platform knows it.

    Attributes
    ----------
    name : str
        ``"party.label"``.
    bins : tuple of str
        What the platform may show of the bins: limits of its own features, else numbers.
    count, event : ndarray of int64, shape (B,)
        Training rows per bin, and those with the event.
    woe : ndarray of float64, shape (B,)
    coef, standard_error : float or None
        None where the provider does not release it.
    points : ndarray of float64, shape (B,), or None
        None without a coefficient.
    """

    name: str
    bins: tuple[str, ...] = field(repr=False)
    count: Counts = field(repr=False)
    event: Counts = field(repr=False)
    woe: Floats = field(repr=False)
    coef: float | None = field(repr=False)
    standard_error: float | None = field(repr=False)
    points: Floats | None = field(repr=False)

    @property
    def party(self) -> str:
        """The owner."""
        return self.name.partition(".")[0]

    @property
    def label(self) -> str:
        """What the owner calls it."""
        return self.name.partition(".")[2]

    @property
    def has_bins(self) -> npt.NDArray[np.bool_]:
        """Bins that hold training rows; shape (B,)."""
        return self.count > 0

    def neutral(self, kind: str) -> float:
        """Return the points that losses are counted from: the most, or the mean of the rows."""
        assert self.points is not None
        if kind == "mean":
            return float(self.points @ self.count) / float(self.count.sum())
        return float(self.points[self.has_bins].max())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "name": self.name,
            "bins": list(self.bins),
            "count": self.count.tolist(),
            "event": self.event.tolist(),
            "woe": self.woe.tolist(),
            "coef": self.coef,
            "standard_error": self.standard_error,
            "points": None if self.points is None else self.points.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Characteristic:
        """Rebuild from :meth:`to_dict`; ValueError if the parts contradict each other."""
        points = data["points"]
        made = cls(
            name=str(data["name"]),
            bins=tuple(str(text) for text in data["bins"]),
            count=np.array(data["count"], np.int64),
            event=np.array(data["event"], np.int64),
            woe=np.array(data["woe"], np.float64),
            coef=None if data["coef"] is None else float(data["coef"]),
            standard_error=(
                None if data["standard_error"] is None else float(data["standard_error"])
            ),
            points=None if points is None else np.array(points, np.float64),
        )
        size = (len(made.bins),)
        arrays = [made.count, made.event, made.woe]
        arrays += [] if made.points is None else [made.points]
        if any(a.shape != size or not np.isfinite(a).all() for a in arrays):
            raise ValueError
        if (made.coef is None) != (made.points is None):
            raise ValueError
        return made


@dataclass(frozen=True, eq=False)
class ScorecardShare:
    """A card as the platform holds it.

    Attributes
    ----------
    scale : PointScale
    intercept : float
        Of the log-odds of the event.
    base : float
        Points that every row gets; 0 if they are spread over the characteristics.
    spread : float
        Base points of each characteristic; 0 if they are not spread.
    rounding : bool
    characteristics : tuple of Characteristic
        The platform's first, then the providers'.
    """

    scale: PointScale
    intercept: float
    base: float
    spread: float
    rounding: bool
    characteristics: tuple[Characteristic, ...]

    def of(self, party: str) -> tuple[Characteristic, ...]:
        """Return one party's characteristics."""
        return tuple(c for c in self.characteristics if c.party == party)

    def table(self) -> pd.DataFrame:
        """Return the card, one line per bin; see :meth:`VerticalScorecard.table`."""
        lines: list[dict[str, Any]] = []
        if self.base:
            lines.append({"party": "", "feature": "base points", "bin": "", "points": self.base})
        for c in self.characteristics:
            lines += [
                {
                    "party": c.party,
                    "feature": c.label,
                    "bin": c.bins[b],
                    "count": float(c.count[b]),
                    "share": float(c.count[b] / c.count.sum()),
                    "event rate": float(c.event[b] / c.count[b]),
                    "woe": float(c.woe[b]),
                    "coefficient": math.nan if c.coef is None else c.coef,
                    "points": math.nan if c.points is None else float(c.points[b]),
                }
                for b in np.flatnonzero(c.has_bins)
            ]
        columns = ["party", "feature", "bin", "count", "share", "event rate", "woe"]
        table = pd.DataFrame(lines, columns=[*columns, "coefficient", "points"])
        # Whole numbers that may be blank.
        table["count"] = table["count"].astype("Int64")
        if self.rounding:
            table["points"] = table["points"].astype("Int64")
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "scale": self.scale.to_dict(),
            "intercept": self.intercept,
            "base": self.base,
            "spread": self.spread,
            "rounding": self.rounding,
            "characteristics": [c.to_dict() for c in self.characteristics],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScorecardShare:
        """Rebuild from :meth:`to_dict`; ValueError if the parts contradict each other."""
        made = cls(
            scale=PointScale(**{key: float(value) for key, value in data["scale"].items()}),
            intercept=float(data["intercept"]),
            base=float(data["base"]),
            spread=float(data["spread"]),
            rounding=bool(data["rounding"]),
            characteristics=tuple(Characteristic.from_dict(c) for c in data["characteristics"]),
        )
        if not np.isfinite([made.intercept, made.base, made.spread]).all():
            raise ValueError
        return made


def row_points(
    woe: Floats, coef: Sequence[float] | Floats, scale: PointScale, *, base: float, rounding: bool
) -> Floats:
    """Return the points of rows in each of a party's characteristics.

    Parameters
    ----------
    woe : ndarray of float64, shape (n, k)
        Weights of evidence.
    coef : sequence of float, length k
    scale : PointScale
    base : float
        Base points of each characteristic.
    rounding : bool
        To whole points.

    Returns
    -------
    ndarray of float64, shape (n, k)
    """
    out = np.empty(woe.shape)
    for j, value in enumerate(coef):
        out[:, j] = characteristic_points(
            woe[:, j], float(value), scale, base=base, decimals=0 if rounding else None
        )
    return out


def make_share(
    characteristics: Sequence[Characteristic],
    intercept: float,
    scale: PointScale,
    *,
    spread_base: bool,
    rounding: bool,
) -> ScorecardShare:
    """Turn a regression on weights of evidence into a card.

    Parameters
    ----------
    characteristics : sequence of Characteristic
        Their points are made here and need not be set.
    intercept : float
    scale : PointScale
    spread_base : bool
        Whether every characteristic gets an equal part of the base points.
    rounding : bool
        To whole points.
    """
    whole = float(scale.to_points(intercept))
    spread = whole / len(characteristics) if spread_base and characteristics else 0.0
    base = 0.0 if spread else float(np.round(whole)) if rounding else whole
    made = []
    for c in characteristics:
        points = None
        if c.coef is not None:
            points = row_points(
                c.woe[:, None], [c.coef], scale, base=spread, rounding=rounding
            ).ravel()
        made.append(
            Characteristic(
                c.name, c.bins, c.count, c.event, c.woe, c.coef, c.standard_error, points
            )
        )
    return ScorecardShare(scale, intercept, base, spread, rounding, tuple(made))
