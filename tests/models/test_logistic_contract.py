"""The logistic regression keeps scikit-learn's contract on arrays and tables of one party."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fedcredit import VerticalLogisticRegression, errors
from fedcredit.models.linear_columns import whole_units
from fedcredit.models.load import load_model
from tests.support.parties import assert_helpful

UNITS = (
    "a penalty applies in units of the table's columns, which do not depend on the weights; "
    "without a penalty weights equal repeated rows"
)


def expected_failures(estimator):
    return {
        "check_sample_weight_equivalence_on_dense_data": UNITS,
    }


@parametrize_with_checks(
    [VerticalLogisticRegression(C=1.0), VerticalLogisticRegression(C=0.1, l1_ratio=0.5)],
    expected_failed_checks=expected_failures,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore:.*feature names:UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def data(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) * [1.0, 20.0, 0.05] + [0.0, 300.0, 1.0]
    z = X[:, 0] - 0.04 * (X[:, 1] - 300) - 0.5
    return X, (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)


def test_it_is_a_classifier():
    assert is_classifier(VerticalLogisticRegression())


def test_without_a_penalty_it_is_scikit_learns():
    X, y = data()
    model = VerticalLogisticRegression().fit(X, y)
    scaler = StandardScaler().fit(X)
    twin = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
    twin.fit(scaler.transform(X), y)
    np.testing.assert_allclose(model.coef_, twin.coef_ / scaler.scale_, rtol=1e-6)
    np.testing.assert_allclose(
        model.predict_proba(X), twin.predict_proba(scaler.transform(X)), atol=1e-8
    )


def test_the_penalty_counts_in_units_of_the_table():
    X, y = data()
    model = VerticalLogisticRegression(C=0.02).fit(X, y)
    centre, scale = np.array([whole_units(column) for column in X.T]).T
    twin = LogisticRegression(C=0.02, solver="newton-cholesky", tol=1e-10)
    twin.fit((X - centre) / scale, y)
    np.testing.assert_allclose(model.coef_, twin.coef_ / scale, rtol=1e-6)
    np.testing.assert_allclose(
        model.intercept_, twin.intercept_ - (twin.coef_ / scale) @ centre, rtol=1e-6
    )


def test_weights_equal_repeated_rows():
    X, y = data(150)
    times = np.random.default_rng(1).integers(1, 4, 150)
    weighted = VerticalLogisticRegression().fit(X, y, sample_weight=times)
    repeated = VerticalLogisticRegression().fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-7)
    np.testing.assert_allclose(weighted.covariance_, repeated.covariance_, rtol=1e-6)


def test_an_offset_shifts_the_fit_and_no_prediction():
    X, y = data()
    plain = VerticalLogisticRegression().fit(X, y)
    shifted = VerticalLogisticRegression().fit(X, y, offset=np.full(len(y), 0.7))
    np.testing.assert_allclose(shifted.coef_, plain.coef_, rtol=1e-6)
    np.testing.assert_allclose(
        shifted.decision_function(X), plain.decision_function(X) - 0.7, atol=1e-6
    )


@pytest.mark.parametrize(
    "offset", [np.zeros(3), np.full(400, np.nan), np.full(400, "x"), np.zeros((400, 2))]
)
def test_offsets_that_cannot_be_used(offset):
    with pytest.raises(errors.InputError, match="offset") as caught:
        VerticalLogisticRegression().fit(*data(), offset=offset)
    assert_helpful(caught.value)


@pytest.mark.parametrize("weight", [np.zeros(400), np.full(400, -1.0), np.ones(3)])
def test_weights_that_cannot_be_used(weight):
    with pytest.raises(errors.InputError, match="sample_weight") as caught:
        VerticalLogisticRegression().fit(*data(), sample_weight=weight)
    assert_helpful(caught.value)


def test_searches_over_the_penalty():
    X, y = data()
    search = GridSearchCV(VerticalLogisticRegression(), {"C": [1e-3, 1.0, np.inf]}, cv=3)
    search.fit(X, y)
    assert search.best_params_["C"] in (1.0, np.inf)
    model = make_pipeline(StandardScaler(), VerticalLogisticRegression())
    assert cross_val_score(model, X, y, cv=3, scoring="roc_auc").mean() > 0.7


def test_parameters_survive_get_set_and_clone():
    model = VerticalLogisticRegression(C=2.0, sign_constraints={"x0": 1}, features=["x0"])
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert twin.set_params(C=3.0).C == 3.0


def test_signs_hold():
    X, y = data()
    free = VerticalLogisticRegression().fit(X, y)
    sign = int(np.sign(free.coef_[0, 0]))
    held = VerticalLogisticRegression(sign_constraints={"x0": -sign}).fit(X, y)
    assert held.coef_[0, 0] == 0.0
    assert np.isnan(held.coefficient_table().loc["platform.x0", "p-value"])
    same = VerticalLogisticRegression(sign_constraints={"x0": sign, "x1": 0}).fit(X, y)
    np.testing.assert_allclose(same.coef_, free.coef_, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign_constraints": {"x9": 1}}, "no column 'x9'"),
        ({"sign_constraints": {"x0": 2}}, "neither -1, 0 nor 1"),
        ({"sign_constraints": {"x0": 1}, "features": ["x1"]}, "does not use: platform.x0"),
        ({"features": ["x9"]}, "no column 'x9'"),
        ({"features": []}, "no features"),
        ({"C": 0.0}, "C is out of range"),
        ({"l1_ratio": 1.5}, "l1_ratio is out of range"),
        ({"clip_quantile": 0.5}, "clip_quantile is out of range"),
        ({"polish_steps": -1}, "polish_steps is out of range"),
    ],
)
def test_arguments_that_cannot_be_used(options, message):
    with pytest.raises(errors.InputError, match=message) as caught:
        VerticalLogisticRegression(**options).fit(*data())
    assert_helpful(caught.value)


class TestColumnsThatCannotBeUsed:
    """Each one is named, with what to do about it."""

    table = pd.DataFrame(data()[0], columns=["a", "b", "c"])
    y = data()[1]

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            (np.where(np.arange(400) < 3, np.nan, np.arange(400.0)), "missing values"),
            (np.full(400, 4.25), "'d' is constant"),
            (np.array(["u", "v"] * 200), "categorical columns have no coefficient: 'd'"),
            (pd.date_range("2020-01-01", periods=400), "'d' holds dates"),
            (np.array([np.inf, *np.arange(399.0)]), "'d' contains infinite values"),
        ],
    )
    def test_named(self, column, message):
        with pytest.raises(errors.InputError, match=message) as caught:
            VerticalLogisticRegression().fit(self.table.assign(d=column), self.y)
        assert_helpful(caught.value, party="platform", secrets=["4.25", "2020"])

    def test_dependent(self):
        table = self.table.assign(d=self.table["a"] - 2 * self.table["b"])
        with pytest.raises(errors.InputError, match="linear combination") as caught:
            VerticalLogisticRegression().fit(table, self.y)
        assert_helpful(caught.value, party="platform")
        assert VerticalLogisticRegression(C=1.0).fit(table, self.y).converged_

    def test_separating(self):
        table = self.table.assign(d=self.y + 0.001 * self.table["a"])
        with pytest.raises(errors.InputError, match="separat") as caught:
            VerticalLogisticRegression().fit(table, self.y)
        assert_helpful(caught.value)

    @pytest.mark.parametrize("y", [np.zeros(400), np.arange(400) % 3, np.linspace(0, 1, 400)])
    def test_labels(self, y):
        with pytest.raises(errors.InputError) as caught:
            VerticalLogisticRegression().fit(self.table, y)
        assert_helpful(caught.value)


def test_clipping_bounds_what_outliers_do():
    X, y = data()
    wild = X.copy()
    row = int(np.argmax(y))
    wild[row, 1] = 1e6
    clipped = VerticalLogisticRegression(clip_quantile=0.01)
    tame = clipped.fit(X, y).coef_[0, 1]
    assert clipped.fit(wild, y).coef_[0, 1] == pytest.approx(tame, rel=0.1)
    assert abs(VerticalLogisticRegression().fit(wild, y).coef_[0, 1]) < abs(tame) / 10
    np.testing.assert_array_equal(
        clipped.decision_function(wild[row : row + 1]),
        clipped.decision_function([[wild[row, 0], 1e9, wild[row, 2]]]),
    )


def test_a_fit_that_is_cut_short_says_so():
    with pytest.warns(ConvergenceWarning, match="did not reach"):
        model = VerticalLogisticRegression(max_iter=1).fit(*data())
    assert not model.converged_


def test_unfitted_models_say_so():
    with pytest.raises(NotFittedError):
        VerticalLogisticRegression().coefficient_table()


@pytest.mark.parametrize("labels", [("good", "bad"), (False, True), (3, 7)])
def test_files_and_copies(labels, tmp_path):
    X, y = data()
    y = np.array(labels)[y]
    model = VerticalLogisticRegression(C=5.0, features=["x0", "x2"]).fit(X, y)
    model.save(tmp_path / "model.fc")
    from_file = VerticalLogisticRegression.load(tmp_path / "model.fc")
    same = load_model((tmp_path / "model.fc").read_bytes(), None)
    for twin in (from_file, same, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
        np.testing.assert_array_equal(twin.predict(X), model.predict(X))
        assert twin.fingerprint() == model.fingerprint()
        assert twin.get_params() == model.get_params()
        pd.testing.assert_frame_equal(twin.coefficient_table(), model.coefficient_table())
        assert twin.classes_.dtype == model.classes_.dtype


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "model.fc"
    with pytest.raises(errors.StorageError):
        VerticalLogisticRegression.load(path)
    for text in (b"", b"hello", b"\xff" * 400):
        with pytest.raises(errors.InputError) as caught:
            VerticalLogisticRegression.load(text)
        assert_helpful(caught.value)
    VerticalLogisticRegression().fit(*data()).save(path)
    intact = path.read_bytes()
    damaged = intact.replace(b'"own_labels"', b'"own_lapels"')
    assert damaged != intact
    with pytest.raises(errors.InputError, match="damaged"):
        VerticalLogisticRegression.load(damaged)


def test_the_summary_shows_what_the_table_holds():
    model = VerticalLogisticRegression().fit(*data())
    text = str(model.summary())
    assert "converged" in text
    table = model.coefficient_table(level=0.9)
    assert f"{table['coefficient'].iloc[0]:.4f}" in text
    assert "platform.<wbr>x0" in model.summary()._repr_html_()
    assert table["lower"].iloc[0] > model.coefficient_table()["lower"].iloc[0]
    with pytest.raises(errors.InputError, match="no trace"):
        model.plot_trace()


def test_units_are_coarse():
    rng = np.random.default_rng(0)
    values = rng.normal(size=100_000) * 12.345 + 1234.5
    centre, scale = whole_units(values)
    assert scale == 12.0
    assert abs(centre - values.mean()) <= 0.6
    assert whole_units(np.delete(values, 7)) == (centre, scale)
    assert whole_units(np.full(5, 0.1)) == (pytest.approx(0.1), 1.0)
