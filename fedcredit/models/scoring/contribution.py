"""What each party's features contribute to a model, for the parties' reports on usage."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["contributions_of"]

Shares = dict[tuple[str, str], float]


def contributions_of(model: Any) -> tuple[Shares, str]:
    """Return the share of every feature in what a model draws from all of them.

    Parameters
    ----------
    model : fitted estimator
        Boosted trees: shares of the total gain. A scorecard: shares of the mean spread of points,
        where a characteristic spreads by its standard deviation over the training rows (the
        released part of the coefficients only). A regression without released counts: equal to
        its coefficients' absolute sizes in the columns' units.

    Returns
    -------
    shares : dict of (party, label) to float
        They add up to 1, or are all 0.
    measure : {"gain", "points"}
    """
    if hasattr(model, "feature_importances_"):
        shares = dict(
            zip(
                (_split(name) for name in model.feature_labels_),
                np.asarray(model.feature_importances_, np.float64).tolist(),
                strict=True,
            )
        )
        return shares, "gain"
    share = model.share_
    if hasattr(share, "characteristics"):
        spread = {
            (c.party, c.label): 0.0 if c.points is None else _spread(c.points, c.count)
            for c in share.characteristics
        }
    else:
        sizes = np.nan_to_num(np.abs(np.asarray(share.coef, np.float64)))
        spread = {_split(name): float(size) for name, size in zip(share.names, sizes, strict=True)}
    total = sum(spread.values())
    return {key: value / total if total else 0.0 for key, value in spread.items()}, "points"


def _split(name: str) -> tuple[str, str]:
    party, _, label = name.partition(".")
    return party, label


def _spread(points: Any, count: Any) -> float:
    weight = np.asarray(count, np.float64) / float(np.sum(count))
    mean = float(np.asarray(points) @ weight)
    return float(np.sqrt(((np.asarray(points) - mean) ** 2) @ weight))
