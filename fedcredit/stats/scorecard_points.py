"""From coefficients to credit points: the scale, the card and the reasons for a low score.

More points mean less risk. The logarithm of the odds is that of bad to good, as a model of the bad
outcome gives it, and a bin's WOE is ln(share of bad / share of good); see Siddiqi, *Credit Risk
Scorecards* (Wiley, 2006), chapter 6. Tables by score are in `score_bands` and the way back from
points to a probability in `score_calibration`; their names are repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fedcredit.errors import InputError
from fedcredit.stats.score_bands import BandTable, CutoffTable, band_edges, bands, cutoff_table
from fedcredit.stats.score_calibration import Calibration, fit_calibration

__all__ = [
    "BandTable",
    "Calibration",
    "CutoffTable",
    "PointCard",
    "PointScale",
    "ReasonCodes",
    "band_edges",
    "bands",
    "characteristic_points",
    "cutoff_table",
    "fit_calibration",
    "make_card",
    "neutral_points",
    "reason_codes",
]

FloatArray = NDArray[np.float64]

_STEP = "scorecard points"
_DECIMALS_AT_MOST = 9


@dataclass(frozen=True, slots=True)
class PointScale:
    """How log odds become points.

    Attributes
    ----------
    pdo : float
        Points to double the odds, positive.
    base_score : float
        Points at the base odds.
    base_odds : float
        Good to bad, positive: 50 is 50 good for one bad.

    Raises
    ------
    InputError
        A number that is not finite, or not positive where it must be.
    """

    pdo: float = 20.0
    base_score: float = 600.0
    base_odds: float = 50.0

    def __post_init__(self) -> None:
        finite = all(np.isfinite(v) for v in (self.pdo, self.base_score, self.base_odds))
        if not (finite and self.pdo > 0 and self.base_odds > 0):
            raise InputError(
                "the scale of the points is out of range.",
                step=_STEP,
                fix="pdo and base_odds are positive; base_odds are the odds of good to bad",
            )

    @property
    def factor(self) -> float:
        """Points per unit of log odds, ``pdo / ln 2``."""
        return float(self.pdo / np.log(2.0))

    @property
    def offset(self) -> float:
        """Points at even odds, ``base_score - factor * ln(base_odds)``."""
        return float(self.base_score - self.factor * np.log(self.base_odds))

    def to_points(self, log_odds: ArrayLike) -> FloatArray:
        """Points of log odds of bad to good, any shape; not rounded."""
        return np.asarray(self.offset - self.factor * np.asarray(log_odds, np.float64))

    def to_log_odds(self, points: ArrayLike) -> FloatArray:
        """Log odds of bad to good of points, any shape: the inverse of `to_points`."""
        return np.asarray((self.offset - np.asarray(points, np.float64)) / self.factor)

    def to_probability(self, points: ArrayLike) -> FloatArray:
        """Probability of bad at points, any shape."""
        return np.asarray(special.expit(self.to_log_odds(points)))

    def to_dict(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {"pdo": self.pdo, "base_score": self.base_score, "base_odds": self.base_odds}


def characteristic_points(
    woe: ArrayLike,
    coef: float,
    scale: PointScale,
    *,
    base: float = 0.0,
    decimals: int | None = 0,
) -> FloatArray:
    """Points of every bin of one characteristic, ``base - factor * coef * woe``, rounded.

    Parameters
    ----------
    woe : array_like of float, shape (B,)
    coef : float
    scale : PointScale
    base : float
        This characteristic's part of the base points.
    decimals : int or None
        Kept when rounding (half to even), 0 to 9; None does not round.

    Returns
    -------
    ndarray of float64, shape (B,)

    Raises
    ------
    InputError
        A value that is not finite, or `decimals` out of range.
    """
    values = np.asarray(woe, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or not np.isfinite([coef, base]).all():
        raise InputError("WOE, coefficient and base points are finite.", step=_STEP)
    return _rounded(base - scale.factor * float(coef) * values, decimals)


def _rounded(points: FloatArray, decimals: int | None) -> FloatArray:
    if decimals is None:
        return points
    if not 0 <= decimals <= _DECIMALS_AT_MOST:
        raise InputError("decimals are between 0 and 9, or None.", step=_STEP)
    return np.asarray(np.round(points, decimals) + 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class PointCard:
    """Points of every bin of every characteristic.

    Attributes
    ----------
    scale : PointScale
    base : float
        Points that everybody gets; 0 if they are spread over the characteristics.
    points : tuple of ndarray of float64, each of shape (B_c,)
        Per characteristic, per bin.
    zero_woe : float
        Points of a bin of WOE 0.
    spread_base : bool
    decimals : int or None
    """

    scale: PointScale
    base: float
    points: tuple[FloatArray, ...] = field(repr=False)
    zero_woe: float
    spread_base: bool = True
    decimals: int | None = 0

    @property
    def rounding_bound(self) -> float:
        """Largest difference of a total from its exact value.

        Half a unit of the last decimal for each number that is rounded: every characteristic, and
        the base points if they stand alone.
        """
        if self.decimals is None:
            return 0.0
        return 0.5 * 10.0**-self.decimals * (len(self.points) + (not self.spread_base))

    @property
    def lowest(self) -> float:
        """Fewest points that a total can have."""
        return self.base + float(sum(p.min() for p in self.points))

    @property
    def highest(self) -> float:
        """Most points that a total can have."""
        return self.base + float(sum(p.max() for p in self.points))

    def per_characteristic(self, bins: ArrayLike) -> FloatArray:
        """Points of every row in every characteristic.

        Parameters
        ----------
        bins : array_like of int, shape (n, k)
            Number of the bin that each row is in.

        Returns
        -------
        ndarray of float64, shape (n, k)

        Raises
        ------
        InputError
            Not one column per characteristic, or a bin that the card does not have.
        """
        places = np.asarray(bins)
        k = len(self.points)
        if places.ndim != 2 or places.shape[1] != k or places.dtype.kind not in "iu":
            raise InputError("bins are whole numbers, (n, k).", step=_STEP)
        sizes = np.array([len(p) for p in self.points])
        if (places < 0).any() or (places >= sizes).any():
            raise InputError("a bin is not on the card.", step=_STEP)
        out = np.empty(places.shape)
        for c, points in enumerate(self.points):
            out[:, c] = points[places[:, c]]
        return out

    def total(self, bins: ArrayLike) -> FloatArray:
        """Score of every row, shape (n,); arguments and errors as in `per_characteristic`."""
        return self.base + self.per_characteristic(bins).sum(axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and a mapping, fit for JSON."""
        return {
            "scale": self.scale.to_dict(),
            "base": self.base,
            "points": [p.tolist() for p in self.points],
            "zero_woe": self.zero_woe,
            "spread_base": self.spread_base,
            "decimals": self.decimals,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PointCard:
        """Read what `to_dict` returned; raises `InputError` if it is something else."""
        try:
            card = cls(
                scale=PointScale(**{name: float(v) for name, v in data["scale"].items()}),
                base=float(data["base"]),
                points=tuple(np.array(p, np.float64) for p in data["points"]),
                zero_woe=float(data["zero_woe"]),
                spread_base=bool(data["spread_base"]),
                decimals=None if data["decimals"] is None else int(data["decimals"]),
            )
        except InputError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError("this is no saved point card.", step=_STEP) from None
        values = [np.array([card.base, card.zero_woe]), *card.points]
        if not all(p.ndim == 1 and len(p) and np.isfinite(p).all() for p in values):
            raise InputError("this is no saved point card.", step=_STEP)
        return card


def make_card(
    woe: Sequence[ArrayLike],
    coef: ArrayLike,
    intercept: float,
    scale: PointScale,
    *,
    spread_base: bool = True,
    decimals: int | None = 0,
) -> PointCard:
    """Turn a logistic model on WOE columns into a card of points.

    Parameters
    ----------
    woe : sequence of array_like of float, length k, each of shape (B_c,)
        WOE of every bin of every characteristic in the model.
    coef : array_like of float, shape (k,)
    intercept : float
    scale : PointScale
    spread_base : bool
        Give each characteristic an equal part of the base points ``offset - factor * intercept``;
        else they stand alone.
    decimals : int or None
        Kept when rounding (half to even), 0 to 9; None does not round.

    Returns
    -------
    PointCard

    Raises
    ------
    InputError
        No characteristics, an empty one, lengths that differ, or a value that is not finite.
    """
    betas = np.asarray(coef, np.float64)
    tables = [np.asarray(w, np.float64) for w in woe]
    if betas.shape != (len(tables),) or not tables or not all(w.size for w in tables):
        raise InputError("the card has a coefficient and bins per characteristic.", step=_STEP)
    whole = float(scale.to_points(float(intercept)))
    share = whole / len(tables) if spread_base else 0.0
    points = tuple(
        characteristic_points(w, float(b), scale, base=share, decimals=decimals)
        for w, b in zip(tables, betas, strict=True)
    )
    base = 0.0 if spread_base else whole
    base, zero = _rounded(np.array([base, share]), decimals).tolist()
    return PointCard(scale, base, points, zero, spread_base, decimals)


def neutral_points(
    card: PointCard, neutral: str = "max", counts: Sequence[ArrayLike] | None = None
) -> FloatArray:
    """Points of each characteristic from which losses are counted.

    Parameters
    ----------
    card : PointCard
    neutral : {"max", "mean", "zero-woe"}
        The most points a bin has; the mean over a population; the points of a bin of WOE 0.
    counts : sequence of array_like of float, length k, each of shape (B_c,), optional
        Rows per bin of the population. ``"mean"`` needs them; with them, ``"max"`` looks at
        occupied bins only.

    Returns
    -------
    ndarray of float64, shape (k,)

    Raises
    ------
    InputError
        An unknown kind; counts that are missing or do not fit.
    """
    k = len(card.points)
    if neutral == "zero-woe":
        return np.full(k, card.zero_woe)
    if neutral not in ("max", "mean"):
        raise InputError(
            "the neutral points are unknown.",
            step=_STEP,
            fix='choose "max", "mean" or "zero-woe"',
        )
    if counts is None:
        if neutral == "mean":
            raise InputError("the mean points need the rows per bin.", step=_STEP)
        return np.array([p.max() for p in card.points])
    rows = [np.asarray(c, np.float64) for c in counts]
    fit = len(rows) == k and all(
        c.shape == p.shape and (c >= 0).all() and 0 < c.sum() < np.inf
        for c, p in zip(rows, card.points, strict=False)
    )
    if not fit:
        raise InputError("the rows per bin do not fit the card.", step=_STEP)
    pairs = list(zip(rows, card.points, strict=True))
    if neutral == "mean":
        return np.array([float(c @ p) / float(c.sum()) for c, p in pairs])
    return np.array([p[c > 0].max() for c, p in pairs])


@dataclass(frozen=True, slots=True, eq=False)
class ReasonCodes:
    """Where each row loses most points.

    Attributes
    ----------
    index : ndarray of int64, shape (n, m)
        Position of the characteristic, largest loss first; -1 where nothing more is lost.
    loss : ndarray of float64, shape (n, m)
        Points lost there; 0 where `index` is -1.
    """

    index: NDArray[np.int64]
    loss: FloatArray


def reason_codes(points: ArrayLike, neutral: ArrayLike, n_codes: int = 4) -> ReasonCodes:
    """Find the characteristics in which each row loses most against the neutral points.

    Parameters
    ----------
    points : array_like of float, shape (n, k)
        Of every row in every characteristic, or in every group of characteristics, summed.
    neutral : array_like of float, shape (k,)
    n_codes : int
        Reasons wanted per row; at most k are given.

    Returns
    -------
    ReasonCodes
        Of equal losses the characteristic with the lower position comes first.

    Raises
    ------
    InputError
        Shapes that do not fit, a value that is not finite, or `n_codes` below 1.
    """
    rows, level = np.asarray(points, np.float64), np.asarray(neutral, np.float64)
    if rows.ndim != 2 or level.shape != rows.shape[1:] or n_codes < 1:
        raise InputError(
            "points are (n, k), neutral points (k,), and one code or more is asked for.",
            step=_STEP,
        )
    if not (np.isfinite(rows).all() and np.isfinite(level).all()):
        raise InputError("points are finite.", step=_STEP)
    # Losses that differ by rounding alone are equal.
    loss = np.round(level - rows, _DECIMALS_AT_MOST)
    order = np.argsort(-loss, axis=1, kind="stable")[:, :n_codes].astype(np.int64)
    lost = np.take_along_axis(loss, order, axis=1)
    return ReasonCodes(index=np.where(lost > 0, order, -1), loss=np.maximum(lost, 0.0))
