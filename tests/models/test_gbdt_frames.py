"""Tree models of several parties: labels, weights, columns and rows of every kind."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score

from fedcredit import errors
from tests.support.parties import (
    FEATURES,
    LABEL,
    OPEN,
    assert_helpful,
    classifier,
    federation,
    quick,
    regressor,
    same_trees,
    tables_with_target,
)

ORDER = [f"{party}.{name}" for party, names in FEATURES.items() for name in names]


@pytest.fixture(scope="module")
def parties():
    return tables_with_target()


@pytest.fixture(scope="module")
def frame(parties):
    """All rows, in the platform's own order, in which random numbers are drawn."""
    aligned = federation(parties[0]).align(on="id")
    return aligned.take(np.argsort(aligned.own_rows))


@pytest.fixture(scope="module")
def alone(parties):
    """The platform's rows without any provider."""
    return federation({"platform": parties[0]["platform"]}).align(on="id")


@pytest.fixture(scope="module")
def merged(parties, frame):
    """What one party would hold if it had all columns, in the frame's order."""
    return parties[1].set_index("id").loc[frame.ids].reset_index(drop=True)


OPEN_MODE = {"hide_membership": False, "features": ORDER}


@pytest.fixture(scope="module")
def model(frame):
    return classifier(**OPEN_MODE).fit(frame, y=LABEL)


class TestTheJointModelIsThePooledModel:
    """On equal bins the trees do not depend on who holds which column."""

    @pytest.mark.parametrize("precision", ["packed", "exact"])
    @pytest.mark.parametrize("hide", [True, False])
    def test_classifier(self, frame, merged, precision, hide):
        settings = {"precision": precision, "hide_membership": hide}
        joint = classifier(features=ORDER, **settings).fit(frame, y=LABEL)
        table = merged[[name.split(".")[1] for name in ORDER]]
        pooled = classifier(**settings).fit(table, merged[LABEL])
        assert same_trees(joint, pooled)
        np.testing.assert_allclose(
            joint.predict_proba(frame), pooled.predict_proba(table), rtol=0, atol=1e-12
        )
        assert joint._serves("tax")

    def test_regressor_with_weights(self, frame, merged):
        joint = regressor(**OPEN_MODE).fit(frame, y="amount", sample_weight="weight")
        table = merged[[name.split(".")[1] for name in ORDER]]
        pooled = regressor().fit(table, merged["amount"], sample_weight=merged["weight"])
        assert same_trees(joint, pooled)
        np.testing.assert_allclose(joint.predict(frame), pooled.predict(table), rtol=0, atol=1e-12)

    def test_monotone_and_sampled(self, frame, merged):
        settings = {"subsample": 0.7, "colsample_bytree": 0.8, "max_depth": 3}
        signs = {"tax.paid": -1, "debt": 1}
        joint = classifier(monotone_constraints=signs, **OPEN_MODE, **settings)
        joint.fit(frame, y=LABEL)
        table = merged[[name.split(".")[1] for name in ORDER]]
        pooled = classifier(monotone_constraints={"paid": -1, "debt": 1}, **settings)
        assert same_trees(joint, pooled.fit(table, merged[LABEL]))


def test_another_alignment_gives_the_same_model(frame, model):
    again = frame.federation.align(on="id")
    assert not np.array_equal(again.own_rows, frame.own_rows)
    hidden = classifier(features=ORDER).fit(again, y=LABEL)
    assert hidden.fingerprint() == model.fingerprint()
    parts = [
        f.train_test_split(test_size=0.3, stratify=LABEL, random_state=0) for f in (frame, again)
    ]
    for one, other in zip(*parts, strict=True):
        assert set(one.ids) == set(other.ids)


def test_no_child_has_fewer_rows_than_the_floor(frame):
    settings = OPEN_MODE | {"max_depth": 4, "n_estimators": 4, "min_child_samples": 1}
    free = classifier(**settings).fit(frame, y=LABEL)
    held = classifier(**settings, min_child_rows=25).fit(frame, y=LABEL)
    least = [min(t.count.min() for t in m.state_.trees) for m in (free, held)]
    assert least[0] < 25 <= least[1]
    assert held.state_.undone
    assert (
        held.predict_proba(frame)[:, 1].round(9).tolist()
        == expit(held.state_.score)[np.argsort(np.argsort(frame.rows))].round(9).tolist()
    )


def test_the_same_seed_gives_the_same_model(frame, model):
    again = classifier(**OPEN_MODE).fit(frame, y=LABEL)
    assert again.fingerprint() == model.fingerprint()
    assert again.model_id_ != model.model_id_
    other = classifier(**OPEN_MODE | {"random_state": 1, "subsample": 0.5}).fit(frame, y=LABEL)
    assert other.fingerprint() != model.fingerprint()


