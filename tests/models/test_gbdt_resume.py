"""Interrupted fits: resumed by the caller, or by a backend that opens the session anew."""

import numpy as np
import pytest

from fedcredit import errors
from fedcredit.models.backend import InProcessBackend
from fedcredit.wire import Transcript
from tests.support.parties import (
    FEATURES,
    LABEL,
    assert_helpful,
    classifier,
    federation,
    same_trees,
    tables,
)


class Cut(Transcript):
    """A transcript after whose last allowed message the line is dead."""

    def __init__(self, messages):
        super().__init__()
        self.left = messages

    def record(self, *args):
        if self.left == 0:
            raise errors.PeerUnavailable(
                "the provider cannot be reached.", party="tax", fix="start it again"
            )
        self.left -= 1
        super().record(*args)


class Unreliable(InProcessBackend):
    """Carries so many messages of each coming session (``cuts``), then the line is dead.

    With ``retries`` it opens the session anew by itself, as a backend of real nodes does.
    ``messages`` counts those of the last session.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.cuts, self.retries, self.messages = [], 0, 0

    def run(self, role, *, providers=None, job, transcript):
        while True:
            line = Cut(self.cuts.pop(0)) if self.cuts else Transcript()
            try:
                return super().run(role, providers=providers, job=job, transcript=line)
            except errors.PeerUnavailable:
                if not self.retries:
                    raise
                self.retries -= 1
            finally:
                transcript.merge(line.counts)
                self.messages = sum(count.messages for count in line.counts.values())


@pytest.fixture(scope="module")
def parts():
    return tables()[0]


@pytest.fixture(scope="module")
def frame(parts):
    fed = federation(parts)
    fed.backend = Unreliable("platform", fed.engines)
    return fed.align(on="id")


def forest(**options):
    return classifier(**({"n_estimators": 4, "hide_membership": False, "subsample": 0.8} | options))


@pytest.fixture(scope="module")
def whole(frame):
    """The model of an undisturbed fit, and how many messages it took."""
    model = forest().fit(frame, y=LABEL)
    return model, frame.federation.backend.messages


def interrupt(model, frame, after, **options):
    frame.federation.backend.cuts = [after]
    with pytest.raises(errors.PeerUnavailable) as caught:
        model.fit(frame, y=LABEL, **options)
    assert caught.value.step == "train"
    assert_helpful(caught.value, party="tax")
    return model


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 0.8, 0.99])
def test_a_resumed_fit_gives_the_same_model(frame, whole, share):
    model, messages = whole
    broken = interrupt(forest(), frame, int(share * messages))
    resumed = forest().fit(frame, y=LABEL, resume=broken.model_id_)
    assert resumed.model_id_ == broken.model_id_
    assert resumed.fingerprint() == model.fingerprint()
    np.testing.assert_array_equal(resumed.predict_proba(frame), model.predict_proba(frame))
    np.testing.assert_array_equal(resumed.state_.score, model.state_.score)


def test_only_the_missing_trees_are_grown(frame, whole):
    messages = whole[1]
    broken = interrupt(forest(), frame, int(0.8 * messages))
    resumed = forest().fit(frame, y=LABEL, resume=broken.model_id_)
    assert frame.federation.backend.messages < 0.6 * messages
    assert [cost.index for cost in resumed.tree_costs_][-1] == 3
    assert resumed.tree_costs_[0].index > 0


def test_a_fit_interrupted_twice(frame, whole):
    model, messages = whole
    broken = interrupt(forest(), frame, messages // 2)
    again = interrupt(forest(), frame, messages // 4, resume=broken.model_id_)
    resumed = forest().fit(frame, y=LABEL, resume=again.model_id_)
    assert resumed.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("options", [{"hide_membership": True}, {"precision": "exact"}], ids=str)
def test_other_modes(frame, options):
    model = forest(**options).fit(frame, y=LABEL)
    broken = interrupt(forest(**options), frame, frame.federation.backend.messages // 2)
    resumed = forest(**options).fit(frame, y=LABEL, resume=broken.model_id_)
    assert same_trees(resumed, model)


@pytest.mark.parametrize("state", [None, "generator"])
def test_a_drawn_seed_is_resumed(frame, state):
    """Rows and features of every tree, and the held-out rows, are drawn again alike."""
    options = {
        "random_state": None if state is None else np.random.RandomState(5),
        "colsample_bytree": 0.7,
        "early_stopping_rounds": 4,
    }
    broken = interrupt(forest(**options), frame, 60)
    other = forest(**options).fit(frame, y=LABEL)
    resumed = forest(**options).fit(frame, y=LABEL, resume=broken.model_id_)
    assert resumed.params_.seed != other.params_.seed
    # An undisturbed fit for which the same seed is drawn.
    straight = forest(**options | {"random_state": _Drawn(resumed.params_.seed)})
    assert same_trees(straight.fit(frame, y=LABEL), resumed)


class _Drawn(np.random.RandomState):
    """A generator whose next draw is known."""

    def __init__(self, value):
        super().__init__(0)
        self.value = value

    def randint(self, *_):
        return self.value


def test_early_stopping_goes_on(frame):
    options = {"n_estimators": 12, "learning_rate": 0.9, "early_stopping_rounds": 2}
    model = forest(**options).fit(frame, y=LABEL)
    broken = interrupt(forest(**options), frame, frame.federation.backend.messages // 2)
    resumed = forest(**options).fit(frame, y=LABEL, resume=broken.model_id_)
    assert resumed.fingerprint() == model.fingerprint()
    assert resumed.state_.valid_loss == model.state_.valid_loss


@pytest.mark.parametrize("shares", [[0.05], [0.7], [0.5, 0.0, 0.3]], ids=str)
def test_a_backend_that_retries(frame, whole, shares):
    """The role is made anew for every attempt and goes on from the checkpoint."""
    model, messages = whole
    backend = frame.federation.backend
    backend.cuts, backend.retries = [int(share * messages) for share in shares], len(shares)
    retried = forest().fit(frame, y=LABEL)
    assert not backend.cuts
    assert retried.fingerprint() == model.fingerprint()
    assert [cost.index for cost in retried.tree_costs_] == [0, 1, 2, 3]
    if shares[0] > 0.5:
        assert backend.messages < messages


class TestWhatCannotBeResumed:
    """Another job, or no job at all."""

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, frame, whole):
        return interrupt(forest(), frame, whole[1] // 2)

    def refused(self, model, frame, match, resume, y=LABEL, **options):
        with pytest.raises(errors.InputError, match=match) as caught:
            model.fit(frame, y=y, resume=resume, **options)
        assert caught.value.step == "train: resume"
        assert_helpful(caught.value)

    @pytest.mark.parametrize(
        "options",
        [
            {"n_estimators": 5},
            {"learning_rate": 0.2},
            {"max_depth": 3},
            {"max_bins": 16},
            {"random_state": 1},
            {"min_child_samples": 6},
            {"hide_membership": True},
            {"precision": "exact"},
            {"features": ["tax.paid"]},
            {"features": [f"platform.{name}" for name in FEATURES["platform"]]},
            {"monotone_constraints": {"tax.paid": 1}},
            {"categorical_features": ["age"]},
            {"early_stopping_rounds": 5},
        ],
        ids=str,
    )
    def test_other_arguments(self, frame, broken, options):
        match = "other rows, labels or parameters"
        self.refused(forest(**options), frame, match, broken.model_id_)

    def test_other_rows_labels_or_weights(self, frame, broken):
        match = "other rows, labels or parameters"
        self.refused(forest(), frame[:200], match, broken.model_id_)
        self.refused(forest(), frame, match, broken.model_id_, y=1 - frame[LABEL])
        weight = np.ones(len(frame))
        self.refused(forest(), frame, match, broken.model_id_, sample_weight=weight)
        again = frame.federation.align(on="id")
        self.refused(forest(), again, match, broken.model_id_)

    def test_the_fit_can_still_be_resumed(self, frame, whole, broken):
        resumed = forest().fit(frame, y=LABEL, resume=broken.model_id_)
        assert resumed.fingerprint() == whole[0].fingerprint()
        self.refused(forest(), frame, "no interrupted fit", broken.model_id_)

    def test_unknown_and_finished_fits(self, frame, whole):
        self.refused(forest(), frame, "no interrupted fit", "0123456789abcdef")
        self.refused(forest(), frame, "no interrupted fit", whole[0].model_id_)
        X = np.random.default_rng(0).normal(size=(50, 2))
        self.refused(classifier(), X, "no interrupted fit", "0123456789abcdef", y=X[:, 0] > 0)


def test_an_interrupted_fit_is_not_fitted(frame, whole):
    model = forest().fit(frame, y=LABEL)
    interrupt(model, frame, whole[1] // 2)
    with pytest.raises(ValueError, match="not fitted"):
        model.predict(frame)
    model.fit(frame, y=LABEL, resume=model.model_id_)
    assert model.fingerprint() == whole[0].fingerprint()


def test_a_provider_that_lost_its_share_trains_anew(frame, whole):
    model, messages = whole
    broken = interrupt(forest(), frame, messages // 2)
    frame.federation.engines["tax"].store.delete("model", broken.model_id_)
    resumed = forest().fit(frame, y=LABEL, resume=broken.model_id_)
    assert resumed.fingerprint() == model.fingerprint()
