"""What a federated frame shows, and how its rows are chosen."""

import numpy as np
import pandas as pd
import pytest

from fedcredit import errors
from fedcredit.models.local import local_frame
from tests.support.parties import FEATURES, LABEL, OPEN, assert_helpful, federation, tables


@pytest.fixture(scope="module")
def pooled():
    return tables(n=60)[1]


@pytest.fixture(scope="module")
def frame():
    return federation(tables(n=60)[0]).align(on="id")


def test_rows_of_all_parties_are_the_same_enterprises(frame, pooled):
    by_id = pooled.set_index("id").loc[frame.ids]
    assert sorted(frame.ids) == sorted(pooled["id"])
    for name in ("age", "debt", LABEL):
        np.testing.assert_array_equal(frame.platform[name], by_id[name])


def test_columns_and_shape(frame):
    expected = [f"{party}.{name}" for party, names in FEATURES.items() for name in names]
    expected.insert(2, f"platform.{LABEL}")
    assert frame.columns == list(frame) == expected
    assert len(frame) == 60
    assert frame.shape == (60, 8)
    assert "tax.paid" in frame
    assert "age" in frame
    assert "paid" not in frame


def test_platform_columns_are_read_by_either_name(frame):
    column = frame["age"]
    assert isinstance(column, pd.Series)
    pd.testing.assert_series_equal(column, frame["platform.age"])
    pd.testing.assert_series_equal(column, frame.platform["age"])
    assert list(frame.platform.index) == list(range(60))
    assert "id" not in frame.platform


@pytest.mark.parametrize("name", ["tax.paid", "social.staff"])
def test_a_provider_s_values_are_refused(frame, name):
    with pytest.raises(errors.InputError, match="stay with their owner") as caught:
        frame[name]
    assert_helpful(caught.value)


@pytest.mark.parametrize("name", ["paid", "nothing", "id", "tax.nothing", ""])
def test_an_unknown_column_is_refused(frame, name):
    with pytest.raises(errors.InputError, match="there is no column") as caught:
        frame[name]
    assert "age, debt, bad, or frame.ids" in str(caught.value)
    assert_helpful(caught.value)


MASK = np.arange(60) % 7 == 3


@pytest.mark.parametrize(
    ("chosen", "positions"),
    [
        (slice(5, 9), [5, 6, 7, 8]),
        (slice(None, None, -1), list(range(59, -1, -1))),
        (slice(50, 10, -15), [50, 35, 20]),
        (slice(70, 90), []),
        ([3, 1, 2], [3, 1, 2]),
        ([-1, 0, 0], [59, 0, 0]),
        ([], []),
        (np.array([], np.int32), []),
        (np.array([4, 2], np.uint8), [4, 2]),
        (MASK, np.flatnonzero(MASK)),
        (list(MASK), np.flatnonzero(MASK)),
        (pd.Series(MASK), np.flatnonzero(MASK)),
        (([7, 8], ...), [7, 8]),
        ((slice(0, 2), slice(None)), [0, 1]),
    ],
)
def test_rows_are_chosen_as_in_numpy(frame, chosen, positions):
    part = frame[chosen]
    assert type(part) is type(frame)
    assert part.frame_id == frame.frame_id
    assert part.columns == frame.columns
    assert part.shape == (len(positions), 8)
    assert list(part.ids) == list(frame.ids.to_numpy()[np.asarray(positions, int)])
    np.testing.assert_array_equal(part["age"], frame["age"].to_numpy()[np.asarray(positions, int)])


def test_parts_of_parts(frame):
    assert list(frame[10:30][::2].take([1]).ids) == [frame.ids[12]]


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ([60], "outside"),
        ([-61], "outside"),
        ([True, False], "another length"),
        (np.ones((60, 1), bool), "another length"),
        ([0.0, 1.0], "neither integers nor bools"),
        (["tax.paid", "age"], "neither integers nor bools"),
        (np.zeros((2, 2), int), "neither integers nor bools"),
        (3, "neither integers nor bools"),
        (None, "neither integers nor bools"),
    ],
)
def test_rows_that_cannot_be_chosen(frame, chosen, reason):
    with pytest.raises(errors.InputError, match=reason) as caught:
        frame[chosen]
    assert_helpful(caught.value, secrets=frame.ids)