class TestLabels:
    """Given by name or as an array, and what cannot be one."""

    def test_name_array_and_prefixed_name_are_alike(self, alone):
        values = alone[LABEL]
        model = classifier().fit(alone, y=LABEL)
        assert model.feature_labels_ == [
            f"platform.{n}" for n in ("age", "debt", "amount", "weight")
        ]
        for y in (f"platform.{LABEL}", values, values.to_numpy(), values.tolist()):
            other = classifier().fit(alone, y=y)
            assert other.feature_labels_ == model.feature_labels_
            assert other.n_features_in_ == 4
            assert same_trees(other, model)

    @pytest.mark.parametrize("coded", [("good", "bad"), (False, True), (1, 2), (0.0, 1.0)])
    def test_any_two_values(self, frame, coded):
        y = np.array(coded)[frame[LABEL]]
        model = quick().fit(frame, y=y)
        assert set(model.predict(frame)) <= set(coded)
        assert model.classes_.tolist() == sorted(coded)
        assert model.score(frame, y) == accuracy_score(y, model.predict(frame))

    @pytest.mark.parametrize("dtype", ["Int8", "boolean", "category", "string", "float32"])
    def test_any_type_of_column(self, parties, dtype):
        part = parties[0]["platform"]
        values = part[LABEL].astype(bool if dtype == "boolean" else int).astype(dtype)
        frame = federation({"platform": part.assign(bad=values)}).align(on="id")
        assert quick().fit(frame, y=LABEL).score(frame, y=LABEL) > 0.5

    @pytest.mark.parametrize("dtype", ["float64", "Int8", "boolean", "string", "category"])
    def test_missing_labels(self, parties, dtype):
        part = parties[0]["platform"]
        values = part[LABEL].astype(bool if dtype == "boolean" else int).astype(dtype)
        values = values.mask(np.arange(len(values)) == 5)
        frame = federation({"platform": part.assign(bad=values)}).align(on="id")
        with pytest.raises(errors.InputError, match="label has missing values") as caught:
            quick().fit(frame, y=LABEL)
        assert_helpful(caught.value)

    def refused(self, model, frame, y, match, **options):
        with pytest.raises(errors.InputError, match=match) as caught:
            model.fit(frame, y=y, **options)
        assert_helpful(caught.value, secrets=[*frame.ids, "7.654321"])

    def test_labels_that_are_not_binary(self, frame):
        y = np.arange(len(frame)) % 3
        self.refused(quick(), frame, y, "Only binary classification is supported")
        self.refused(quick(), frame, y + 0.654321, "Unknown label type: continuous")
        self.refused(quick(), frame, np.zeros(len(frame)), "only one class")
        mixed = np.array(["a", 7.654321] * (len(frame) // 2), object)
        self.refused(quick(), frame, mixed, "Unknown label type")

    @pytest.mark.parametrize(
        ("y", "match"),
        [
            ("nothing", "no column 'nothing'"),
            ("tax.paid", "stay with their owner"),
            (None, "y has shape"),
            ([0, 1], "y has shape"),
            (np.zeros((240, 1)), "y has shape"),
        ],
    )
    def test_labels_that_do_not_fit(self, frame, y, match):
        self.refused(quick(), frame, y, match)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, "7.654321 yuan"])
    def test_targets_that_are_no_numbers(self, frame, bad):
        y = frame["amount"].astype(object).to_numpy().copy()
        y[3] = bad
        self.refused(regressor(features=["age"]), frame, y, "target")

    def test_a_model_scores_by_name(self, frame, model):
        p = model.predict(frame)
        assert model.score(frame, y=LABEL) == accuracy_score(frame[LABEL], p)
        weighted = accuracy_score(frame[LABEL], p, sample_weight=frame["weight"])
        assert model.score(frame, y=LABEL, sample_weight="weight") == weighted
        assert model.score(frame, y=LABEL, sample_weight=frame["weight"]) == weighted
        amount = regressor(features=["age", "debt"]).fit(frame, y="amount")
        assert amount.score(frame, "amount") == r2_score(frame["amount"], amount.predict(frame))


