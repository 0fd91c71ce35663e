"""The catalog is the gate of alignment and training: what it closes enters no job."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fedcredit as fc
from fedcredit import errors
from fedcredit.governance.catalog import Catalog
from fedcredit.models.engine import ProviderEngine
from fedcredit.models.engine_binning import own_binning_tables
from tests.support import scorecards
from tests.support.parties import LABEL, classifier, federation, tables

N = 400
FEATURES = ("paid", "growth", "sector")


def open_catalog(**fields: dict[str, object]) -> Catalog:
    """Everything is open but for these changes; a field that is set to None is not listed."""
    catalog = Catalog.open_for(["id", *FEATURES], provider="tax", key="id")
    made = dict(catalog.fields)
    for name, changes in fields.items():
        if changes is None:
            del made[name]
        else:
            made[name] = dataclasses.replace(made[name], **changes)
    return Catalog("tax", "test", made)


def use_catalog(fed, catalog: Catalog, **policy) -> ProviderEngine:
    """Give a simulated provider another catalog, as after a restart; its storage stays."""
    old = fed.engines["tax"]
    engine = ProviderEngine(
        "tax",
        old._table.frame,
        catalog=catalog,
        store=old.store,
        policy=dataclasses.replace(old.policy, **policy),
    )
    fed.engines["tax"] = fed.backend._servers["tax"] = engine
    return engine


CLOSED = {
    "not listed": (None, "field_unknown", "is not in the catalog"),
    "never": ({"sharing": "never"}, "field_denied", "is never shared"),
    "grade 5": ({"grade": 5}, "field_denied", "grade 5"),
    "other uses": ({"uses": ("scoring", "verification")}, "field_denied", "for training"),
}


def made(catalog: Catalog | None = None, *, names=True, **policy):
    parts, _ = tables(n=N, seed=3)
    fed = federation(
        {name: parts[name] for name in ("platform", "tax")},
        policy=scorecards.policy(release_feature_names=names, **policy),
    )
    if catalog is not None:
        use_catalog(fed, catalog)
    return fed


@pytest.mark.parametrize("case", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("names", [True, False])
def test_only_open_fields_are_offered(case, names):
    frame = made(open_catalog(growth=case[0]), names=names).align(on="id")
    # Numbers do not move when a field before them is closed or opened.
    assert frame.labels == {"tax": ("paid", "sector") if names else ("f1", "f3")}


def test_a_model_of_what_is_open():
    frame = made(open_catalog(growth={"grade": 5}), names=False).align(on="id")
    model = classifier().fit(frame, y=LABEL)
    assert np.isfinite(model.predict_proba(frame)).all()


def names_of(frame) -> list[str]:
    """The provider's features as they were called when the frame was aligned."""
    return [f"tax.{label}" for label in frame.labels["tax"]]


#: Everything that uses a provider's columns in a session, on the features named.
JOBS = {
    "train": lambda frame: classifier(features=names_of(frame)).fit(frame, y=LABEL),
    "bins": lambda frame: fc.VerticalBinner(features=names_of(frame)).fit(frame, y=LABEL),
    "regression": lambda frame: fc.VerticalLogisticRegression(features=names_of(frame)).fit(
        frame, y=LABEL
    ),
}


@pytest.mark.parametrize("case", CLOSED.values(), ids=CLOSED)
def test_a_job_that_names_a_closed_field_is_refused(case):
    frame = made().align(on="id")
    use_catalog(frame.federation, open_catalog(growth=case[0]))
    with pytest.raises(errors.Refusal, match="'growth'") as caught:
        JOBS["train"](frame)
    assert caught.value.code == case[1]
    assert case[2] in caught.value.reason
    assert (caught.value.party, caught.value.step) == ("tax", "catalog")
    assert caught.value.fix


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_refusal_names_the_label_where_names_are_not_released(job):
    frame = made(names=False).align(on="id")
    use_catalog(frame.federation, open_catalog(growth={"grade": 5}))
    with pytest.raises(errors.Refusal, match="the field 'f2' is of grade 5") as caught:
        job(frame)
    assert "growth" not in str(caught.value)


@pytest.mark.parametrize(("job", "names"), [*((name, False) for name in JOBS), ("train", True)])
def test_a_job_of_too_few_rows_is_refused(job, names):
    frame = made(names=names).align(on="id")
    engine = use_catalog(frame.federation, open_catalog(growth={"min_aggregation": N + 1}))
    with pytest.raises(errors.Refusal, match=f"needs at least {N + 1} rows") as caught:
        JOBS[job](frame)
    assert caught.value.code == "aggregation_too_small"
    assert ("growth" in str(caught.value)) == names
    assert engine.store.keys("binning") == []


def test_what_was_trained_before_a_field_was_closed():
    frame = made().align(on="id")
    fed = frame.federation
    names = names_of(frame)
    forest = classifier().fit(frame, y=LABEL)
    regression = fc.VerticalLogisticRegression(features=names[::2]).fit(frame, y=LABEL)
    binner = fc.VerticalBinner(features=names).fit(frame, y=LABEL)
    uses = [
        lambda: forest.predict_proba(frame),
        lambda: regression.predict_proba(frame),
        lambda: binner.publish(),
    ]
    for use in uses[:2]:
        use()
    use_catalog(fed, open_catalog(paid={"uses": ()}))
    for use in uses:
        with pytest.raises(errors.Refusal, match="'paid' is not open for training"):
            use()
    use_catalog(fed, open_catalog())
    for use in uses:
        use()


