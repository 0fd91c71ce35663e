"""A scorecard at rest, and as a scikit-learn estimator."""

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import fedcredit as fc
from fedcredit import errors
from fedcredit.models.load import load_model, scores_of
from tests.support.parties import LABEL, assert_helpful
from tests.support.scorecards import aligned, pooled_table, scorecard


@pytest.fixture(scope="module")
def frame():
    return aligned()


@pytest.fixture(scope="module")
def card(frame):
    return scorecard().fit(frame, LABEL)


# ------------------------------------------------------------------------------ at rest


def test_a_saved_card_scores_alike(card, frame, tmp_path):
    path = tmp_path / "card"
    card.save(path)
    loaded = fc.VerticalScorecard.load(path)
    assert loaded.fingerprint() == card.fingerprint()
    assert loaded.get_params() == card.get_params() | {"keep": []}
    some = frame.take(np.arange(50))
    np.testing.assert_array_equal(loaded.points(some), card.points(some))
    pd.testing.assert_frame_equal(loaded.table(), card.table())
    pd.testing.assert_frame_equal(loaded.selection_, card.selection_)
    assert str(loaded.summary()) == str(card.summary())


def test_the_platform_keeps_the_card_under_its_name(card, frame):
    federation = frame.federation
    model = load_model(federation.store.get("model", card.model_id_), federation)
    assert isinstance(model, fc.VerticalScorecard)
    some = frame.take(np.arange(20))
    np.testing.assert_array_equal(scores_of(model, some), card.predict_proba(some)[:, 1])


def test_a_calibration_is_saved(card, frame):
    calibrated = copy.deepcopy(card).calibrate(frame, LABEL)
    loaded = fc.VerticalScorecard.load(calibrated.to_bytes())
    np.testing.assert_array_equal(loaded.pd(frame), calibrated.pd(frame))
    assert loaded.fingerprint() == card.fingerprint()


@pytest.mark.parametrize("damage", [b"", b"no card at all", None])
def test_another_file_is_refused(card, damage):
    data = card.binner_.to_bytes() if damage is None else damage
    with pytest.raises(errors.InputError) as caught:
        fc.VerticalScorecard.load(data)
    assert_helpful(caught.value)


def test_an_unwritable_file(card, tmp_path):
    for call in (card.save, fc.VerticalScorecard.load):
        with pytest.raises(errors.StorageError) as caught:
            call(tmp_path / "nowhere" / "card")
        assert_helpful(caught.value)


# ---------------------------------------------------------------------- the estimator


@parametrize_with_checks(
    [
        scorecard(
            binner={"method": "none", "max_bins": 4, "min_bin_share": 0.0},
            sign_constraints=None,
            C=1.0,
        )
    ],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": "bins are counted without weights"
    },
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore:.*feature names:UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_parameters_survive_get_set_and_clone():
    card = fc.VerticalScorecard(
        binner=fc.VerticalBinner(max_bins=5), selector=fc.FeatureSelector(min_iv=0.1), keep=["x"]
    )
    twin = clone(card).set_params(binner__max_bins=3, selector__max_vif=None)
    assert twin.binner.max_bins == 3
    assert twin.selector.max_vif is None
    assert (card.binner.max_bins, card.selector.max_vif) == (5, 10.0)
    assert twin.keep == ["x"]


def test_an_unfitted_card_says_so(frame):
    for call in (lambda c: c.points(frame), lambda c: c.table(), lambda c: c.to_bytes()):
        with pytest.raises(NotFittedError):
            call(fc.VerticalScorecard())


@pytest.mark.parametrize(
    "options",
    [
        {"pdo": 0},
        {"base_odds": -1},
        {"binner": 7},
        {"selector": 7},
        {"selector": {"min_iv": -1}},
        {"sign_constraints": "yes"},
        {"features": ["platform.unknown"]},
        {"keep": ["platform.unknown"]},
    ],
)
def test_unusable_arguments_are_refused(frame, options):
    table, y = pooled_table(frame)
    with pytest.raises(errors.InputError) as caught:
        scorecard(**options).fit(table, y)
    assert_helpful(caught.value)


def test_a_table_of_one_party_cannot_be_scored_for_several(card, frame):
    with pytest.raises(errors.InputError, match="other parties") as caught:
        card.points(pooled_table(frame)[0])
    assert_helpful(caught.value)


def test_figures_and_summary(card, frame):
    for name in ("iv", "points", "tax.paid"):
        assert card.plot(name).axes
    for name in ("scores", "odds", "cutoffs"):
        assert card.plot(name, frame, LABEL).axes
        with pytest.raises(errors.InputError) as caught:
            card.plot(name)
        assert_helpful(caught.value)
    with pytest.raises(errors.InputError):
        card.plot("unknown")
    text = str(card.summary())
    assert all(name in text for name in card.features_)
    assert "<table" in card.summary()._repr_html_()