class TestWeights:
    """A column of the platform or an array."""

    def test_name_and_array_are_alike(self, frame, alone):
        named = quick(features=None).fit(alone, y=LABEL, sample_weight="platform.weight")
        assert "platform.weight" not in named.feature_labels_
        assert named.n_features_in_ == len(alone.columns) - 2
        by_array = quick().fit(frame, y=LABEL, sample_weight=frame["weight"])
        by_name = quick().fit(frame, y=LABEL, sample_weight="weight")
        assert same_trees(by_array, by_name)
        assert not same_trees(by_array, quick().fit(frame, y=LABEL))

    @pytest.mark.parametrize(
        ("weight", "match"),
        [
            (np.zeros(240), "sample_weight of the training rows is zero"),
            (np.where(np.arange(240) == 3, -1.0, 1.0), "negative"),
            (np.where(np.arange(240) == 3, np.nan, 1.0), "missing"),
            (np.where(np.arange(240) == 3, np.inf, 1.0), "infinite"),
            (np.full(240, "much"), "not numeric"),
            (np.ones(3), "sample_weight has shape"),
            ("tax.paid", "stay with their owner"),
        ],
    )
    def test_weights_that_cannot_be_used(self, frame, weight, match):
        with pytest.raises(errors.InputError, match=match) as caught:
            quick().fit(frame, y=LABEL, sample_weight=weight)
        assert_helpful(caught.value)

    def test_validation_rows_without_weight(self, frame):
        weight = np.ones(len(frame))
        model = quick(early_stopping_rounds=1, validation_fraction=0.25)
        rows = model.fit(frame, y=LABEL).train_rows_
        weight[np.isin(frame.rows, rows.frame.rows[~rows.is_train])] = 0.0
        with pytest.raises(errors.InputError, match="validation rows is zero"):
            quick(early_stopping_rounds=1, validation_fraction=0.25).fit(
                frame, y=LABEL, sample_weight=weight
            )


class TestRows:
    """Any choice and order of rows; each at most once in training."""

    def test_rows_in_another_order_are_the_same_rows(self, frame, model):
        order = np.random.default_rng(0).permutation(len(frame))
        shuffled = frame[order]
        other = classifier(**OPEN_MODE).fit(shuffled, y=frame[LABEL].to_numpy()[order])
        assert same_trees(model, other)
        p = model.predict_proba(frame)
        np.testing.assert_array_equal(model.predict_proba(shuffled), p[order])
        repeated = frame[[7, 3, 7, -1]]
        np.testing.assert_array_equal(model.predict_proba(repeated), p[[7, 3, 7, -1]])

    def test_training_rows_are_distinct(self, frame):
        with pytest.raises(errors.InputError, match="a row occurs twice") as caught:
            quick().fit(frame[[*range(200), 3]], y=LABEL)
        assert "sample_weight" in caught.value.fix
        assert_helpful(caught.value)

    @pytest.mark.parametrize(("rows", "match"), [([], "no rows"), ([3], "1 sample")])
    def test_too_few_rows(self, frame, model, rows, match):
        with pytest.raises(errors.InputError, match=match) as caught:
            quick().fit(frame[rows], y=LABEL)
        assert_helpful(caught.value)
        if not rows:
            with pytest.raises(errors.InputError, match=match) as caught:
                model.predict(frame[rows])
            assert_helpful(caught.value)

    def test_a_second_alignment(self, frame, model):
        again = frame.federation.align(on="id")
        by_id = pd.Series(model.decision_function(frame), index=frame.ids)
        np.testing.assert_array_equal(model.decision_function(again), by_id.loc[again.ids])

    def test_another_federation_does_not_know_the_model(self, parties, model):
        other = federation(parties[0]).align(on="id")
        with pytest.raises(errors.ProtocolError, match="not known here") as caught:
            model.predict(other)
        assert_helpful(caught.value)

    def test_a_frame_that_lacks_a_provider(self, frame, model):
        assert model._serves("tax")
        part = frame.federation.align(on="id", providers=["social"])
        with pytest.raises(errors.InputError, match="lacks the providers tax") as caught:
            model.predict(part)
        assert_helpful(caught.value)

    def test_a_provider_without_splits_is_not_needed(self, frame):
        model = quick(features=["debt", "tax.paid"], hide_membership=False, min_child_samples=119)
        model.fit(frame, y=LABEL)
        used = model.importance().query("splits > 0").index
        alone = frame.federation.align(on="id", providers=[])
        if any(name.startswith("tax") for name in used):
            with pytest.raises(errors.InputError, match="lacks the providers tax"):
                model.predict(alone)
        else:
            assert len(model.predict(alone)) == len(alone)

    def test_plain_tables_are_too_little_for_a_joint_model(self, merged, model):
        with pytest.raises(errors.InputError, match="columns of other parties") as caught:
            model.predict(merged)
        assert_helpful(caught.value)


