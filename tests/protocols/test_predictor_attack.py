"""What one revealed predictor tells a label holder that knows the card: bins, or little.

The label holder of a scorecard counts the events of every bin, so it knows the weights of evidence
of the provider's characteristics, and with released coefficients what each bin adds to the
log-odds. An exact sum then fits one combination of bins only.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fedcredit.errors import InputError
from fedcredit.protocols.predictor import GRID, coarsened

ROWS, CHARACTERISTICS, BINS = 2_000, 6, 5


def attacked(predictor: np.ndarray, table: np.ndarray, shares: np.ndarray, width: float):
    """Guess every bin: of the combinations within ``width`` of the sum, the likeliest."""
    combos = np.array(list(itertools.product(range(BINS), repeat=CHARACTERISTICS)))
    index = np.arange(CHARACTERISTICS)
    sums = table[index, combos].sum(axis=1)
    prior = np.log(shares[index, combos]).sum(axis=1)
    order = np.argsort(sums)
    sums, prior, combos = sums[order], prior[order], combos[order]
    low = np.searchsorted(sums, predictor - width, side="left")
    high = np.searchsorted(sums, predictor + width, side="right")
    guesses = []
    for a, b in zip(low, high, strict=True):
        weight = np.exp(prior[a:b] - prior[a:b].max())
        guesses.append(
            [
                np.bincount(combos[a:b, j], weight, minlength=BINS).argmax()
                for j in range(CHARACTERISTICS)
            ]
        )
    return np.array(guesses)


def test_bins_are_read_off_an_exact_sum_and_not_off_a_coarsened_one():
    rng = np.random.default_rng(11)
    table = np.sort(rng.normal(0, 0.6, (CHARACTERISTICS, BINS)), axis=1)
    shares = rng.dirichlet(np.full(BINS, 6.0), CHARACTERISTICS)
    bins = np.column_stack([rng.choice(BINS, ROWS, p=share) for share in shares])
    part = table[np.arange(CHARACTERISTICS), bins].sum(axis=1)

    exact = attacked(part, table, shares, 1e-9)
    coarse = attacked(coarsened(part, GRID, rng.random(ROWS)), table, shares, GRID)
    likeliest = (bins == shares.argmax(axis=1)).mean()
    whole = {
        "exact": (exact == bins).all(axis=1).mean(),
        "coarsened": (coarse == bins).all(axis=1).mean(),
    }
    single = {"exact": (exact == bins).mean(), "coarsened": (coarse == bins).mean()}
    print(f"rows read whole: {whole}; single bins: {single}; without the sum: {likeliest:.3f}")
    assert whole["exact"] == 1.0
    assert whole["coarsened"] < 0.02
    # The score itself tells something about bins, as any score does.
    assert single["coarsened"] < likeliest + 0.2


def test_coarsening_is_right_on_average():
    rng = np.random.default_rng(3)
    part = np.full(200_000, 0.3217)
    coarse = coarsened(part, GRID, rng.random(len(part)))
    assert set(np.unique(coarse / GRID)) == {10.0, 11.0}
    assert abs(coarse.mean() - 0.3217) < 5 * GRID / np.sqrt(12 * len(part))


def test_a_grid_is_positive_and_rows_agree():
    with pytest.raises(InputError, match="coarsened"):
        coarsened(np.zeros(3), 0.0, np.zeros(3))
    with pytest.raises(InputError, match="coarsened"):
        coarsened(np.zeros(3), GRID, np.zeros(2))
