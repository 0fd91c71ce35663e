"""Synthetic credit data of any size: every party makes its own columns, in pieces.

A feature is a normal number, correlated with the others through a common factor, in eight bins of
equal shares, each with a weight; every fourth feature has a ninth bin of missing values. The log
odds are a known linear combination of the weights. Every number is determined by seed, feature and
piece, so a party needs no memory but that of its own columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm

Floats = npt.NDArray[np.float64]

SEED = 20
PIECE = 1 << 16
BINS = 8
#: Share of a feature's variance that is the common factor's.
COMMON = 0.2
MISSING = 0.05
#: Log odds: mean, for about 11 % of events, and standard deviation without missing values.
BASE, SPREAD = -2.4, 1.2
_COMMON_FACTOR, _LABELS = 1 << 20, (1 << 20) + 1


@dataclass(frozen=True)
class Shape:
    """How many rows and features there are, and whose the features are.

    Attributes
    ----------
    rows : int
    own : int
        Features of the label holder.
    other : int
        Features of the providers together.
    providers : tuple of str
    """

    rows: int
    own: int
    other: int
    providers: tuple[str, ...]

    @property
    def width(self) -> int:
        """Features of all parties."""
        return self.own + self.other

    def features(self, party: str) -> range:
        """Return the features of a party: those of all, split among the providers."""
        if party not in self.providers:
            return range(self.own)
        cuts = np.linspace(self.own, self.width, len(self.providers) + 1).astype(int).tolist()
        return [range(a, b) for a, b in itertools.pairwise(cuts)][self.providers.index(party)]


def _place(feature: int) -> int | None:
    """Count a feature among those with a coefficient; every sixth has none."""
    return None if feature % 6 == 5 else feature - feature // 6


def weights(feature: int) -> Floats:
    """Weight of each bin of a feature, the missing bin last; increasing or decreasing.

    Directions alternate among the features with a coefficient, so that the common factor hardly
    moves the log odds and a feature's own effect is the one that a table of its bins shows.
    """
    rng = np.random.default_rng([SEED, feature])
    centres = norm.ppf((np.arange(BINS) + 0.5) / BINS) + rng.uniform(-0.1, 0.1, BINS)
    sign = -1 if (_place(feature) or 0) % 2 else 1
    return np.append(sign * np.sort(centres), 0.4)


def coefficients(width: int) -> Floats:
    """Coefficient of every feature; neighbours, whose directions differ, have the same."""
    places = [_place(feature) for feature in range(width)]
    raw = np.array([0.0 if place is None else 0.5 + place // 2 % 7 / 6 for place in places])
    return np.asarray(raw * SPREAD / np.sqrt(raw @ raw))


def _pieces(rows: int) -> Iterator[tuple[int, slice]]:
    for number, start in enumerate(range(0, rows, PIECE)):
        yield number, slice(start, min(start + PIECE, rows))


def _piece(feature: int, number: int, rows: int) -> Floats:
    common = np.random.default_rng([SEED, _COMMON_FACTOR, number]).standard_normal(rows)
    rng = np.random.default_rng([SEED, feature, number])
    values = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * rng.standard_normal(rows)
    if feature % 4 == 0:
        values[rng.random(rows) < MISSING] = np.nan
    return np.asarray(values)


def _weighed(feature: int, values: Floats) -> Floats:
    edges = norm.ppf(np.arange(1, BINS) / BINS)
    code = np.where(np.isnan(values), BINS, np.searchsorted(edges, values, side="right"))
    return weights(feature)[code]


def raw_columns(rows: int, features: Sequence[int]) -> Floats:
    """Columns before binning, shape (features, rows); NaN is missing."""
    out = np.empty((len(features), rows))
    for number, part in _pieces(rows):
        for row, feature in zip(out, features, strict=True):
            row[part] = _piece(feature, number, part.stop - part.start)
    return out


def weight_columns(rows: int, features: Sequence[int]) -> Floats:
    """Columns of weights, shape (rows, features)."""
    out = np.empty((rows, len(features)))
    for number, part in _pieces(rows):
        for k, feature in enumerate(features):
            out[part, k] = _weighed(feature, _piece(feature, number, part.stop - part.start))
    return out


def labels(rows: int, width: int) -> npt.NDArray[np.int64]:
    """1 for an event, else 0; shape (rows,)."""
    out = np.empty(rows, np.int64)
    coef = coefficients(width)
    for number, part in _pieces(rows):
        size = part.stop - part.start
        logit = np.full(size, BASE)
        for feature in range(width):
            logit += coef[feature] * _weighed(feature, _piece(feature, number, size))
        drawn = np.random.default_rng([SEED, _LABELS, number]).random(size)
        out[part] = drawn < expit(logit)
    return out