# -------------------------------------------------------------------------------- alignment


@pytest.mark.parametrize("case", CLOSED.values(), ids=CLOSED)
def test_the_id_column_must_be_open_for_alignment(case):
    changes = {"uses": ()} if case[0] and "uses" in case[0] else case[0]
    fed = made(open_catalog(id=changes))
    with pytest.raises(errors.Refusal, match="'id'") as caught:
        fed.align(on="id")
    assert caught.value.code == case[1]
    assert caught.value.party == "tax"
    assert fed.engines["tax"].store.keys("alignment") == []


def test_a_feature_is_no_key_of_an_alignment():
    fed = made()
    old = fed.engines["tax"]
    fed.backend._servers["tax"] = ProviderEngine(
        "tax",
        old._table.frame.drop(columns="id").assign(id=1, paid=old._table.frame["id"]),
        catalog=open_catalog(paid={"uses": ("training", "scoring")}),
        id_column="paid",
        policy=old.policy,
    )
    with pytest.raises(errors.Refusal, match="'paid' is not open for alignment"):
        fed.align(on="id")


def test_the_name_of_an_own_id_column_is_not_told():
    fed = made(names=False)
    table = fed.engines["tax"]._table.frame.rename(columns={"id": "inner_code"})
    catalog = Catalog.open_for(FEATURES, provider="tax")
    fed.backend._servers["tax"] = ProviderEngine(
        "tax",
        table,
        catalog=catalog,
        id_column="inner_code",
        policy=scorecards.policy(release_feature_names=False),
    )
    with pytest.raises(errors.Refusal, match="the field 'id' is not in the catalog") as caught:
        fed.align(on="id")
    assert "inner_code" not in str(caught.value)


def test_fewer_matches_than_the_minimum_aggregation_end_an_alignment():
    with pytest.raises(errors.PolicyError, match="common"):
        made(open_catalog(id={"min_aggregation": N + 1})).align(on="id")
    assert len(made(open_catalog(id={"min_aggregation": N})).align(on="id")) == N


# ------------------------------------------------------------------------------------- bins


def test_bins_hold_as_many_rows_as_the_stricter_of_policy_and_catalog():
    for policy_floor, catalog_floor in ((1, 90), (90, 1)):
        fed = made(
            open_catalog(paid={"min_aggregation": catalog_floor}), min_bin_count=policy_floor
        )
        frame = fed.align(on="id")
        assert fed.engines["tax"].floor(["paid", "sector"]) == 90
        binner = fc.VerticalBinner().fit(frame, y=LABEL)
        paid = own_binning_tables(fed.engines["tax"], binner.bin_id_)["paid"]
        assert 1 < len(paid) <= N // 90
        assert paid["Count"].min() >= 90


def test_the_bins_of_a_forest(monkeypatch):
    seen = {}

    async def caught(peer, job, data, share, limits, **_):
        seen.update(bins=data.bins, limits=limits)
        raise errors.PolicyError("seen.", step="train")

    monkeypatch.setattr("fedcredit.models.engine_forest.train_provider", caught)
    frame = made(open_catalog(paid={"min_aggregation": 90})).align(on="id")
    with pytest.raises(errors.PolicyError, match="seen"):
        classifier().fit(frame, y=LABEL)
    paid, growth = (np.unique(column, return_counts=True)[1] for column in seen["bins"][:2])
    assert 1 < len(paid) <= N // 90
    assert paid.min() >= 90
    assert growth.min() < 90
    assert seen["limits"].min_node_rows == 90


# ---------------------------------------------------------------------------------- reasons


@pytest.fixture(scope="module")
def card():
    frame = scorecards.aligned("tax")
    return scorecards.scorecard().fit(frame, LABEL), frame


def reasons_of(card, catalog: Catalog, **policy) -> set[str]:
    fitted, frame = card
    use_catalog(frame.federation, catalog, **policy)
    some = frame[:50]
    found = fitted.reason_codes(some, 5)
    columns = [name for name in found.columns if name.startswith("reason")]
    called = {str(value) for value in found[columns].to_numpy().ravel()}
    return {name for name in called if name.startswith("tax")}


def test_reasons_are_as_coarse_as_policy_or_catalog_asks(card):
    assert reasons_of(card, open_catalog()) == {"tax.paid", "tax.growth", "tax.sector"}
    mixed = open_catalog(
        paid={"reason_grain": "group", "group": "payments"},
        growth={"reason_grain": "none"},
    )
    assert reasons_of(card, mixed) == {"tax.payments", "tax", "tax.sector"}
    assert reasons_of(card, mixed, reason_grain="group", feature_groups={"sector": "firm"}) == {
        "tax.payments",
        "tax",
        "tax.firm",
    }
    assert reasons_of(card, mixed, reason_grain="party") == {"tax"}


def test_a_closed_field_gives_neither_points_nor_reasons(card):
    fitted, frame = card
    use_catalog(frame.federation, open_catalog(growth={"uses": ("scoring",)}))
    for use in (lambda: fitted.points(frame), lambda: fitted.reason_codes(frame[:5], 2)):
        with pytest.raises(errors.Refusal, match="'growth' is not open for training"):
            use()
    use_catalog(frame.federation, open_catalog())
    assert len(fitted.points(frame)) == len(frame)
