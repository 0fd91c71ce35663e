"""Joint tables equal those of scorecardpy and optbinning on the pooled data, on the same splits.

Bins are ``[a, b)`` in all three, smoothing is 0. Counts are equal; weights and information values
agree to 1e-9. optbinning's weights have the opposite sign.
"""

import numpy as np
import pandas as pd
import pytest

import fedcredit as fc
from fedcredit.models.binner import VerticalBinner
from tests.support.other_packages import quiet
from tests.support.real_data import CATEGORICAL, load_real

pytestmark = pytest.mark.realdata

PARTIES = ("platform", "tax", "social", "housing")
TOLERANCE = 1e-9
QUICK = 3000
POLICY = fc.ProviderPolicy(min_intersection=1, allow_user_splits=True, release_feature_names=True)


with quiet():
    scorecardpy = pytest.importorskip("scorecardpy")
    OptimalBinning = pytest.importorskip("optbinning").OptimalBinning


def pooled(rows):
    X, y = load_real("default_credit", rows)
    X = X.drop(columns=CATEGORICAL["default_credit"])
    rng = np.random.default_rng(0)
    for column in ("LIMIT_BAL", "BILL_AMT1", "PAY_AMT3"):
        X.loc[rng.random(len(X)) < 0.05, column] = np.nan
    return X, y.astype(np.int64)


def splits_of(X, y):
    """Splits at values of the data, with both classes in every bin."""
    out = {}
    for name in X.columns:
        values = X[name].dropna()
        cuts = np.unique(np.quantile(values, [0.2, 0.4, 0.6, 0.8]))
        cuts = cuts[cuts > values.min()]
        kept = []
        for cut in cuts:
            low = kept[-1] if kept else -np.inf
            inside, above = (X[name] >= low) & (X[name] < cut), X[name] >= cut
            if all(20 < y[part].sum() < part.sum() - 20 for part in (inside, above)):
                kept.append(float(cut))
        if kept:
            out[name] = kept
    return out


def joint_tables(X, y, splits, n_providers):
    parties = PARTIES[: n_providers + 1]
    ids = [f"Q{i:06d}" for i in range(len(X))]
    rng = np.random.default_rng(1)
    tables, names = {}, {}
    for number, party in enumerate(parties):
        columns = list(X.columns[number :: len(parties)])
        table = X[columns].assign(id=ids)
        if party == "platform":
            table = table.assign(bad=y)
        tables[party] = table.iloc[rng.permutation(len(X))].reset_index(drop=True)
        names |= {column: f"{party}.{column}" for column in columns}
    frame = fc.simulate(**tables, policy=POLICY, threads=2).align(on="id")
    binner = VerticalBinner(
        smoothing=0.0, user_splits={names[column]: cuts for column, cuts in splits.items()}
    ).fit(frame, y="bad")
    return {column: binner.binning_table(name) for column, name in names.items()}, binner


def scorecardpy_tables(X, y, splits):
    """Their tables by column, with missing values last as in ours."""
    with quiet():
        found = scorecardpy.woebin(
            X.assign(bad=y),
            y="bad",
            x=list(splits),
            breaks_list=splits,
            print_info=False,
            replace_blank=False,
            no_cores=1,
        )
    last = {name: table["bin"] == "missing" for name, table in found.items()}
    return {
        name: pd.concat([table[~last[name]], table[last[name]]]) for name, table in found.items()
    }


def optbinning_table(values, y, cuts):
    with quiet():
        binning = OptimalBinning(
            user_splits=cuts,
            user_splits_fixed=[True] * len(cuts),
            monotonic_trend=None,
            min_bin_size=None,
        )
        built = binning.fit(values.to_numpy(), y).binning_table.build(show_digits=8).iloc[:-1]
    np.testing.assert_array_equal(binning.splits, cuts)
    return built[built["Count"].astype(float) > 0]


def compare(rows, n_providers):
    X, y = pooled(rows)
    splits = splits_of(X, y)
    X = X[list(splits)]
    assert len(splits) > 10
    ours, binner = joint_tables(X, y, splits, n_providers)
    assert len(binner.providers_) == n_providers
    card = scorecardpy_tables(X, y, splits)
    for name in X.columns:
        table, totals = ours[name].drop(index="Totals"), ours[name].loc["Totals"]
        opt = optbinning_table(X[name], y, splits[name])
        for theirs, names in (
            (card[name], {"count": "Count", "bad": "Event", "good": "Non-event"}),
            (opt, {"Count": "Count", "Event": "Event", "Non-event": "Non-event"}),
        ):
            for key, mine in names.items():
                np.testing.assert_array_equal(table[mine], theirs[key].to_numpy(float))
        for theirs, sign, names in (
            (card[name], 1, {"woe": "WoE", "bin_iv": "IV", "badprob": "Event rate"}),
            (opt, -1, {"WoE": "WoE"}),
            (opt, 1, {"IV": "IV", "Event rate": "Event rate"}),
        ):
            for key, mine in names.items():
                np.testing.assert_allclose(
                    table[mine], sign * theirs[key].to_numpy(float), rtol=0, atol=TOLERANCE
                )
        assert totals["IV"] == pytest.approx(card[name]["total_iv"].iloc[0], abs=TOLERANCE)


@pytest.mark.parametrize("n_providers", [1, 2, 3])
def test_joint_tables_equal_scorecardpy_and_optbinning(n_providers):
    compare(QUICK, n_providers)


@pytest.mark.slow
@pytest.mark.parametrize("n_providers", [1, 3])
def test_joint_tables_of_all_rows(n_providers):
    compare(None, n_providers)
