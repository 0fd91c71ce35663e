"""Columns of every kind in joint models, at the platform and at a provider."""

import numpy as np
import pandas as pd
import pytest

from fedcredit import errors
from tests.support.parties import (
    LABEL,
    assert_helpful,
    classifier,
    federation,
    quick,
    tables,
    tables_with_target,
)


@pytest.fixture(scope="module")
def parties():
    return tables_with_target()


@pytest.fixture(scope="module")
def frame(parties):
    return federation(with_columns(parties[0])).align(on="id")


def with_columns(parts, **columns):
    """Replace or add columns, given as ``party__column=values``; without the second provider."""
    changed = {party: part for party, part in parts.items() if party != "social"}
    for key, values in columns.items():
        party, name = key.split("__")
        changed[party] = changed[party].assign(**{name: values})
    return changed


PARTY = pytest.mark.parametrize("party", ["platform", "tax"])


def fitted(parties, party, values, **options):
    parts = with_columns(parties[0], **{f"{party}__extra": values})
    frame = federation(parts).align(on="id")
    name = f"{party}.extra"
    options = {"hide_membership": False, "features": ["tax.paid", name]} | options
    model = classifier(n_estimators=1, **options).fit(frame, y=LABEL)
    return frame, model


@PARTY
@pytest.mark.parametrize(
    "values",
    [7.0, np.nan, None, "one town", True],
    ids=["number", "nan", "none", "text", "bool"],
)
def test_a_column_without_information_is_never_split(parties, party, values):
    column = pd.Series([values] * 240, dtype=object).infer_objects()
    frame, model = fitted(parties, party, column)
    assert model.importance().loc[f"{party}.extra", "splits"] == 0
    assert len(model.predict(frame)) == 240


@PARTY
@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.inf, "'extra' contains infinite values"),
        (pd.Timestamp("1987-06-05"), "'extra' holds dates"),
        ([f"secret{i}" for i in range(240)] * 5, "more than 1024 distinct"),
    ],
    ids=["infinite", "dates", "identifier"],
)
def test_columns_that_cannot_be_used(parties, party, values, match):
    parts = with_columns(parties[0], **{f"{party}__extra": np.nan})
    if isinstance(values, list):
        parts = tables(n=1200)[0]
        values = [f"secret{i}" for i in range(1200)]
    parts = with_columns(parts, **{f"{party}__extra": values})
    frame = federation(parts).align(on="id")
    with pytest.raises(errors.InputError, match=match) as caught:
        quick(hide_membership=False, features=["debt", f"{party}.extra"]).fit(frame, y=LABEL)
    assert_helpful(caught.value, party=party, secrets=["1987", "secret"])
    assert quick().fit(frame, y=LABEL).n_estimators_ == 1


@PARTY
@pytest.mark.parametrize("kind", ["text", "category", "bool", "nullable", "coded"])
def test_kinds_that_carry_information(parties, party, kind):
    base = parties[0][party].merge(parties[1][["id", "bad"]], on="id", suffixes=("", "_"))
    bad = base["bad"].to_numpy()
    town = np.where(bad == 1, np.where(np.arange(240) % 5, "north", None), "south")
    values = {
        "text": pd.Series(town, dtype=object),
        "category": pd.Series(town, dtype="category"),
        "bool": pd.Series(bad == 1),
        "nullable": pd.Series(bad, dtype="Int8").mask(np.arange(240) % 9 == 0),
        "coded": pd.Series(1000 + 3 * bad),
    }[kind]
    categorical = {party: ["extra"]} if kind == "coded" else None
    parts = with_columns(parties[0], **{f"{party}__extra": values})
    frame = federation(parts, categorical=categorical).align(on="id")
    model = classifier(
        hide_membership=False, features=["debt", f"{party}.extra"], learning_rate=1.0
    ).fit(frame, y=LABEL)
    info = model.pooled_.infos[1]
    assert info.is_categorical == (kind in ("text", "category", "coded"))
    assert model.importance().loc[f"{party}.extra", "splits"] >= 1
    assert model.score(frame, y=LABEL) > 0.85


@PARTY
def test_an_unseen_category_goes_the_way_of_a_rare_one(parties, party):
    parts = with_columns(parties[0], **{f"{party}__extra": ["a", "b"] * 120})
    fed = federation(parts)
    frame = fed.align(on="id")
    model = classifier(hide_membership=False, features=[f"{party}.extra"]).fit(frame, y=LABEL)
    table = fed.table if party == "platform" else fed.engines[party]._table
    table.frame["extra"] = "something new"
    unseen = model.decision_function(frame)
    table.frame["extra"] = None
    np.testing.assert_array_equal(unseen, model.decision_function(frame))
    assert len(np.unique(unseen)) == 1
    del table.frame["extra"]
    with pytest.raises(errors.FedCreditError, match="'extra' is missing") as caught:
        model.predict(frame)
    assert_helpful(caught.value, party=party)


def test_numbers_that_became_text(parties):
    fed = federation({"platform": parties[0]["platform"]})
    frame = fed.align(on="id")
    model = quick().fit(frame, y=LABEL)
    fed.table.frame["age"] = "seventy-seven"
    with pytest.raises(errors.InputError, match="'age' is not numeric") as caught:
        model.predict(frame)
    assert_helpful(caught.value, party="platform", secrets=["seventy-seven"])


@pytest.mark.parametrize("name", ["tax.nothing", "nothing", "customs.paid", "paid", "id", "tax."])
def test_unknown_names(frame, name):
    with pytest.raises(errors.InputError, match="there is no column") as caught:
        quick(features=["age", name]).fit(frame, y=LABEL)
    assert_helpful(caught.value)
    with pytest.raises(errors.InputError, match="there is no column") as caught:
        quick(monotone_constraints={name: 1}).fit(frame, y=LABEL)
    assert_helpful(caught.value)


@pytest.mark.parametrize("name", ["nothing", "tax.sector"])
def test_unknown_categories(frame, name):
    with pytest.raises(errors.InputError, match="unknown categorical columns") as caught:
        quick(categorical_features=[name]).fit(frame, y=LABEL)
    assert_helpful(caught.value, party="platform")


def test_the_label_is_no_feature(frame):
    with pytest.raises(errors.InputError, match="unknown feature columns: bad") as caught:
        quick(features=["age", LABEL]).fit(frame, y=LABEL)
    assert_helpful(caught.value, party="platform")


def test_signs(frame):
    with pytest.raises(errors.InputError, match="neither -1, 0 nor 1") as caught:
        quick(monotone_constraints={"age": 2}).fit(frame, y=LABEL)
    assert_helpful(caught.value)


@PARTY
def test_a_category_has_no_direction(parties, party):
    with pytest.raises(errors.InputError, match="monotone") as caught:
        fitted(parties, party, ["a", "b"] * 120, monotone_constraints={f"{party}.extra": 1})
    assert_helpful(caught.value, party=party)


def test_no_feature_varies(parties):
    part = parties[0]["platform"].assign(age=1.0)
    frame = federation({"platform": part}).align(on="id")
    with pytest.raises(errors.InputError, match="no feature has more than one bin") as caught:
        quick(features=["age"]).fit(frame, y=LABEL)
    assert_helpful(caught.value)
