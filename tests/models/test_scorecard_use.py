"""What a scorecard is used for: reasons, bands, cut-offs, calibration."""

import copy

import numpy as np
import pandas as pd
import pytest

from fedcredit import errors
from fedcredit.models.scorecard_share import row_points
from tests.support.parties import LABEL, assert_helpful, federation
from tests.support.scorecards import N, aligned, made_up, policy, row_woe, scorecard


@pytest.fixture(scope="module")
def frame():
    return aligned()


@pytest.fixture(scope="module")
def card(frame):
    return scorecard().fit(frame, LABEL)


# ------------------------------------------------------------------------------ reasons


def expected_reasons(card, frame, n, neutral="max"):
    """Losses of every row and characteristic, from the tables of all parties."""
    losses, names = [], []
    for c in card.share_.characteristics:
        share = card.share_
        woe = row_woe(card, frame, c)
        points = row_points(woe, [c.coef], share.scale, base=share.spread, rounding=True)
        filled = c.points[c.count > 0]
        level = filled.max() if neutral == "max" else c.points @ c.count / c.count.sum()
        losses.append(np.rint(level - points.ravel()))
        names.append(c.name)
    losses = np.array(losses).T
    order = np.argsort(-losses, axis=1, kind="stable")[:, :n]
    return [
        [(names[k], int(row[k])) for k in picked if row[k] >= 1]
        for row, picked in zip(losses, order, strict=True)
    ]


def listed(reasons):
    n = len(reasons.columns) // 2
    return [
        [
            (line[f"reason_{k}"], line[f"lost_{k}"])
            for k in range(1, n + 1)
            if not pd.isna(line[f"reason_{k}"])
        ]
        for _, line in reasons.iterrows()
    ]


@pytest.mark.parametrize("neutral", ["max", "mean"])
def test_reasons_are_the_largest_losses_of_all_parties(card, frame, neutral):
    some = frame.take(np.arange(40, 100))
    reasons = card.reason_codes(some, 3, neutral=neutral)
    assert list(reasons.columns) == [f"{w}_{k}" for k in (1, 2, 3) for w in ("reason", "lost")]
    assert listed(reasons) == expected_reasons(card, some, 3, neutral)


def test_reasons_at_the_grain_of_each_party():
    grain = {
        "tax": policy(reason_grain="party"),
        "social": policy(reason_grain="group", feature_groups={"staff": "size"}),
    }
    frame = federation(made_up()[0], policy=grain).align(on="id")
    card = scorecard().fit(frame, LABEL)
    some = frame.take(np.arange(30))
    full = [dict(row) for row in expected_reasons(card, some, 99)]
    for found, losses in zip(listed(card.reason_codes(some, 10)), full, strict=True):
        for name, lost in found:
            members = {
                "tax": [n for n in losses if n.startswith("tax.")],
                "social.size": ["social.staff"],
                "social.other": ["social.arrears"],
            }.get(name, [name])
            assert lost == sum(losses.get(m, 0) for m in members)
        names = {name for name, _ in found}
        assert names <= {"tax", "social.size", "social.other", "platform.age", "platform.debt"}


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 11}, {"neutral": "median"}])
def test_unusable_reasons_are_refused(card, frame, options):
    with pytest.raises(errors.InputError) as caught:
        card.reason_codes(frame.take([0, 1]), **options)
    assert_helpful(caught.value)


def test_reasons_are_for_few_rows(card, frame):
    with pytest.raises(errors.InputError, match="at a time") as caught:
        card.reason_codes(frame)
    assert_helpful(caught.value)


# ------------------------------------------------------------------- tables on outcomes


def test_bands_cutoffs_and_odds(card, frame):
    bands = card.bands(frame, LABEL, edges=[560, 580, 600])
    assert bands["below"].tolist() == [560, 580, 600, np.inf]
    assert bands["count"].sum() == N
    assert bands["events"].sum() == frame[LABEL].sum()
    cutoffs = card.cutoff_table(frame, LABEL, [500, 560, 600])
    assert cutoffs.index.tolist() == [500, 560, 600]
    assert cutoffs["approved"].is_monotonic_decreasing
    points = card.points(frame)
    assert cutoffs.loc[560, "approved"] == (points >= 560).sum()
    odds = card.score_to_odds_check(frame, LABEL, n=4)
    assert odds["events"].sum() == frame[LABEL].sum()
    # On its training rows a regression's expected events are those that occurred.
    assert odds["implied events"].sum() == pytest.approx(odds["events"].sum(), rel=0.02)
    assert odds["z"].abs().max() < 4


def test_calibration_changes_probabilities_and_nothing_else(card, frame):
    calibrated = copy.deepcopy(card)
    before = card.pd(frame)
    np.testing.assert_allclose(before, card.predict_proba(frame)[:, 1])
    half = np.zeros(N, bool)
    half[frame[LABEL].to_numpy() == 0] = np.arange((frame[LABEL] == 0).sum()) % 2 == 0
    fewer = frame.take(half | (frame[LABEL].to_numpy() == 1))
    for method in ("platt", "isotonic"):
        assert calibrated.calibrate(fewer, LABEL, method=method) is calibrated
        after = calibrated.pd(fewer)
        assert after.mean() == pytest.approx(fewer[LABEL].mean(), abs=0.01)
        np.testing.assert_array_equal(calibrated.points(frame), card.points(frame))
    with pytest.raises(errors.InputError) as caught:
        card.calibrate(frame, LABEL, method="beta")
    assert_helpful(caught.value)


def test_unknown_outcomes_are_refused(card, frame):
    for y in (np.full(N, 2), np.full(N, np.nan), np.zeros(3)):
        with pytest.raises(errors.InputError) as caught:
            card.bands(frame, y)
        assert_helpful(caught.value)
