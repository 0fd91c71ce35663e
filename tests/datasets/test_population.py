"""The synthetic SME population: valid, deterministic, dirty as told, and worth joining."""

from functools import reduce

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fedcredit.datasets import VerticalData, _codes, make_sme_population
from fedcredit.errors import InputError
from fedcredit.uscc import is_valid, normalise

PARTIES = ("platform", "tax", "social_security")


@pytest.fixture(scope="module")
def population():
    return make_sme_population(20_000, seed=1)


def joined(data: VerticalData) -> pd.DataFrame:
    """Inner join of the parties on their normalised ids."""
    tables = []
    for party, table in data.parties.items():
        report = normalise(table[data.key])
        kept = table.iloc[report.rows].drop(columns=data.key).add_prefix(f"{party}.")
        tables.append(kept.set_axis([code.decode() for code in report.ids]))
    return reduce(lambda left, right: left.join(right, how="inner"), tables)


def test_same_seed_same_tables():
    first, again, other = (make_sme_population(500, seed=s) for s in (3, 3, 4))
    for party in (*PARTIES, "truth"):
        pd.testing.assert_frame_equal(getattr(first, party), getattr(again, party))
    assert not first.truth["uscc"].isin(other.truth["uscc"]).any()
    assert not np.array_equal(first.truth["conduct"], other.truth["conduct"])


def test_dirt_is_in_the_ids_and_the_rows_alone():
    clean, dirty = (make_sme_population(2000, seed=2, dirty=d) for d in (False, True))
    pd.testing.assert_series_equal(clean.truth["probability"], dirty.truth["probability"])
    for party in PARTIES:
        table = getattr(clean, party)
        report = normalise(table["uscc"], duplicates="error")
        assert len(report) == len(table) == clean.truth[f"in_{party}"].sum()
        assert set(table["uscc"]) <= set(clean.truth["uscc"])
    assert clean.truth["matches"].equals(
        clean.truth[[f"in_{party}" for party in PARTIES]].all(axis=1)
    )


def test_codes_are_distinct_and_valid_but_for_the_genuine_old_ones(population):
    codes = population.truth["uscc"]
    assert codes.is_unique
    assert codes.str.len().eq(18).all()
    wrong = ~is_valid(codes)
    assert 0 < wrong.mean() < 0.005


@pytest.mark.parametrize(
    ("body", "check"), [("60003734", "1"), ("07837628", "6"), ("MA2PBM9H", "X")]
)
def test_organisation_check_character(body, check):
    matrix = np.frombuffer(body.encode(), dtype=np.uint8)[None]
    assert _codes._organisation_check(matrix).tobytes().decode() == check


@pytest.mark.parametrize("party", PARTIES)
def test_ids_are_dirty_in_every_way(population, party):
    table = getattr(population, party)
    report = normalise(table["uscc"])
    assert report.unusable == 0
    for count in (report.blank, report.duplicate, report.invalid_check_digit, report.pre_standard):
        assert 0 < count < 0.02 * len(table)
    written = table["uscc"]
    for pattern in ("[a-z]", "[\uff10-\uff5a]", " ", "-", "\u200b", "^'", "\u3000$"):
        assert written.str.contains(pattern).any(), pattern


def test_truth_knows_which_ids_match(population):
    ids = [set(normalise(getattr(population, party)["uscc"]).ids.tolist()) for party in PARTIES]
    assert len(set.intersection(*ids)) == population.truth["matches"].sum()
    assert 0.5 < population.truth["matches"].mean() < 0.7


def test_values_are_missing_for_a_reason(population):
    tax, staff, loans = population.tax, population.social_security, population.platform
    for column in ("invoice_volatility", "top5_buyer_share", "void_invoice_share"):
        assert tax[column].isna().equals(tax["invoice_count"] == 0)
    for column in ("annual_paid", "arrears"):
        assert tax[column].isna().equals(tax["taxpayer_status"] == "exempt")
    none = staff["insured_staff"] == 0
    for column in ("average_base", "staff_turnover", "average_tenure"):
        assert staff[column].isna().equals(none)
    assert (staff["contribution_status"] == "no_staff").equals(none)
    assert staff["arrears_months"].isna().equals(staff["contribution_status"] != "normal")
    for column in ("credit_utilisation", "max_days_overdue_12m"):
        assert loans[column].isna().equals(loans["open_loans"] == 0)
    for table, column in (
        (tax, "invoice_volatility"),
        (tax, "annual_paid"),
        (staff, "average_base"),
    ):
        assert 0.01 < table[column].isna().mean() < 0.3


def test_default_rate(population):
    assert 0.06 < population.platform["default"].mean() < 0.10
    rare = make_sme_population(20_000, default_rate=0.02).truth
    assert rare["probability"].mean() == pytest.approx(0.02, abs=1e-6)


def test_joint_model_ranks_better_than_any_party_alone(population):
    table = joined(population.vertical())
    label = table.pop("platform.default").to_numpy()
    train = np.random.default_rng(0).random(len(label)) < 0.6
    auc = {}
    for part in ("", *PARTIES):
        columns = [column for column in table if column.startswith(part)]
        model = lgb.LGBMClassifier(
            n_estimators=100,
            learning_rate=0.06,
            max_depth=4,
            min_child_samples=40,
            n_jobs=1,
            deterministic=True,
            verbose=-1,
        ).fit(table.loc[train, columns], label[train])
        score = model.predict_proba(table.loc[~train, columns])[:, 1]
        auc[part or "joint"] = roc_auc_score(label[~train], score)
    joint = auc.pop("joint")
    assert joint - auc["platform"] >= 0.05
    assert all(0.6 < alone < joint - 0.05 for alone in auc.values())
    assert 0.75 < joint < 0.90


def test_every_column_is_in_the_dictionary(population):
    data = population.vertical()
    columns = [f"{party}.{column}" for party, t in data.parties.items() for column in t]
    assert sorted(columns) == sorted(population.dictionary)
    for party, names in data.categorical.items():
        for name in names:
            assert isinstance(data.parties[party][name].dtype, pd.CategoricalDtype)
            assert data.dictionary[f"{party}.{name}"].unit == "category"
        others = data.parties[party].drop(columns=[*names, "uscc"])
        assert all(dtype.kind in "fiu" for dtype in others.dtypes)


def test_repr_shows_sizes_only(population):
    assert repr(population).startswith("SmePopulation(n=20000, platform=1")
    code = population.truth["uscc"].iloc[0]
    assert code not in repr(population)
    assert code not in repr(population.vertical())


@pytest.mark.parametrize(
    "arguments", [{"n": 0}, {"seed": -1}, {"default_rate": 0.0}, {"default_rate": 1.0}]
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(InputError):
        make_sme_population(**arguments)


def test_one_enterprise():
    assert len(make_sme_population(1).truth) == 1
