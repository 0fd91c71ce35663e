"""The binner among providers: release of weights, other rows, policies, and bad input."""

import numpy as np
import pandas as pd
import pytest

from fedcredit.errors import BudgetError, InputError, PolicyError, ProtocolError
from fedcredit.models import binner_job
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.engine_binning import own_binning_tables, woe_columns
from fedcredit.protocols.binning_messages import WoeAck, WoeJob
from fedcredit.stats.credit_metrics import population_stability_index
from tests.support.binning import (
    FREE,
    fitted_binner,
    joint_frame,
    parts_and_pooled,
    policy,
)
from tests.support.parties import FEATURES, LABEL, assert_helpful, federation


@pytest.fixture(name="parts_and_pooled")
def _parts_and_pooled():
    return parts_and_pooled()


@pytest.fixture
def frame():
    return joint_frame()


@pytest.fixture
def binner():
    return fitted_binner()


# ----------------------------------------------------------------------------- release


def test_published_weights_stay_when_the_binner_changes(binner, frame):
    engine = frame.federation.engines["tax"]
    rows = engine.rows(frame.frame_id, frame.rows)
    first = binner.publish()
    assert binner.publish() == first == binner.binner_id_
    weights = woe_columns(engine, first, ("paid",), rows)
    binner.merge("tax.paid", 0, 1)
    second = binner.publish()
    assert second != first
    assert not np.array_equal(woe_columns(engine, second, ("paid",), rows), weights)
    np.testing.assert_array_equal(woe_columns(engine, first, ("paid",), rows), weights)
    assert binner.reset("tax.paid").publish() == first


def test_a_binner_that_keeps_its_weights(frame):
    binner = VerticalBinner(release_woe=False, features=["tax.paid"]).fit(frame, y=LABEL)
    with pytest.raises(PolicyError, match="keeps its weights") as caught:
        binner.publish()
    assert_helpful(caught.value)
    engine = frame.federation.engines["tax"]
    with pytest.raises(PolicyError, match="not released") as caught:
        woe_columns(engine, binner.bin_id_, ("paid",), engine.rows(frame.frame_id, frame.rows))
    assert_helpful(caught.value)
    own = own_binning_tables(engine, binner.bin_id_)["paid"]
    assert list(own.columns) == ["Bin", "Count", "Count (%)"]


def test_unknown_binners_and_features(frame, binner):
    engine = frame.federation.engines["tax"]
    rows = engine.rows(frame.frame_id, frame.rows)
    with pytest.raises(ProtocolError, match="not known here"):
        woe_columns(engine, "nothing", ("paid",), rows)
    with pytest.raises(InputError, match="no features staff"):
        woe_columns(engine, binner.publish(), ("staff",), rows)
    with pytest.raises(InputError, match="named twice"):
        woe_columns(engine, binner.publish(), ("paid", "paid"), rows)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"woe": lambda x: np.full_like(x, np.nan)}, "finite"),
        ({"iv": lambda x: np.full_like(x, np.inf)}, "finite"),
        ({"woe": lambda x: x[1:]}, "one per bin"),
        ({"n_groups": lambda x: x + 1}, "out of order"),
        ({"n_groups": lambda x: x[1:]}, "not those of the features"),
        ({"group_of": lambda x: x[::-1].copy()}, "ascending order"),
        ({"group_of": lambda x: x - 1}, "not there"),
        ({"group_of": lambda x: x[1:]}, "not those of the features"),
        ({"convention": lambda x: "up"}, "no known meaning"),
        ({"labels": lambda x: ("staff",)}, "no features"),
        ({"bin_id": lambda x: "another"}, "not known here"),
    ],
)
def test_weights_that_do_not_fit_are_refused(frame, binner, change, match):
    federation = frame.federation
    table, (place, roles) = binner.woe_table("tax.paid"), binner.features_["tax.paid"].places()
    fields = {
        "bin_id": binner.bin_id_,
        "binner_id": "attack",
        "convention": "bad_over_good",
        "labels": ("paid",),
        "n_groups": np.array([len(roles)], np.int32),
        "group_of": place.astype(np.int32),
        "woe": table.woe,
        "iv": table.iv,
    }
    fields |= {name: f(fields[name]) for name, f in change.items()}

    async def role(peers):
        await peers["tax"].send(WoeJob(**fields))
        await peers["tax"].recv(WoeAck)

    with pytest.raises((ProtocolError, InputError), match=match) as caught:
        federation.run(role, providers=["tax"], job="woe-attack", phase="publish")
    assert caught.value.party == "tax"
    assert "attack" not in federation.engines["tax"].store.keys("binner")


