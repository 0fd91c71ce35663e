"""Bins, weights and values on the same cuts are those of scorecardpy and of optbinning."""

import numpy as np
import pandas as pd
import pytest

from fedcredit.stats.bin_merging import merge_bins
from fedcredit.stats.bin_rules import quantile_rule, regroup, user_rule
from fedcredit.stats.woe import woe_table
from tests.support.other_packages import quiet
from tests.support.real_data import load_real

COLUMNS = [
    *(("default_credit", name) for name in ("LIMIT_BAL", "PAY_0", "AGE", "PAY_AMT1")),
    *(
        ("give_me_some_credit", name)
        for name in (
            "RevolvingUtilizationOfUnsecuredLines",
            "age",
            "DebtRatio",
            "MonthlyIncome",
            "NumberOfDependents",
        )
    ),
]
on_columns = pytest.mark.parametrize(("data", "name"), COLUMNS, ids=[name for _, name in COLUMNS])
pytestmark = pytest.mark.realdata


with quiet():
    scorecardpy = pytest.importorskip("scorecardpy")
    OptimalBinning = pytest.importorskip("optbinning").OptimalBinning


def column(data, name):
    X, y = load_real(data)
    return X[name].to_numpy(), y


def cuts(values):
    """Rough quantiles, with the lowest value in a bin of others."""
    plain = values[~np.isnan(values)]
    found = np.unique(np.quantile(plain, [0.1, 0.25, 0.5, 0.75, 0.9]))
    return found[found > plain.min()]


def table_of(rule, values, y):
    bins = rule.apply(values)
    return woe_table(
        np.bincount(bins, minlength=rule.n_bins),
        np.bincount(bins, y, minlength=rule.n_bins),
        smoothing=0,
    )


@on_columns
def test_scorecardpy(data, name):
    values, y = column(data, name)
    splits = cuts(values)
    ours = table_of(user_rule(values, splits, min_bin_count=1), values, y)
    with quiet():
        theirs = scorecardpy.woebin(
            pd.DataFrame({name: values, "y": y.astype(int)}),
            y="y",
            x=[name],
            breaks_list={name: splits.tolist()},
            print_info=False,
            replace_blank=False,
        )[name]
    # Theirs has missing values first, and no row for them where there are none.
    n = len(splits) + 1
    order = [*([n] if np.isnan(values).any() else []), *range(n)]
    assert len(theirs) == len(order)
    np.testing.assert_array_equal(ours.count[order], theirs["count"])
    np.testing.assert_array_equal(ours.event[order], theirs["bad"])
    np.testing.assert_array_equal(ours.non_event[order], theirs["good"])
    for field, key in (("event_rate", "badprob"), ("woe", "woe"), ("iv", "bin_iv")):
        np.testing.assert_allclose(
            getattr(ours, field)[order], theirs[key].to_numpy(float), rtol=0, atol=1e-9
        )
    assert ours.total_iv == pytest.approx(theirs["total_iv"].iloc[0], abs=1e-9)


@on_columns
def test_optbinning_with_fixed_splits(data, name):
    values, y = column(data, name)
    splits = cuts(values)
    ours = table_of(user_rule(values, splits, min_bin_count=1), values, y)
    with quiet():
        theirs = OptimalBinning(
            name=name,
            user_splits=splits,
            user_splits_fixed=[True] * len(splits),
            monotonic_trend=None,
            min_bin_size=None,
        ).fit(values, y.astype(int))
        built = theirs.binning_table.build(show_digits=8).iloc[:-1]
    np.testing.assert_array_equal(theirs.splits, splits)
    # Theirs has a row of special values before that of missing ones.
    n = len(splits) + 1
    rows = [*range(n), n + 1]
    for field, key in (("count", "Count"), ("event", "Event"), ("non_event", "Non-event")):
        np.testing.assert_array_equal(getattr(ours, field), built[key].to_numpy(float)[rows])
    # Their weight is ln(%good / %bad).
    np.testing.assert_allclose(-ours.woe, built["WoE"].to_numpy(float)[rows], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.iv, built["IV"].to_numpy(float)[rows], rtol=0, atol=1e-9)
    filled = ours.count > 0
    np.testing.assert_allclose(
        ours.event_rate[filled],
        built["Event rate"].to_numpy(float)[rows][filled],
        rtol=0,
        atol=1e-9,
    )
    assert ours.total_iv == pytest.approx(theirs.binning_table.iv, abs=1e-9)


@on_columns
@pytest.mark.parametrize("trend", ["ascending", "descending", "peak", "valley", "none"])
def test_the_optimum_is_that_of_optbinning(data, name, trend):
    """A constraint solver on the same fine bins finds nothing better, and nothing worse."""
    values, y = column(data, name)
    rule = quantile_rule(values, max_bins=12, min_bin_count=1)
    bins = rule.apply(values)
    count = np.bincount(bins, minlength=rule.n_bins)
    event = np.bincount(bins, y, minlength=rule.n_bins)
    groups = merge_bins(count, event, rule.roles, max_bins=5, trend=trend, smoothing=0)
    place, roles = regroup(rule.roles, groups)
    ours = woe_table(
        np.bincount(place, count, len(roles)), np.bincount(place, event, len(roles)), smoothing=0
    )
    with quiet():
        solver = OptimalBinning(
            name=name,
            user_splits=rule.splits,
            monotonic_trend=None if trend == "none" else trend,
            max_n_bins=5,
            min_bin_size=0.05,
        ).fit(values, y.astype(int))
        solver.binning_table.build()
    assert solver.status == "OPTIMAL"
    assert ours.total_iv == pytest.approx(solver.binning_table.iv, abs=1e-9)
    np.testing.assert_array_equal(rule.merged(groups).splits, solver.splits)
