"""What an institution decrypts is the score that the platform's own model gives, row by row.

Points of a card exactly; log-odds and raw scores within the fixed point in which they travel. The
card is held, besides, to the parties' own tables of points added up by hand.
"""

import numpy as np
import pytest

from fedcredit.models.scoring.served import load_part
from fedcredit.protocols.scoring_messages import MODES
from tests.support.service import (
    CARD,
    NUMBERS,
    OWN,
    PLATFORM,
    TREES,
    WOE,
    Case,
    generous,
    own_values,
    world,
)

ROWS = 1_000
KINDS = (CARD, WOE, NUMBERS, TREES)
#: To fit everything again with other numbers of providers takes minutes.
COUNTS = pytest.mark.parametrize(
    "providers",
    [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 5))],
    scope="module",
)


@pytest.fixture(scope="module")
def case(providers):
    return Case(providers, KINDS, budgets=generous())


@pytest.fixture(scope="module")
def consents(case):
    """One consent of every enterprise for everything that is asked here, presented ahead."""
    codes = case.codes(ROWS)
    assert len(codes) == ROWS
    return case.bank.present(case.consents(codes, *KINDS, max_uses=20))


@pytest.fixture(scope="module")
def pooled(case):
    """Scores of every model from the platform's own estimators."""
    known = {}
    rows = case.world.frame.take(np.arange(ROWS))

    def scores(target):
        if target not in known:
            model = {
                CARD: lambda: case.world.card.points(rows).to_numpy(),
                WOE: lambda: case.world.woe.decision_function(rows),
                NUMBERS: lambda: case.world.numbers.decision_function(rows),
                TREES: lambda: case.world.trees.decision_function(rows),
            }[target]
            known[target] = model()
        return known[target]

    return scores


def tolerance(case, target):
    header = case.world.deploy(target)
    if target == CARD:
        return 0.0
    if target == TREES:
        desk = case.desks[PLATFORM]
        return load_part(desk.store, header, party=PLATFORM).tolerance + 1e-12
    # Every party rounds its own addend to a step of 2^-20.
    return len(header.parties) * 2.0**-21 + 1e-9


@COUNTS
@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_scores_are_those_of_the_pooled_model(case, consents, pooled, target, mode):
    batch = case.bank.score_batch(case.codes(ROWS), consents, model=target, mode=mode)
    assert batch.header.target == target
    assert set(batch.header.parties) <= set(case.parties)
    if target != TREES:
        assert set(batch.header.parties) == set(case.parties)
    want = pooled(target)
    assert len(np.unique(want)) > 20
    assert np.abs(batch.scores - want).max() <= tolerance(case, target)
    assert [result.subject for result in batch] == case.codes(ROWS)
    assert not any(result.no_record for result in batch)


@COUNTS
@pytest.mark.parametrize("mode", MODES)
def test_cards_add_up_by_hand_whoever_is_known_where(case, mode):
    """Enterprises that providers do not know are scored as missing values, and named."""
    world = case.world
    codes = [*case.codes(40), *world.strangers[:60]]
    batch = case.bank.score_batch(codes, case.consents(codes), model=CARD, mode=mode)
    np.testing.assert_array_equal(batch.scores, world.pooled_points(codes))
    for result in batch:
        unknown = {p for p in world.providers if result.subject not in world.rows[p]}
        assert set(result.no_record) == unknown
        assert result.band == {True: "quartz"}.get(
            result.score < 560, "basalt" if result.score < 600 else "garnet"
        )
    assert any(result.no_record for result in batch)


@pytest.mark.parametrize("mode", MODES)
def test_scores_with_features_of_the_institution(mode):
    case = Case(3, (OWN,), budgets=generous())
    codes = case.codes(ROWS)
    consents = case.consents(codes, OWN)
    batch = case.bank.score_batch(
        codes, consents, model=OWN, mode=mode, own=own_values(case, codes)
    )
    np.testing.assert_array_equal(batch.scores, world(3).pooled_points(codes))