def test_a_release_is_never_replaced(frame, binner):
    """Another binning may not put its weights in the place of those that models use."""
    first = binner.publish()
    other = VerticalBinner(features=["tax.paid"], prebins=5).fit(frame, y=LABEL)
    kept = frame.federation.engines["tax"].store.get("binner", first)
    table, (place, roles) = other.woe_table("tax.paid"), other.features_["tax.paid"].places()
    message = WoeJob(
        other.bin_id_, first, "bad_over_good", ("paid",), np.array([len(roles)], np.int32),
        place.astype(np.int32), table.woe, table.iv,
    )  # fmt: skip

    async def role(peers):
        await peers["tax"].send(message)
        await peers["tax"].recv(WoeAck)

    with pytest.raises(ProtocolError, match="another binner with this id"):
        frame.federation.run(role, providers=["tax"], job="woe-again", phase="publish")
    assert frame.federation.engines["tax"].store.get("binner", first) == kept


# --------------------------------------------------------------------------- other rows


def test_stability_of_other_rows(frame, parts_and_pooled):
    _, pooled = parts_and_pooled
    train, test = frame.take(np.arange(250)), frame.take(np.arange(250, 400))
    binner = VerticalBinner().fit(train, y=LABEL)
    stability = binner.stability(test)
    assert list(stability.index) == binner.usable()
    rows = pooled.set_index("id").loc
    table = binner.woe_table("platform.debt")
    edges = [float(t.split(",")[0][1:]) for t in binner.binning_table("debt")["Bin"][1:-1]]
    bins = np.searchsorted(edges, rows[test.ids]["debt"], side="right")
    expected = population_stability_index(
        table.count, np.bincount(bins, minlength=len(table.count))
    )
    assert stability.loc["platform.debt", "psi"] == pytest.approx(expected, rel=1e-12)
    own = own_binning_tables(frame.federation.engines["tax"], binner.publish())["paid"]
    edges = [float(t.split(",")[0][1:]) for t in own["Bin"][1:]]
    bins = np.searchsorted(edges, rows[test.ids]["paid"], side="right")
    expected = population_stability_index(own["Count"], np.bincount(bins, minlength=len(own)))
    assert stability.loc["tax.paid", "psi"] == pytest.approx(expected, rel=1e-12)
    assert binner.stability(train)["psi"].max() == 0
    assert set(stability["verdict"]) <= {"stable", "slightly shifted", "shifted"}


def test_small_bins_of_other_rows_are_compared_together(parts_and_pooled):
    parts, _ = parts_and_pooled
    frame = federation(parts, policy=policy(min_bin_count=10)).align(on="id")
    binner = VerticalBinner(features=["tax.paid"]).fit(frame.take(np.arange(340)), y=LABEL)
    stability = binner.stability(frame.take(np.arange(340, 400)))
    assert np.isfinite(stability["psi"]).all()
    with pytest.raises(PolicyError, match="single out"):
        binner.stability(frame.take(np.arange(345, 400)))
    with pytest.raises(InputError, match="occurs twice"):
        binner.stability(frame.take([0, 0, *range(20)]))
    with pytest.raises(InputError, match="no rows"):
        binner.stability(frame.take([]))


def test_unseen_categories_and_missing_values():
    X = pd.DataFrame({"kind": ["a", "b", "a", None] * 25, "size": np.arange(100.0)})
    y = np.arange(100) % 3 == 0
    binner = VerticalBinner("none", prebins=4).fit(X, y)
    new = pd.DataFrame({"kind": ["z", None, "a"], "size": [np.nan, -5.0, 1000.0]})
    out = binner.transform_own(new)
    table = binner.binning_table("kind").set_index("Bin")
    assert out["platform.kind"].iloc[0] == out["platform.kind"].iloc[1]
    assert out["platform.kind"].iloc[1] == table.loc["missing", "WoE"]
    assert out["platform.kind"].iloc[2] == table.loc["a", "WoE"]
    assert out["platform.size"].iloc[0] == 0.0
    sizes = binner.binning_table("size")["WoE"]
    assert out["platform.size"].iloc[1:].tolist() == [sizes.iloc[0], sizes.iloc[3]]


