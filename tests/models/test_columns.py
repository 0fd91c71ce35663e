"""How a party's columns become numbers."""

import datetime

import numpy as np
import pandas as pd
import pytest

from fedcredit import errors
from fedcredit.models.columns import ColumnCoder, fit_coders, to_pandas
from tests.support.parties import assert_helpful


def coded(column, **options):
    frame = pd.DataFrame({"x": column})
    (coder,) = fit_coders(frame, party="tax", **options)
    return coder, coder.transform(frame, party="tax")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([1.5, None, 2], [1.5, np.nan, 2]),
        (pd.array([1, None, 3], "Int16"), [1, np.nan, 3]),
        (pd.array([0.5, None, 3], "Float32"), [0.5, np.nan, 3]),
        ([True, False, True], [1, 0, 1]),
        (pd.array([True, None, False], "boolean"), [1, np.nan, 0]),
        (np.array([1, 2, 250], np.uint8), [1, 2, 250]),
    ],
)
def test_numbers_stay_numbers(column, expected):
    coder, values = coded(column)
    assert not coder.is_categorical
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("column", "categories", "codes"),
    [
        (["b", None, "a"], ("a", "b"), [1, np.nan, 0]),
        (pd.array(["b", None, "a"], "string"), ("a", "b"), [1, np.nan, 0]),
        (pd.Categorical(["b", None, "a"], ["c", "b", "a"]), ("a", "b"), [1, np.nan, 0]),
        ([None, None, None], (), [np.nan] * 3),
        (["", " ", "中"], ("", " ", "中"), [0, 1, 2]),
        ([datetime.date(2024, 1, 2), None], ("2024-01-02",), [0, np.nan]),
    ],
)
def test_texts_become_codes(column, categories, codes):
    coder, values = coded(pd.Series(column, dtype=None if len(column) else object))
    assert coder.categories == categories
    np.testing.assert_array_equal(values, codes)


@pytest.mark.parametrize(
    "column",
    [
        [1234567, 1234568, 20],
        [1234567.0, 1234568.0, 20.0],
        pd.array([1234567, 1234568, 20], "Int64"),
        pd.Categorical([1234567, 1234568, 20]),
        pd.Categorical([1234567.0, 1234568.0, 20.0]),
        np.array([1234567, 1234568, 20], np.int32),
    ],
    ids=str,
)
def test_a_code_is_one_category_whatever_its_type(column):
    coder, _ = coded(column, categorical=["x"])
    assert coder.categories == ("1234567", "1234568", "20")
    with_gap = pd.DataFrame({"x": [1234568.0, np.nan, 7.0]})
    np.testing.assert_array_equal(coder.transform(with_gap, party="tax"), [1, np.nan, np.nan])


def test_fractions_keep_all_their_digits():
    coder, values = coded([0.12345678, 0.12345679, np.nan], categorical=["x"])
    assert len(coder.categories) == 2
    np.testing.assert_array_equal(values, [0, 1, np.nan])


def test_a_dictionary_survives_json_and_is_not_shown():
    coder, _ = coded(["north", "south"])
    assert ColumnCoder.from_dict(coder.to_dict()) == coder
    assert "north" not in repr(coder)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([1.0, np.inf], "infinite"),
        ([1.0, -np.inf], "infinite"),
        (pd.to_datetime(["2024-01-02"]), "dates"),
        (pd.to_timedelta([5], "D"), "dates"),
        (pd.to_datetime(["2024-01-02"]).tz_localize("Asia/Shanghai"), "dates"),
        ([1 + 2j, 3 + 0j], "not numeric"),
        ([f"secret{i}" for i in range(1025)], "more than 1024"),
    ],
)
def test_what_cannot_be_used(column, reason):
    with pytest.raises(errors.InputError, match=reason) as caught:
        coded(column)
    assert_helpful(caught.value, party="tax", secrets=["secret", "2024"])


def test_a_table_is_the_federation_s_own():
    mine = pd.DataFrame({1: [1, 2], "b": [3, 4]})
    table = to_pandas(mine, party="tax")
    assert list(table.columns) == ["1", "b"]
    del mine["b"]
    mine.loc[7] = 9
    assert table.equals(pd.DataFrame({"1": [1, 2], "b": [3, 4]}))
    assert list(to_pandas(np.zeros((2, 2)), party="tax").columns) == ["x0", "x1"]
    with pytest.raises(errors.InputError, match="two columns"):
        to_pandas(pd.DataFrame(np.zeros((2, 2)), columns=[1, "1"]), party="tax")


@pytest.mark.parametrize("table", [None, 3, {"a": [1]}, np.zeros(3), [[1, 2]]])
def test_what_is_no_table(table):
    with pytest.raises(errors.InputError, match="cannot be read") as caught:
        to_pandas(table, party="tax")
    assert_helpful(caught.value, party="tax")
