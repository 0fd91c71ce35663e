"""The account of revealed predictors: what is charged, what is free, what survives a crash."""

import numpy as np
import pytest

from fedcredit import errors
from fedcredit.models.reveal_ledger import RevealLedger
from fedcredit.models.store import MemoryStore
from fedcredit.node.storage import DirectoryStore
from tests.support.parties import assert_helpful


def rows(*numbers):
    return np.array(numbers, np.int64)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def ledger(store):
    return RevealLedger(store, 3, party="tax")


def test_every_reveal_of_a_row_counts(ledger):
    assert ledger.left(rows(0, 5)) == 3
    assert ledger.charge(rows(0, 5)) == 2
    assert ledger.charge(rows(5, 9)) == 2
    assert [ledger.left(rows(i)) for i in (0, 5, 9, 1, 1000)] == [2, 1, 2, 3, 3]
    assert ledger.left(rows(0, 5, 9)) == 1


def test_beyond_the_limit_nothing_is_counted(ledger):
    for _ in range(3):
        ledger.charge(rows(4, 6))
    with pytest.raises(
        errors.BudgetError, match="0 of 3 reveals are left for 1 of the 2"
    ) as caught:
        ledger.charge(rows(2, 6))
    assert_helpful(caught.value, party="tax")
    assert ledger.left(rows(2)) == 3


def test_a_models_rows_are_charged_once(ledger):
    assert ledger.charge(rows(1, 2), model_id="a", digest="x") == 2
    assert ledger.charge(rows(2, 3), model_id="a", digest="x") == 1
    assert ledger.charge(rows(1, 2, 3), model_id="a", digest="x") == 0
    assert ledger.left(rows(1, 2, 3)) == 2
    assert ledger.charge(rows(1, 2, 3), model_id="b", digest="x") == 3
    assert ledger.left(rows(1, 2, 3)) == 1


def test_free_rows_stay_free_when_the_budget_is_spent(ledger):
    ledger.charge(rows(1), model_id="a", digest="x")
    ledger.charge(rows(1))
    ledger.charge(rows(1))
    assert ledger.left(rows(1)) == 0
    assert ledger.charge(rows(1), model_id="a", digest="x") == 0
    with pytest.raises(errors.BudgetError):
        ledger.charge(rows(1, 2), model_id="b", digest="x")


def test_other_coefficients_under_the_same_name_are_charged(ledger):
    ledger.charge(rows(1), model_id="a", digest="x")
    assert ledger.charge(rows(1), model_id="a", digest="y") == 1
    assert ledger.left(rows(1)) == 1


def test_a_crash_between_the_two_entries_costs_a_reveal_and_hides_none(store, ledger):
    class Full(Exception):
        pass

    def put(kind, key, data):
        if key.startswith("model."):
            raise Full
        MemoryStore.put(store, kind, key, data)

    store.put = put
    with pytest.raises(Full):
        ledger.charge(rows(1), model_id="a", digest="x")
    del store.put
    assert ledger.left(rows(1)) == 2
    assert ledger.charge(rows(1), model_id="a", digest="x") == 1


def test_a_failing_store_refuses_the_reveal(store, ledger):
    def put(kind, key, data):
        raise errors.StorageError("the disk is full.")

    store.put = put
    with pytest.raises(errors.StorageError):
        ledger.charge(rows(1))
    assert ledger.left(rows(1)) == 3


def test_it_outlives_the_process(tmp_path):
    def again():
        return RevealLedger(DirectoryStore(tmp_path, party="tax"), 2, party="tax")

    again().charge(rows(0, 70_000), model_id="a", digest="x")
    assert again().left(rows(70_000)) == 1
    assert again().charge(rows(0, 70_000), model_id="a", digest="x") == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000


def test_a_raised_limit_gives_new_reveals(store, ledger):
    for _ in range(3):
        ledger.charge(rows(1))
    assert RevealLedger(store, 5, party="tax").left(rows(1)) == 2
    assert RevealLedger(store, 2, party="tax").left(rows(1)) == 0


def test_a_limit_of_zero_shows_nothing(store):
    with pytest.raises(errors.BudgetError):
        RevealLedger(store, 0, party="tax").charge(rows(1))


def test_counts_do_not_wrap_around(store):
    ledger = RevealLedger(store, 10**9, party="tax")
    assert ledger.left(rows(0)) == 2**16 - 1


def test_nothing_private_is_printed(ledger):
    ledger.charge(rows(123456))
    assert "123456" not in repr(ledger)