# ------------------------------------------------------------------------------ policy


def test_split_points_and_codes_are_the_providers_to_choose(parts_and_pooled):
    parts, _ = parts_and_pooled
    frame = federation(parts, policy=policy()).align(on="id")
    for options in (
        {"user_splits": {"tax.paid": [0.0]}},
        {"special_codes": {"tax.paid": [-1.0]}},
    ):
        with pytest.raises(PolicyError, match="may not choose") as caught:
            VerticalBinner(**options).fit(frame, y=LABEL)
        assert_helpful(caught.value, party="tax")
    # Codes for all columns are the platform's own columns only.
    binner = VerticalBinner(special_codes=[7.0]).fit(frame, y=LABEL)
    assert "special: 7" in set(binner.binning_table("age")["Bin"])


def test_passes_are_limited_over_all_binners(parts_and_pooled):
    parts, _ = parts_and_pooled
    frame = federation(parts, policy=policy(max_binnings_per_feature=2)).align(on="id")
    for _ in range(2):
        VerticalBinner(features=["tax.paid"]).fit(frame, y=LABEL)
    with pytest.raises(BudgetError, match="2 times") as caught:
        VerticalBinner(features=["tax.paid", "tax.growth"]).fit(frame, y=LABEL)
    assert_helpful(caught.value, party="tax")
    VerticalBinner(features=["tax.growth"]).fit(frame, y=LABEL)


def test_rows_that_differ_by_a_few_are_refused(parts_and_pooled):
    parts, _ = parts_and_pooled
    frame = federation(parts, policy=policy(min_bin_count=10)).align(on="id")
    VerticalBinner().fit(frame, y=LABEL)
    with pytest.raises(PolicyError, match="single out fewer than 10") as caught:
        VerticalBinner().fit(frame.take(np.arange(3, 400)), y=LABEL)
    assert_helpful(caught.value, party="tax")
    VerticalBinner().fit(frame.take(np.arange(10, 400)), y=LABEL)


def test_bins_below_the_floor_are_merged_where_they_are(parts_and_pooled):
    parts, _ = parts_and_pooled
    frame = federation(parts, policy=policy(min_bin_count=60)).align(on="id")
    binner = VerticalBinner("none").fit(frame, y=LABEL)
    for name in binner.labels_of("tax"):
        counts = binner.binning_table(f"tax.{name}")["Count"]
        assert (counts >= 60).all()
    with pytest.raises(InputError, match="fewer rows than one bin"):
        VerticalBinner().fit(frame.take(np.arange(59)), y=LABEL)


# --------------------------------------------------------------------------- bad input


@pytest.fixture
def odd_frame(parts_and_pooled):
    parts, _ = parts_and_pooled
    parts = {name: table.copy() for name, table in parts.items()}
    for name in ("platform", "tax"):
        parts[name]["same"] = 5.0
        parts[name]["void"] = np.nan
        parts[name]["blank"] = pd.Series([None] * 400, dtype=object)
    return federation(parts, policy=FREE).align(on="id")


def test_constant_and_empty_features_are_reported_and_left_out(odd_frame):
    binner = VerticalBinner().fit(odd_frame, y=LABEL)
    iv = binner.iv()
    for party in ("platform", "tax"):
        assert iv.loc[f"{party}.same", "verdict"] == "excluded: one bin holds all rows"
        for name in ("void", "blank"):
            assert iv.loc[f"{party}.{name}", "verdict"] == "excluded: all values are missing"
        assert not {f"{party}.same", f"{party}.void", f"{party}.blank"} & set(binner.usable())
    assert iv["constant"].sum() == 6
    assert iv["iv"].iloc[-6:].tolist() == [0.0] * 6
    assert binner.binning_table("tax.same")["IV"].tolist() == [0.0, 0.0]
    assert binner.labels_of("tax", ["tax.same", "tax.paid"]) == ("paid",)
    binner.publish()
    own = own_binning_tables(odd_frame.federation.engines["tax"], binner.binner_id_)
    assert set(own) == set(FEATURES["tax"])
    assert list(binner.transform_own(odd_frame)) == ["platform.age", "platform.debt"]


