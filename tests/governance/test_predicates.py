"""Predicates: truth, what is not known, the menu, and the canonical text."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pandas as pd
import pytest

from fedcredit.errors import InputError, Refusal
from fedcredit.governance.predicates import Predicate

MONTHS = tuple(f"staff_2025_{month:02d}" for month in range(1, 13))


def numeric(operator: str = ">=", thresholds=(10, 20), **options) -> Predicate:
    fields = {"text": "staff against {threshold}"} | options
    return Predicate("p", "staff", "integer", operator=operator, thresholds=thresholds, **fields)


def fixed(kind: str, operator: str, *values, **options) -> Predicate:
    return Predicate("p", "x", kind, "x holds", operator, values=values, **options)


def answers(predicate: Predicate, **columns) -> list[bool | None]:
    found = predicate.evaluate(pd.DataFrame(columns))
    assert found.dtype == object
    assert all(answer is None or type(answer) is bool for answer in found.tolist())
    return found.tolist()


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (">=", [False, True, True, None]),
        (">", [False, False, True, None]),
        ("<=", [True, True, False, None]),
        ("<", [True, False, False, None]),
        ("==", [False, True, False, None]),
        ("!=", [True, False, True, None]),
    ],
)
def test_comparisons(operator, expected):
    asked = numeric(operator).at(10)
    assert answers(asked, staff=[9, 10, 11, np.nan]) == expected
    assert answers(asked, staff=pd.array([9, 10, 11, None], dtype="Int64")) == expected


def test_flags():
    settled = fixed("flag", "==", False)
    for column in (
        [True, False, None],
        [1.0, 0.0, np.nan],
        pd.array([True, False, None], dtype="boolean"),
    ):
        assert answers(settled, x=column) == [False, True, None]
    assert answers(fixed("flag", "!=", False), x=[True, False]) == [True, False]


def test_categories():
    assert answers(fixed("category", "in", "A", "B"), x=["A", "C", None, "B"]) == [
        True,
        False,
        None,
        True,
    ]
    assert answers(fixed("category", "==", "A"), x=pd.Categorical(["A", "C"])) == [True, False]
    assert answers(fixed("category", "!=", "A"), x=["A", "C", None]) == [False, True, None]
    # A code has one text whether or not a missing one made the column floats.
    assert answers(fixed("category", "in", "17"), x=[17, 18]) == [True, False]
    assert answers(fixed("category", "in", "17"), x=[17.0, 18.0, np.nan]) == [True, False, None]
    assert answers(fixed("integer", "in", 1, 3), x=[1, 2, 3]) == [True, False, True]


def test_dates():
    since = Predicate("p", "x", "date", "since {threshold}", "<=", ("2020-12-31", "2023-12-31")).at(
        datetime.date(2020, 12, 31)
    )
    days = pd.to_datetime(pd.Series(["2020-12-31", "2021-01-01", None]))
    assert answers(since, x=days) == [True, False, None]
    assert since.describe() == "since 2020-12-31"
    assert answers(since, x=[datetime.date(2019, 5, 1), None]) == [True, None]


def test_staff_in_each_of_twelve_months():
    each = numeric(over=MONTHS, aggregate="min", text="insured staff >= {threshold} each month")
    rows = np.full((5, 12), 12.0)
    rows[1, 7] = 10
    rows[2, 7] = 9
    rows[3, 7] = np.nan
    rows[4] = np.nan
    columns = {name: rows[:, j] for j, name in enumerate(MONTHS)}
    assert answers(each.at(10), **columns) == [True, True, False, None, None]
    assert answers(each.at(20), **columns) == [False, False, False, None, None]
    assert each.fields == MONTHS


@pytest.mark.parametrize(
    ("aggregate", "threshold", "expected"),
    [
        ("min", 10, [False, False, None, None]),
        ("max", 10, [True, False, None, None]),
        ("sum", 20, [True, False, None, None]),
        ("last", 10, [True, False, True, None]),
    ],
)
def test_aggregates_of_numbers(aggregate, threshold, expected):
    made = numeric(over=("a", "b"), aggregate=aggregate).at(threshold)
    a, b = [8, 5, 30, np.nan], [15, 9, np.nan, np.nan]
    assert answers(made, a=a, b=b) == expected


def test_aggregates_of_flags():
    a, b = [True, True, False, None], [True, False, False, True]
    every = fixed("flag", "==", True, over=("a", "b"), aggregate="all")
    assert answers(every, a=a, b=b) == [True, False, False, None]
    count = Predicate(
        "p", "x", "flag", "at least {threshold}", ">=", (1, 2), over=("a", "b"),
        aggregate="count_true",
    )  # fmt: skip
    assert answers(count.at(1), a=a, b=b) == [True, True, False, None]
    last = fixed("category", "==", "ok", over=("a", "b"), aggregate="last")
    assert answers(last, a=["ok", "ok", None], b=["no", None, None]) == [False, True, None]


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("number", ["4711", "1"]),
        ("number", [np.inf, 1.0]),
        ("integer", [0.5, 1.0]),
        ("flag", [0, 2]),
        ("flag", ["true", "false"]),
        ("date", ["4711-x", "y"]),
    ],
    ids=str,
)
def test_a_column_of_another_type_is_refused_without_its_values(kind, column):
    made = {
        "number": Predicate("p", "x", "number", "{threshold}", ">=", (1,)).at(1),
        "integer": Predicate("p", "x", "integer", "{threshold}", ">=", (1,)).at(1),
        "flag": fixed("flag", "==", True),
        "date": Predicate("p", "x", "date", "{threshold}", ">=", ("2025-01-01",)).at(),
    }[kind]
    with pytest.raises(InputError, match=f"'x' does not hold values of type {kind}") as caught:
        made.evaluate(pd.DataFrame({"x": column}))
    assert "4711" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(InputError, match="no column 'x'"):
        made.evaluate(pd.DataFrame({"y": column}))


def test_only_the_menu_can_be_asked():
    made = numeric(thresholds=(0.5, 10))
    for threshold in (10, 10.0, 0.5):
        assert made.at(threshold).threshold == threshold
    for threshold in (11, None, True, "10", float("nan"), 10.000001):
        with pytest.raises(Refusal) as caught:
            made.at(threshold)
        assert caught.value.code == "threshold_denied"
        assert "0.5, 10" in caught.value.fix
    with pytest.raises(Refusal, match="tolerance"):
        made.at(10, 1)
    assert numeric(thresholds=(10,)).at().threshold == 10
    with pytest.raises(InputError, match="cannot be evaluated"):
        made.evaluate(pd.DataFrame({"staff": [1]}))


def test_canonical_text():
    made = numeric(thresholds=(500_000, 1e6))
    assert made.describe() == "staff against {threshold}"
    assert made.describe(threshold=500_000.0) == "staff against 500000"
    assert made.at(1_000_000).describe() == "staff against 1000000"
    assert (made.at(1e6).detail, made.detail) == ("threshold=1000000", "")
    some = Predicate("p", "x", "category", "sector is one of {values}", "in", values=("A", "B"))
    assert some.describe() == "sector is one of A, B"
    assert some.detail == ""
    with pytest.raises(Refusal):
        made.describe(threshold=3)


@pytest.fixture
def declared() -> Predicate:
    return Predicate(
        "p", "paid", "number", "declared tax is right within {tolerance} CNY", "declared",
        resolution=1000, tolerances=(0, 5),
    )  # fmt: skip


def test_declared_values(declared):
    steps, known = declared.steps(pd.DataFrame({"paid": [1499.0, 1501.0, -2600.0, np.nan]}))
    assert steps.dtype == np.int64
    assert steps.tolist() == [1, 2, -3, 0]
    assert known.tolist() == [True, True, True, False]
    asked = declared.at(tolerance=5)
    assert asked.describe() == "declared tax is right within 5000 CNY"
    assert asked.detail == "tolerance=5"
    for tolerance in (1, None, 5.5):
        with pytest.raises(Refusal) as caught:
            declared.at(tolerance=tolerance)
        assert caught.value.code == "threshold_denied"
    with pytest.raises(Refusal, match="threshold"):
        declared.at(threshold=1, tolerance=0)
    with pytest.raises(InputError, match="cannot be evaluated"):
        asked.evaluate(pd.DataFrame({"paid": [1.0]}))
    with pytest.raises(InputError, match="too many steps"):
        declared.steps(pd.DataFrame({"paid": [1e300]}))
    with pytest.raises(InputError, match="no declared value"):
        numeric().steps(pd.DataFrame({"staff": [1]}))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tolerances": (65,)}, "0 to 64 steps"),
        ({"tolerances": (-1,)}, "0 to 64 steps"),
        ({"tolerances": ()}, "needs tolerances"),
        ({"tolerances": (1,), "thresholds": (1,)}, "nothing else"),
        ({"resolution": 0.0}, "'resolution' belongs"),
        ({"type": "flag"}, "cannot be declared"),
        ({"type": "id"}, "an id has no predicates"),
        ({"operator": "~"}, "operator is unknown"),
    ],
    ids=str,
)
def test_contradictions(declared, changes, match):
    with pytest.raises(InputError, match=match):
        dataclasses.replace(declared, **changes)