def test_splits_are_disjoint_complete_and_seeded(frame):
    train, test = frame.train_test_split(test_size=0.25, random_state=3)
    assert len(test) == 15
    assert sorted([*train.ids, *test.ids]) == sorted(frame.ids)
    again = frame.train_test_split(test_size=0.25, random_state=3)
    assert list(again[1].ids) == list(test.ids)
    other = frame.train_test_split(test_size=10, random_state=4)
    assert len(other[1]) == 10


@pytest.mark.parametrize("by", [LABEL, f"platform.{LABEL}", "values"])
def test_splits_keep_the_share_of_events(frame, by):
    strata = frame[LABEL] if by == "values" else by
    train, test = frame.train_test_split(test_size=0.5, stratify=strata, random_state=0)
    assert abs(train[LABEL].sum() - test[LABEL].sum()) <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"test_size": 1.5},
        {"test_size": 61},
        {"test_size": "half"},
        {"stratify": "debt"},
        {"stratify": np.zeros(3)},
        {"stratify": np.array(["70000007"] + ["x"] * 59)},
    ],
    ids=str,
)
def test_impossible_splits(frame, options):
    with pytest.raises(errors.InputError, match="cannot be split") as caught:
        frame.train_test_split(**options)
    assert_helpful(caught.value, secrets=[*frame.ids, "70000007"])


def test_splits_by_a_provider_s_column_are_refused(frame):
    with pytest.raises(errors.InputError, match="stay with their owner"):
        frame.train_test_split(stratify="tax.sector")


def test_the_match_report_counts_in_integers(frame):
    report = frame.match_report
    assert list(report.index) == ["platform", "tax", "social"]
    assert report.loc["tax", "match rate"] == 1.0
    for name in report.columns.drop("match rate"):
        assert report[name].dtype.kind == "i"
    cells = frame._repr_html_()
    assert "<td>60</td>" in cells
    assert "<td>100.0%</td>" in cells
    assert "60.0" not in cells


def test_no_data_is_shown(frame, pooled):
    shown = repr(frame) + str(frame) + frame._repr_html_() + repr(frame.federation)
    assert "FederatedFrame(60 rows, 8 columns of platform, tax, social)" in shown
    secrets = [*pooled["id"], *pooled["debt"], *pooled["paid"]]
    assert not [value for value in secrets if str(value) in shown]


@pytest.mark.parametrize("convert", [np.asarray, np.array, pd.DataFrame])
def test_a_frame_is_no_array(frame, convert):
    with pytest.raises(errors.InputError, match="no array") as caught:
        convert(frame)
    assert_helpful(caught.value)


def test_a_frame_of_one_party(pooled):
    frame = local_frame(pooled[["age", "debt"]].rename(columns={"debt": ""}))
    assert frame.columns == ["platform.age", "platform."]
    assert frame.match_report.empty
    assert "60 aligned rows" in frame._repr_html_()
    with pytest.raises(errors.InputError, match="no ids"):
        frame.ids


def test_an_alignment_is_opened_again_by_its_name():
    parts, _ = tables(n=60)
    fed = federation(parts)
    made = fed.align(on="id", name="pilot-1")
    opened = fed.frame("pilot-1")
    assert opened.columns == made.columns
    assert list(opened.ids) == list(made.ids)
    assert opened.match == made.match
    with pytest.raises(errors.InputError, match="of this name exists") as caught:
        fed.align(on="id", name="pilot-1")
    assert_helpful(caught.value)
    with pytest.raises(errors.InputError, match="no alignment") as caught:
        fed.frame("pilot-2")
    assert_helpful(caught.value, party="platform")


def test_hidden_names_are_numbers():
    parts, _ = tables(n=60)
    frame = federation(parts, policy={"tax": type(OPEN)(min_intersection=1), "social": OPEN}).align(
        on="id"
    )
    assert frame.columns[3:] == ["tax.f1", "tax.f2", "tax.f3", "social.staff", "social.arrears"]
    with pytest.raises(errors.InputError, match="stay with their owner"):
        frame["tax.f1"]
    with pytest.raises(errors.InputError, match="there is no column"):
        frame["tax.paid"]
