"""The estimators keep scikit-learn's contract, on arrays, tables and federated frames."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fedcredit as fc
from fedcredit import errors
from tests.support.parties import LABEL, classifier, federation, regressor, tables

UNWEIGHTED_BINS = (
    "bins are cut by numbers of rows, as every party cuts its own without the label holder's "
    "weights, and gradients are rounded at random"
)
QUICK = {
    "n_estimators": 5,
    "max_depth": 3,
    "min_child_samples": 1,
    "min_child_rows": 0,
    "learning_rate": 0.5,
}


def expected_failures(estimator):
    return {"check_sample_weight_equivalence_on_dense_data": UNWEIGHTED_BINS}


@parametrize_with_checks(
    [fc.VerticalGBDTClassifier(**QUICK), fc.VerticalGBDTRegressor(**QUICK)],
    expected_failed_checks=expected_failures,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore:.*feature names:UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_weights_equal_repeated_rows_where_bins_do_not_change(make):
    """Few distinct values get a bin each, however many rows they have."""
    rng = np.random.default_rng(3)
    X = rng.integers(0, 8, (60, 3)).astype(float)
    y = (X[:, 0] + X[:, 1] + rng.normal(size=60) > 7).astype(float)
    times = rng.integers(1, 4, 60)
    settings = {"precision": "exact", "min_child_samples": 1, "min_child_weight": 0.5}
    weighted = make(**settings).fit(X, y, sample_weight=times)
    repeated = make(**settings).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    np.testing.assert_allclose(weighted._raw(X), repeated._raw(X), atol=1e-4)


def test_roles_are_known():
    assert is_classifier(fc.VerticalGBDTClassifier())
    assert is_regressor(fc.VerticalGBDTRegressor())


@pytest.mark.parametrize("kind", [fc.VerticalGBDTClassifier, fc.VerticalGBDTRegressor])
def test_parameters_survive_get_set_and_clone(kind):
    model = kind(n_estimators=7, features=["tax.paid"], monotone_constraints={"tax.paid": 1})
    twin = clone(model)
    assert twin is not model
    assert twin.get_params() == model.get_params()
    assert twin.set_params(max_depth=2).max_depth == 2
    assert model.max_depth == 5
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        twin.set_params(depth=2)


@pytest.fixture(scope="module")
def frame():
    parts, _ = tables()
    return federation({name: parts[name] for name in ("platform", "tax")}).align(on="id")


@pytest.fixture(scope="module")
def model(frame):
    return classifier().fit(frame, y=LABEL)


def test_an_unfitted_model_says_so(frame):
    with pytest.raises(NotFittedError):
        classifier().predict(frame)


def test_searches_and_cross_validation_on_arrays():
    _, pooled = tables()
    X, y = pooled[["age", "debt", "paid"]].to_numpy(), pooled[LABEL].to_numpy()
    search = GridSearchCV(classifier(), {"max_depth": [1, 2]}, cv=2).fit(X, y)
    assert search.best_params_["max_depth"] in (1, 2)
    assert search.predict(X).shape == y.shape
    scores = cross_val_score(
        make_pipeline(StandardScaler(), classifier(n_estimators=5)), X, y, cv=3, scoring="roc_auc"
    )
    assert scores.mean() > 0.6


def test_searches_and_cross_validation_on_a_frame(frame):
    y = frame[LABEL]
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    model = classifier(hide_membership=False)
    scores = cross_val_score(model, frame, y, cv=folds, scoring="roc_auc")
    # The order of an alignment, hence the folds, is random. The label's own column stands in the
    # frame; as a feature it would rank perfectly.
    assert scores.mean() > 0.5
    assert (scores < 0.99).all()
    search = GridSearchCV(model, {"max_depth": [1, 2]}, cv=folds).fit(frame, y)
    assert "platform.bad" not in search.best_estimator_.feature_labels_
    assert search.predict(frame).shape == (len(frame),)
    assert search.score(frame, y) == search.best_estimator_.score(frame, LABEL)


def test_a_pipeline_hands_a_frame_on(frame, model):
    pipeline = make_pipeline("passthrough", classifier()).fit(frame, y=LABEL)
    np.testing.assert_array_equal(pipeline.predict_proba(frame), model.predict_proba(frame))


def test_fitting_again_forgets_the_table_before(frame, model):
    twin = clone(model)
    table = pd.DataFrame({"a": [1.0, 2, 3, 4] * 10, "b": [4.0, 3, 2, 1] * 10})
    twin.set_params(min_child_samples=1).fit(table, [0, 1, 1, 0] * 10)
    assert list(twin.feature_names_in_) == ["a", "b"]
    twin.fit(frame, y=LABEL)
    assert not hasattr(twin, "feature_names_in_")
    assert twin.n_features_in_ == len(frame.columns) - 1


def test_a_copy_holds_the_model_and_no_table(frame, model):
    twin = pickle.loads(pickle.dumps(model))
    assert not hasattr(twin, "federation_")
    assert not hasattr(twin, "train_rows_")
    assert twin.fingerprint() == model.fingerprint()
    np.testing.assert_array_equal(twin.predict(frame), model.predict(frame))
    assert copy.deepcopy(model).importance().equals(model.importance())
    with pytest.raises(errors.InputError, match="knows no federation"):
        twin.report()


def test_a_pickled_model_holds_no_row_of_its_table():
    table = pd.DataFrame({"a": np.arange(40) + 0.123456789, "b": ["secret town"] * 20 + ["x"] * 20})
    model = classifier(min_child_samples=1).fit(table[["a"]], [0, 1] * 20)
    data = pickle.dumps(model)
    assert np.float64(7.123456789).tobytes() not in data
    assert b"train_rows_" not in data


def test_federations_frames_and_engines_are_never_pickled(frame):
    for thing in (frame, frame.federation, frame.federation.engines["tax"]):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(thing)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "income": np.where(rng.random(80) < 0.2, np.nan, rng.normal(size=80)),
            "town": rng.choice(["north", "south", "west"], 80),
            "open": rng.random(80) < 0.5,
        }
    )


@pytest.fixture(scope="module")
def y(table):
    return ((table["town"] == "west") | (table["income"] > 1)).to_numpy()


def test_text_and_bools_are_used(table, y):
    model = classifier(n_estimators=20, learning_rate=0.5).fit(table, y)
    assert model.score(table, y) > 0.9
    assert list(model.classes_) == [False, True]
    assert model.feature_labels_ == ["platform.income", "platform.town", "platform.open"]


def test_columns_are_chosen_and_constrained_by_name(table, y):
    model = classifier(features=["income"], monotone_constraints={"income": -1}).fit(table, y)
    assert model.feature_labels_ == ["platform.income"]
    low, high = model._raw(pd.DataFrame(table.iloc[[0, 0]].assign(income=[-9.0, 9.0])))
    assert low >= high


def test_arrow_tables_are_read(table, y):
    pa = pytest.importorskip("pyarrow")
    model = classifier().fit(table, y)
    arrow = classifier().fit(pa.Table.from_pandas(table), y)
    np.testing.assert_array_equal(
        arrow.predict_proba(pa.Table.from_pandas(table)), model.predict_proba(table)
    )


def test_an_unseen_category_is_missing(table, y):
    model = classifier().fit(table, y)
    unseen, missing = table.assign(town="east"), table.assign(town=None)
    np.testing.assert_array_equal(model._raw(unseen), model._raw(missing))


def test_columns_in_another_order_are_refused(table, y):
    model = classifier().fit(table, y)
    with pytest.raises(ValueError, match="same order"):
        model.predict(table[["town", "income", "open"]])


def test_y_is_no_name(table):
    with pytest.raises(errors.InputError, match="y names a column") as caught:
        classifier().fit(table, "town")
    assert caught.value.fix


def test_numbers_as_column_names():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)))
    y = (X[0] > 0).astype(int)
    assert classifier().fit(X, y).score(X, y) > 0.9


def test_arguments_of_numpy_types_are_stored(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 2))
    model = classifier(
        n_estimators=np.int64(2),
        learning_rate=np.float64(0.1),
        features=np.array(["x0"]),
        random_state=np.random.RandomState(0),
    ).fit(X, X[:, 0] > 0)
    model.save(tmp_path / "model")
    twin = fc.VerticalGBDTClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
