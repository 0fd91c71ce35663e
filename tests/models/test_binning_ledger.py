"""The ledger of a provider: passes are counted and near-equal row sets refused, for good."""

import itertools
import threading

import numpy as np
import pytest

from fedcredit.errors import BudgetError, PolicyError, StorageError
from fedcredit.models.binning_ledger import MAX_ROW_SETS, BinningLedger, isolates_rows
from fedcredit.models.store import MemoryStore
from tests.support.parties import assert_helpful

IDS = [f"Q{i:05d}" for i in range(500)]
ONE = {"f1": "paid"}


def ledger(store, *, max_passes=3, floor=10):
    return BinningLedger(store, max_passes=max_passes, floor=floor)


def test_a_column_is_counted_so_often_and_no_more():
    store = MemoryStore()
    for _ in range(3):
        ledger(store).charge({"f1": "paid", "f2": "staff"}, IDS, events=True)
    with pytest.raises(BudgetError, match="f1") as caught:
        ledger(store).charge({"f1": "paid", "f3": "new"}, IDS, events=True)
    assert_helpful(caught.value, secrets=["paid", *IDS])
    # A refused pass leaves nothing, not even for the other column.
    assert ledger(store).passes() == {"paid": 3, "staff": 3}
    ledger(store).charge({"f3": "new"}, IDS, events=True)
    ledger(store).charge(ONE, IDS, events=False)  # rows alone have no such limit
    assert ledger(store).passes()["paid"] == 3


def test_rows_are_known_whatever_the_order_and_the_rest_of_the_table():
    store = MemoryStore()
    ledger(store).charge(ONE, IDS[:100], events=False)
    ledger(store).charge({"f2": "staff"}, IDS[50:], events=False)
    with pytest.raises(PolicyError):
        ledger(store).charge(ONE, IDS[95::-1], events=False)
    ledger(store).charge(ONE, IDS[99::-1], events=False)


def test_a_set_below_the_floor_is_refused():
    with pytest.raises(PolicyError, match="fewer than 10") as caught:
        ledger(MemoryStore()).charge(ONE, IDS[:9], events=False)
    assert_helpful(caught.value, secrets=["paid", *IDS])
    ledger(MemoryStore()).charge(ONE, IDS[:10], events=False)


def test_sets_of_rows_are_limited():
    store = MemoryStore()
    for i in range(MAX_ROW_SETS):
        ledger(store, floor=1).charge(ONE, IDS[i:], events=False)
    with pytest.raises(BudgetError, match="sets of rows"):
        ledger(store, floor=1).charge(ONE, IDS[MAX_ROW_SETS:], events=False)
    ledger(store, floor=1).charge(ONE, IDS[3:], events=False)


def test_the_store_holds_no_id_and_the_hash_is_keyed():
    stores = [MemoryStore(), MemoryStore()]
    for store in stores:
        ledger(store).charge(ONE, IDS, events=True)
    entries = [[s.get("binning", key) for key in s.keys("binning")] for s in stores]
    assert all(i.encode() not in b"".join(entries[0]) for i in IDS)
    hashes = [s.get("binning", "rows") for s in stores]
    assert hashes[0] != hashes[1]


def test_a_lost_row_set_is_an_error():
    store = MemoryStore()
    ledger(store).charge(ONE, IDS, events=True)
    (name,) = (key for key in store.keys("binning") if key.startswith("rows-"))
    store.delete("binning", name)
    with pytest.raises(StorageError):
        ledger(store).charge(ONE, IDS[:50], events=True)


def test_two_sessions_at_a_time_cannot_both_take_the_last_pass():
    store = MemoryStore()
    refused = []

    def take():
        for _ in range(20):
            try:
                ledger(store, max_passes=25).charge(ONE, IDS, events=True)
            except BudgetError:
                refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger(store).passes() == {"paid": 25}
    assert len(refused) == 80 - 25


# --------------------------------------------------------------------- which rows are isolated


def isolates_by_trying(sets, floor):
    """Try all combinations with small whole coefficients."""
    for weights in itertools.product(range(-2, 3), repeat=len(sets)):
        support = np.count_nonzero(
            sum(w * s.astype(int) for w, s in zip(weights, sets, strict=True))
        )
        if 0 < support < floor:
            return True
    return False


def test_agrees_with_trying_all_small_combinations():
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(300):
        # Few cells, some of them small.
        sizes = rng.choice([0, 1, 3, 12, 30], 8, p=[0.25, 0.1, 0.1, 0.25, 0.3])
        cells = np.array(list(itertools.product([False, True], repeat=3)))
        sets = list(np.repeat(cells, sizes, axis=0).T)
        found = isolates_rows(sets, 10) if sets[0].size else False
        tried = isolates_by_trying(sets, 10)
        assert found or not tried  # never allows what singles rows out
        verdicts.append((found, tried))
    assert {(True, True), (False, False)} <= set(verdicts)
    assert sum(found != tried for found, tried in verdicts) < 15


@pytest.mark.parametrize(
    ("sets", "isolates"),
    [
        ([range(100)], False),
        ([range(9)], True),
        ([range(100), range(1, 100)], True),
        ([range(100), range(10, 100)], False),
        ([range(100), range(1, 101)], True),
        ([range(100), range(100, 200)], False),
        # A small overlap of large sets cancels in no combination.
        ([range(100), range(97, 200)], False),
        ([range(100), range(50), range(50, 99)], True),
        ([range(100), range(50), range(50, 90)], False),
    ],
)
def test_which_combinations_single_rows_out(sets, isolates):
    bits = [np.isin(np.arange(200), part) for part in sets]
    assert isolates_rows(bits, 10) is isolates