class TestEarlyStopping:
    """Validation rows choose the number of trees."""

    def test_a_validation_frame(self, frame):
        train, valid = frame.train_test_split(test_size=0.3, stratify=LABEL, random_state=1)
        model = classifier(
            n_estimators=12, learning_rate=0.9, early_stopping_rounds=2, hide_membership=False
        ).fit(train, y=LABEL, validation=valid)
        losses = model.state_.valid_loss
        assert model.n_estimators_ == int(np.argmin(losses)) + 1 < 12
        assert len(losses) <= model.n_estimators_ + 2
        share = {name: engine.store for name, engine in frame.federation.engines.items()}
        assert all(store.keys("model") for store in share.values())
        p = model.predict_proba(valid)[:, 1]
        loss = -np.mean(np.log(np.where(valid[LABEL] == 1, p, 1 - p)))
        np.testing.assert_allclose(loss, min(losses), rtol=1e-12)

    def test_a_share_of_the_rows(self, frame):
        model = quick(n_estimators=3, early_stopping_rounds=1, validation_fraction=0.25)
        rows = model.fit(frame, y=LABEL).train_rows_
        assert (~rows.is_train).sum() == 60
        again = quick(n_estimators=3, early_stopping_rounds=1, validation_fraction=0.25)
        np.testing.assert_array_equal(again.fit(frame, y=LABEL).train_rows_.is_train, rows.is_train)

    def test_regressor(self, frame):
        model = regressor(features=["debt"], early_stopping_rounds=1).fit(frame, y="amount")
        assert 1 <= model.n_estimators_ <= 2

    def test_validation_without_stopping_only_measures(self, frame):
        train, valid = frame[:160], frame[160:]
        model = quick(n_estimators=2).fit(train, y=LABEL, validation=valid)
        assert len(model.state_.valid_loss) == 2
        assert len(model.state_.train_loss) == 2

    def test_validation_that_does_not_fit(self, frame):
        model = quick(early_stopping_rounds=1)
        other = frame.federation.align(on="id", providers=["tax"])
        for options in (
            {"y": LABEL, "validation": other[:20]},
            {"y": frame[:200][LABEL], "validation": frame[200:]},
        ):
            with pytest.raises(errors.InputError, match="same alignment") as caught:
                model.fit(frame[:200], **options)
            assert_helpful(caught.value)
        with pytest.raises(errors.InputError, match="occurs twice") as caught:
            model.fit(frame[:200], y=LABEL, validation=frame[199:])
        assert "validation" in caught.value.fix

    @pytest.mark.parametrize("share", [0.0, 1.0, 2.5, -1.0])
    def test_impossible_shares(self, frame, share):
        with pytest.raises(errors.InputError) as caught:
            quick(early_stopping_rounds=1, validation_fraction=share).fit(frame, y=LABEL)
        assert_helpful(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_estimators", 0),
        ("n_estimators", 2.5),
        ("n_estimators", "many"),
        ("learning_rate", 0.0),
        ("learning_rate", np.nan),
        ("max_depth", 0),
        ("max_depth", 9),
        ("max_depth", 2.5),
        ("max_bins", 1),
        ("max_bins", 10**6),
        ("min_child_samples", -1),
        ("reg_lambda", -0.5),
        ("min_split_gain", np.inf),
        ("subsample", 0.0),
        ("subsample", 1.5),
        ("colsample_bytree", 0.0),
        ("precision", "double"),
        ("gradient_bits", 0),
        ("gradient_bits", 40),
        ("block", 3),
        ("early_stopping_rounds", 0),
        ("early_stopping_rounds", -2),
        ("features", "debt"),
    ],
)
def test_parameters_out_of_range(frame, name, value):
    with pytest.raises(errors.FedCreditError) as caught:
        classifier(**{"hide_membership": False, name: value}).fit(frame, y=LABEL)
    assert_helpful(caught.value)


def test_a_failed_fit_leaves_no_half_fitted_model(frame):
    model = quick().fit(frame, y=LABEL)
    with pytest.raises(errors.InputError):
        model.set_params(features=["nothing"]).fit(frame, y=LABEL)
    for use in (model.predict, model.importance, model.fingerprint, model.summary):
        with pytest.raises(NotFittedError, match="not fitted"):
            use(frame) if use == model.predict else use()


def test_importance(frame, model):
    table = model.importance()
    assert list(table.index) == model.feature_labels_ == ORDER
    assert set(table["party"]) == {"platform", "tax", "social"}
    np.testing.assert_allclose(model.feature_importances_.sum(), 1)
    assert table["splits"].sum() == sum((t.feature >= 0).sum() for t in model.state_.trees)


def test_no_label_is_shown(model, frame):
    shown = repr(model) + repr(model.train_rows_) + repr(model.own_) + repr(OPEN)
    shown += repr(vars(model).get("tree_costs_"))
    assert "array(" not in shown