def test_a_feature_merged_into_one_bin_is_left_out(binner):
    while len(binner.binning_table("tax.paid")) > 2:
        binner.merge("tax.paid", 0, 1)
    assert binner.iv().loc["tax.paid", "verdict"] == "excluded: all bins are merged into one"
    assert "tax.paid" not in binner.usable()


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.zeros(400), "single class"),
        (np.arange(400) % 3, "two classes"),
        (np.where(np.arange(400) % 2, 1.0, np.nan), "missing"),
        (np.array([1, "a"] * 200, object), "two classes"),
        (np.zeros(3), "shape"),
        ("nothing", "no column"),
        ("tax.paid", "stay with their owner"),
    ],
)
def test_labels_that_cannot_be_used(frame, y, match):
    sessions = len(frame.federation.phases)
    with pytest.raises(InputError, match=match) as caught:
        VerticalBinner().fit(frame, y=y)
    assert_helpful(caught.value)
    assert len(frame.federation.phases) == sessions


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "best"}, "method"),
        ({"convention": "up"}, "convention"),
        ({"trend": "up"}, "trend"),
        ({"trend": {"tax.paid": "up"}}, "trend"),
        ({"trend": {"tax.nothing": "auto"}}, "no column"),
        ({"max_bins": 1}, "max_bins"),
        ({"prebins": 2.5}, "prebins"),
        ({"prebins": True}, "prebins"),
        ({"min_bin_share": 0.9}, "min_bin_share"),
        ({"smoothing": -1}, "smoothing"),
        ({"smoothing": np.nan}, "smoothing"),
        ({"smoothing": "much"}, "smoothing"),
        ({"event": 7}, "none of the classes"),
        ({"features": ["tax.nothing"]}, "no column"),
        ({"user_splits": {"tax.nothing": [1.0]}}, "no column"),
        ({"user_splits": {"debt": ["a"]}}, "finite numbers"),
        ({"user_splits": {"debt": [np.inf]}}, "finite numbers"),
        ({"special_codes": {"debt": 7.0}}, "finite numbers"),
    ],
)
def test_arguments_that_cannot_be_used(frame, options, match):
    sessions = len(frame.federation.phases)
    with pytest.raises(InputError, match=match) as caught:
        VerticalBinner(**options).fit(frame, y=LABEL)
    assert_helpful(caught.value)
    assert len(frame.federation.phases) == sessions


def test_splits_of_what_is_not_binned_or_not_numeric(frame, parts_and_pooled):
    with pytest.raises(InputError, match="not binned"):
        VerticalBinner(features=["tax.growth"], user_splits={"tax.paid": [0.0]}).fit(frame, y=LABEL)
    with pytest.raises(InputError, match="ascending"):
        VerticalBinner(user_splits={"tax.paid": [1.0, 0.0]}).fit(frame, y=LABEL)
    parts, _ = parts_and_pooled
    fed = federation(parts, policy=FREE, categorical={"tax": ["sector"]})
    with pytest.raises(InputError, match="categorical") as caught:
        VerticalBinner(user_splits={"tax.sector": [1.0]}).fit(fed.align(on="id"), y=LABEL)
    assert_helpful(caught.value, party="tax")


def test_too_many_rows_are_refused_before_a_pass_is_spent(frame, monkeypatch):
    monkeypatch.setattr(binner_job, "MAX_ROWS", 399)
    sessions = len(frame.federation.phases)
    with pytest.raises(InputError, match="at most 399 rows") as caught:
        VerticalBinner().fit(frame, y=LABEL)
    assert_helpful(caught.value)
    assert len(frame.federation.phases) == sessions
    assert len(VerticalBinner(features=["age"]).fit(frame, y=LABEL).names_) == 1


def test_a_fit_that_is_cut_off_has_spent_its_pass(parts_and_pooled, monkeypatch):
    parts, _ = parts_and_pooled
    frame = federation(parts, policy=policy(max_binnings_per_feature=1)).align(on="id")

    async def lost(*_, **__):
        raise ProtocolError("the provider has gone.", step="count events", fix="try again")

    with monkeypatch.context() as changed:
        changed.setattr("fedcredit.models.engine_binning.binning_provider", lost)
        with pytest.raises(ProtocolError, match="gone"):
            VerticalBinner(features=["tax.paid"]).fit(frame, y=LABEL)
    with pytest.raises(BudgetError):
        VerticalBinner(features=["tax.paid"]).fit(frame, y=LABEL)
