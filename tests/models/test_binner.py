"""The binner at the platform: tables as of pooled columns, edits by hand, files, figures."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fedcredit.errors import InputError, StorageError
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.binner_store import StoredBinner
from fedcredit.models.engine_binning import own_binning_tables, woe_columns
from fedcredit.models.local import local_frame
from tests.support.binning import (
    FREE,
    POOLED,
    fitted_binner,
    joint_frame,
    parts_and_pooled,
    policy,
)
from tests.support.parties import FEATURES, LABEL, assert_helpful, federation

COLUMNS = ["Bin", "Count", "Count (%)", "Non-event", "Event", "Event rate", "WoE", "IV"]


@pytest.fixture(name="parts_and_pooled")
def _parts_and_pooled():
    return parts_and_pooled()


@pytest.fixture
def frame():
    return joint_frame()


@pytest.fixture
def binner():
    return fitted_binner()


def numbers(table):
    return table.drop(columns="Bin").to_numpy(np.float64)


# -------------------------------------------------------------------- the same as pooled


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "none", "smoothing": 0.0},
        {"method": "chimerge", "convention": "good_over_bad", "prebins": 10},
        {"trend": {"tax.growth": "peak", "debt": "none"}, "max_bins": 4},
        {"special_codes": {"tax.paid": [0.5, -0.1], "platform.age": [7.0]}},
        {"user_splits": {"tax.paid": [-1.0, 0.0, 1.0], "debt": [0.5, 2.0]}},
    ],
)
def test_joint_tables_are_those_of_the_pooled_columns(frame, parts_and_pooled, options):
    _, pooled = parts_and_pooled
    joint = VerticalBinner(**options).fit(frame, y=LABEL)
    owner = {column: party for party, columns in FEATURES.items() for column in columns}

    def bare(values):
        return {name.split(".")[-1]: value for name, value in values.items()}

    local = {k: bare(v) if isinstance(v, dict) else v for k, v in options.items()}
    alone = VerticalBinner(**local).fit(pooled[POOLED], pooled[LABEL].to_numpy())
    assert sorted(joint.names_) == sorted(f"{owner[c]}.{c}" for c in POOLED)
    for column in POOLED:
        ours, theirs = joint.binning_table(f"{owner[column]}.{column}"), alone.binning_table(column)
        assert list(ours.columns) == COLUMNS
        np.testing.assert_array_equal(numbers(ours), numbers(theirs))
        if owner[column] == "platform":
            assert ours["Bin"].equals(theirs["Bin"])
        else:
            shown = set(ours["Bin"][:-1]) - {"missing"}
            assert all(text.endswith(f"(of {owner[column]})") for text in shown)
    assert joint.iv()["iv"].sort_values().tolist() == alone.iv()["iv"].sort_values().tolist()


def test_woe_columns_are_those_of_the_pooled_columns(frame, binner, parts_and_pooled):
    _, pooled = parts_and_pooled
    alone = VerticalBinner().fit(pooled[POOLED], pooled[LABEL].to_numpy())
    expected = alone.transform_own(pooled[POOLED])
    order = pooled.set_index("id").index.get_indexer(frame.ids)
    binner_id = binner.publish()
    own = binner.transform_own(frame)
    assert list(own.columns) == ["platform.age", "platform.debt"]
    for name in own.columns:
        np.testing.assert_array_equal(own[name], expected[name].to_numpy()[order])
    for party in ("tax", "social"):
        labels = binner.labels_of(party)[::-1]
        engine = frame.federation.engines[party]
        found = woe_columns(engine, binner_id, labels, engine.rows(frame.frame_id, frame.rows))
        for j, label in enumerate(labels):
            np.testing.assert_array_equal(
                found[:, j], expected[f"platform.{label}"].to_numpy()[order]
            )


def test_totals(binner):
    table = binner.binning_table("tax.growth")
    totals, lines = table.loc["Totals"], table.drop(index="Totals")
    for column in ("Count", "Non-event", "Event", "Count (%)", "IV"):
        assert lines[column].sum() == pytest.approx(totals[column])
    assert totals["Count"] == 400
    assert lines["Bin"].iloc[-1] == "missing"
    assert totals["Event rate"] == pytest.approx(totals["Event"] / 400)


def test_iv_is_sorted_and_explained(binner):
    iv = binner.iv()
    assert iv["iv"].is_monotonic_decreasing
    assert list(iv.columns) == ["party", "iv", "bins", "missing share", "constant", "verdict"]
    assert iv.loc["tax.growth", "missing share"] > 0.1
    assert iv.loc["tax.paid", "party"] == "tax"
    for name, line in iv.iterrows():
        assert line["iv"] == binner.binning_table(name).loc["Totals", "IV"]
    assert set(iv["verdict"]) <= {
        "unpredictive", "weak", "medium", "strong", "suspiciously strong",
    }  # fmt: skip


def test_features_and_unnamed_providers(parts_and_pooled):
    parts, _ = parts_and_pooled
    closed = federation(parts, policy=policy(release_feature_names=False)).align(on="id")
    binner = VerticalBinner(features=["tax.f2", "age"]).fit(closed, y=LABEL)
    assert binner.names_ == ["platform.age", "tax.f2"]
    assert binner.providers_ == ("tax",)
    assert binner.labels_of("tax") == ("f2",)
    assert binner.labels_of("social") == ()
    binner.publish()
    assert closed.federation.engines["social"].store.keys("binner") == []
    assert list(own_binning_tables(closed.federation.engines["tax"], binner.binner_id_)) == [
        "growth"
    ]


def test_no_session_without_providers(parts_and_pooled):
    parts, pooled = parts_and_pooled
    frame = local_frame(pooled[[*POOLED, LABEL]])
    binner = VerticalBinner().fit(frame, y=LABEL)
    assert frame.federation.phases == []
    assert len(binner.names_) == len(POOLED)
    assert binner.publish() == ""
    assert binner.stability(frame)["psi"].max() == 0
    assert parts


def test_events_are_the_larger_class_or_the_one_named(frame, binner):
    named = np.where(frame.column(LABEL) == 1, "repaid", "late")
    late = VerticalBinner(event="late", features=["tax.paid"]).fit(frame, y=named)
    assert late.event_ == "late"
    assert late.classes_.tolist() == ["late", "repaid"]
    ours, theirs = late.woe_table("tax.paid"), binner.woe_table("tax.paid")
    assert ours.event.sum() == theirs.non_event.sum()
    default = VerticalBinner(features=["tax.paid"]).fit(frame, y=named)
    assert default.event_ == "repaid"
    np.testing.assert_array_equal(default.woe_table("tax.paid").woe, theirs.woe)


# ------------------------------------------------------------------------------- edits


def test_edits_need_no_provider(binner, frame):
    sessions = len(frame.federation.phases)
    before = binner.binning_table("tax.growth")
    binner.merge("tax.growth", 0, 1)
    after = binner.binning_table("tax.growth")
    assert len(after) == len(before) - 1
    assert after["Event"].iloc[0] == before["Event"].iloc[:2].sum()
    assert after["Count"].iloc[1] == before["Count"].iloc[2]
    binner.split("tax.growth", 0)
    fine = binner.binning_table("tax.growth")
    assert len(fine) > len(before)
    assert fine["Event"].iloc[:-1].sum() == before["Event"].iloc[:-1].sum()
    binner.force_trend("tax.growth", "descending")
    rates = binner.binning_table("tax.growth")["Event rate"].iloc[:-2]
    assert rates.is_monotonic_decreasing
    binner.reset("tax.growth")
    pd.testing.assert_frame_equal(binner.binning_table("tax.growth"), before)
    assert len(frame.federation.phases) == sessions


def test_missing_values_can_join_a_bin_and_leave_it(binner, frame):
    before = binner.binning_table("tax.growth")
    missing = len(before) - 2
    binner.merge("tax.growth", missing, 1)
    after = binner.binning_table("tax.growth")
    assert "missing" not in set(after["Bin"])
    assert after["Count"].iloc[1] == before["Count"].iloc[1] + before["Count"].iloc[missing]
    engine = frame.federation.engines["tax"]
    rows = engine.rows(frame.frame_id, frame.rows)
    (weights,) = woe_columns(engine, binner.publish(), ("growth",), rows).T
    np.testing.assert_array_equal(np.unique(weights[rows["growth"].isna()]), after["WoE"].iloc[[1]])
    own = own_binning_tables(engine, binner.binner_id_)["growth"]
    assert own["Bin"].iloc[1].endswith(", missing")
    np.testing.assert_array_equal(own["WoE"], after["WoE"].iloc[:-1])
    np.testing.assert_array_equal(own["Count"], after["Count"].iloc[:-1])
    binner.split("tax.growth", 1)
    assert "missing" in set(binner.binning_table("tax.growth")["Bin"])


def test_categories_merge_in_any_order(frame, parts_and_pooled):
    parts, _ = parts_and_pooled
    fed = federation(parts, policy=FREE, categorical={"tax": ["sector"]})
    binner = VerticalBinner("none", features=["tax.sector"]).fit(fed.align(on="id"), y=LABEL)
    before = binner.binning_table("tax.sector")
    binner.merge("tax.sector", 0, 3)
    after = binner.binning_table("tax.sector")
    assert after["Count"].iloc[0] == before["Count"].iloc[0] + before["Count"].iloc[3]
    own = own_binning_tables(fed.engines["tax"], binner.publish())["sector"]
    assert own["Bin"].tolist() == ["0, 3", "1", "2"]
    assert frame


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda b: b.merge("tax.paid", 0, 2), "neighbours"),
        (lambda b: b.merge("tax.paid", 0, 0), "with itself"),
        (lambda b: b.merge("tax.paid", 0, 99), "no line 99"),
        (lambda b: b.merge("tax.paid", -1, 0), "no line -1"),
        (lambda b: b.merge("tax.paid", 0.5, 1), "named by its line"),
        (lambda b: b.split("tax.growth", 99), "no line"),
        (lambda b: b.force_trend("tax.paid", "up"), "trend"),
        (lambda b: b.binning_table("tax.nothing"), "no binned feature"),
        (lambda b: b.reset("paid"), "no binned feature"),
    ],
)
def test_impossible_edits_change_nothing(binner, edit, match):
    before = binner.binning_table("tax.paid")
    with pytest.raises(InputError, match=match):
        edit(binner)
    pd.testing.assert_frame_equal(binner.binning_table("tax.paid"), before)


def test_a_single_fine_bin_cannot_be_split(frame):
    binner = VerticalBinner("none", features=["tax.paid"]).fit(frame, y=LABEL)
    with pytest.raises(InputError, match="single counted bin") as caught:
        binner.split("tax.paid", 0)
    assert_helpful(caught.value)


# -------------------------------------------------------------------- as scikit-learn has it


def test_it_is_an_estimator(binner):
    copied = clone(VerticalBinner(max_bins=3, trend={"tax.paid": "peak"}))
    assert copied.get_params()["max_bins"] == 3
    with pytest.raises(NotFittedError):
        copied.iv()
    with pytest.raises(NotFittedError):
        copied.names_
    assert "VerticalBinner" in repr(binner)


def test_later_parameters_do_not_change_what_was_fitted(binner):
    before = binner.binning_table("tax.paid")
    binner.set_params(smoothing=5.0, convention="good_over_bad")
    pd.testing.assert_frame_equal(binner.binning_table("tax.paid"), before)


def test_a_table_of_one_party(parts_and_pooled):
    _, pooled = parts_and_pooled
    X, y = pooled[POOLED], pooled[LABEL].to_numpy()
    binner = VerticalBinner().fit(X, y)
    assert binner.n_features_in_ == len(POOLED)
    array = VerticalBinner().fit(X[["age", "debt"]].to_numpy(), y)
    assert array.names_ == ["platform.x0", "platform.x1"]
    np.testing.assert_array_equal(
        array.transform_own(X[["age", "debt"]].to_numpy()).to_numpy(),
        binner.transform_own(X, ["age", "debt"]).to_numpy(),
    )
    with pytest.raises(InputError, match="no federated frame"):
        VerticalBinner().fit(X, "bad")


# ------------------------------------------------------------------------ files and figures


def test_a_saved_binner_goes_on(binner, frame, tmp_path):
    binner.merge("tax.paid", 0, 1)
    published = binner.publish()
    binner.save(tmp_path / "binner")
    loaded = VerticalBinner.load(tmp_path / "binner", frame.federation)
    assert loaded.names_ == binner.names_
    for name in binner.names_:
        pd.testing.assert_frame_equal(loaded.binning_table(name), binner.binning_table(name))
    pd.testing.assert_frame_equal(loaded.transform_own(frame), binner.transform_own(frame))
    assert loaded.publish() == published
    pd.testing.assert_frame_equal(loaded.stability(frame), binner.stability(frame))
    loaded.reset("tax.paid")
    assert loaded.publish() != published
    assert VerticalBinner.load(binner.to_bytes()).iv().equals(binner.iv())
    with pytest.raises(InputError, match="knows no federation"):
        VerticalBinner.load(binner.to_bytes()).reset("tax.paid").publish()


def test_a_file_holds_no_row_and_no_id(binner, frame):
    data = binner.to_bytes()
    assert all(identifier.encode() not in data for identifier in frame.ids)


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_damaged_file_is_refused(binner, cut):
    with pytest.raises(InputError, match="cannot be read"):
        VerticalBinner.load(binner.to_bytes()[:cut])


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.replace('"usable"', '"useful"', 1),
        lambda h: h.replace('"roles": ["ordered"', '"roles": ["missing"', 1),
        lambda h: h.replace('"first_groups"', '"groups_first"', 1),
        lambda h: h.replace('"count": [', '"count": [1, ', 1),
        lambda h: h.replace('"bin_id"', '"id"'),
        lambda h: h[:-5],
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(binner, change):
    stored = StoredBinner.read(binner.to_bytes())
    changed = change(stored.header)
    assert changed != stored.header
    with pytest.raises(InputError):
        VerticalBinner.load(StoredBinner(changed).to_bytes())


def test_paths_that_cannot_be_used(binner, tmp_path):
    with pytest.raises(StorageError):
        binner.save(tmp_path / "no" / "where")
    with pytest.raises(StorageError):
        VerticalBinner.load(tmp_path / "nothing")


def test_a_figure_shows_every_bin(binner):
    table = binner.binning_table("tax.growth").drop(index="Totals")
    figure = binner.plot("tax.growth")
    upper, lower = figure.axes
    assert len(upper.patches) == len(lower.patches) == len(table)
    np.testing.assert_allclose([p.get_height() for p in lower.patches], table["WoE"])
    np.testing.assert_allclose(upper.lines[0].get_ydata(), table["Event rate"])
    assert "tax.growth" in upper.get_title("left")


def test_a_figure_colours_risk_alike_in_both_conventions(frame):
    colours = []
    for convention in ("bad_over_good", "good_over_bad"):
        binner = VerticalBinner(convention=convention, features=["debt"]).fit(frame, y=LABEL)
        lower = binner.plot("debt").axes[1]
        colours.append([patch.get_facecolor() for patch in lower.patches])
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == 2
