"""The encoder is a scikit-learn transformer and does what rules, merging and tables do."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from fedcredit.errors import InputError
from fedcredit.stats.woe import woe_table
from fedcredit.stats.woe_encoder import WoeEncoder

NAN = np.nan
# Column 2 holds category codes, column 3 has special codes, column 4 is constant.
CATEGORY, SPECIAL, CONSTANT = 2, 3, 4
OPTIONS = {"categorical": [CATEGORY], "special_codes": (-999.0,), "min_bin_count": 20}


def population(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    X[rng.random(n) < 0.2, 1] = NAN
    X[:, CATEGORY] = rng.integers(0, 6, n)
    X[rng.random(n) < 0.1, SPECIAL] = -999.0
    X[:, CONSTANT] = 7.0
    effect = np.array([0.0, 1.0, -1.0, 0.5, -0.5, 2.0])
    z = X[:, 0] - 0.5 * np.nan_to_num(X[:, 1]) + np.isnan(X[:, 1])
    z = z + effect[X[:, CATEGORY].astype(int)] + 1.5 * (X[:, SPECIAL] == -999) - 1.0
    return X, (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)


class _OneAgainstTheRest(WoeEncoder):
    """Takes the labels that the checks make, of any number of classes."""

    def fit(self, X, y=None):
        if y is not None:
            labels = np.asarray(y)
            y = labels == labels.max() if labels.dtype.kind in "iuf" else labels
        return super().fit(X, y)


def expected_failures(_):
    return {"check_dtype_object": "labels of any other type than numbers have a message of ours"}


@parametrize_with_checks([_OneAgainstTheRest()], expected_failed_checks=expected_failures)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["optimal", "chimerge", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_weights_are_those_of_the_bins_counted_anew(method, smoothing):
    X, y = population()
    encoder = WoeEncoder(method=method, smoothing=smoothing, **OPTIONS).fit(X, y)
    weights = encoder.transform(X)
    for j in range(X.shape[1]):
        bins = encoder.rules_[j].apply(X[:, j])
        table = woe_table(
            np.bincount(bins, minlength=encoder.rules_[j].n_bins),
            np.bincount(bins, y, minlength=encoder.rules_[j].n_bins),
            smoothing=smoothing,
        )
        np.testing.assert_array_equal(weights[:, j], table.woe[bins])
        assert encoder.iv_[j] == table.total_iv
    assert encoder.iv_[CONSTANT] == 0
    assert encoder.rules_[CONSTANT].is_constant
    assert not weights[:, CONSTANT].any()


def test_risk_follows_the_trend_and_special_values_stand_apart():
    X, y = population()
    encoder = WoeEncoder(**OPTIONS).fit(X, y)
    rule, table = encoder.rules_[0], encoder.tables_[0]
    assert 3 <= rule.n_value_bins <= 8
    assert (np.diff(table.woe[: rule.n_value_bins]) >= 0).all()
    assert (np.diff(encoder.tables_[1].woe[: encoder.rules_[1].n_value_bins]) <= 0).all()
    # Categories come out from the safest to the riskiest.
    assert encoder.rules_[CATEGORY].groups[0] == (2,)
    assert encoder.rules_[CATEGORY].groups[-1] == (5,)
    assert encoder.transform([[0, NAN, 0, -999.0, 7]])[0, SPECIAL] > 1


def test_the_table_shows_the_bins_that_have_rows():
    X, y = population()
    table = WoeEncoder(**OPTIONS).fit(X, y).binning_table(SPECIAL)
    assert table["bin"][-1] == "special: -999"
    assert table["count"].sum() == len(X)
    assert table["event"].sum() == y.sum()
    assert table["share"].sum() == pytest.approx(1)
    assert len({len(column) for column in table.values()}) == 1
    assert (table["event"] + table["non_event"] == table["count"]).all()
    with pytest.raises(InputError, match="no such column"):
        WoeEncoder().fit(X, y).binning_table(5)


def test_user_splits_are_taken_as_they_are():
    X, y = population()
    encoder = WoeEncoder(user_splits={0: [-1, 0, 0.1]}, max_bins=2).fit(X, y)
    assert encoder.rules_[0].splits.tolist() == [-1, 0, 0.1]
    assert encoder.rules_[1].n_value_bins <= 2


def test_what_was_never_seen_is_neutral():
    X, y = population()
    encoder = WoeEncoder(**OPTIONS).fit(X, y)
    weights = encoder.transform([[NAN, 0, 99, 0, NAN], [0, 0, NAN, 0, 1e9]])
    assert weights[0, [0, CATEGORY, CONSTANT]].tolist() == [0, 0, 0]
    assert weights[1, [CATEGORY, CONSTANT]].tolist() == [0, 0]


def test_convention_flips_the_sign():
    X, y = population()
    one = WoeEncoder().fit(X, y)
    other = clone(one).set_params(convention="good_over_bad").fit(X, y)
    np.testing.assert_array_equal(one.transform(X), -other.transform(X))
    np.testing.assert_array_equal(one.iv_, other.iv_)


def test_weights_are_good_features_of_a_pipeline():
    X, y = population()
    model = make_pipeline(WoeEncoder(**OPTIONS), LogisticRegression())
    assert model.fit(X[:3000], y[:3000]).score(X[3000:], y[3000:]) > 0.72
    # On weights of evidence, every coefficient that matters is positive.
    assert (model[-1].coef_[0, :4] > 0).all()


def test_names_follow_the_columns():
    X, y = population(300)
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    out = WoeEncoder().set_output(transform="pandas").fit(frame, y).transform(frame)
    assert out.columns.tolist() == list("abcde")


def test_use_before_fit():
    with pytest.raises(NotFittedError):
        WoeEncoder().transform([[1.0]])


@pytest.mark.parametrize("y", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_one_class_is_refused_with_a_fix(y):
    with pytest.raises(InputError, match="only one class") as error:
        WoeEncoder().fit(np.arange(4.0)[:, None], y)
    assert "label 1" in error.value.fix


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({}, (3, np.inf)),
        ({"categorical": [1]}, (1, 0.5)),
        ({"categorical": [1]}, (1, -1.0)),
        ({"categorical": [1]}, (1, 1e12)),
        ({"user_splits": {1: [2, 1]}}, None),
        ({"categorical": [9]}, None),
        ({"max_bins": 0}, None),
        ({"trend": "up"}, None),
        ({"min_bin_count": 1000}, None),
        ({"convention": "?"}, None),
    ],
)
def test_what_cannot_be_is_refused_by_column(options, change):
    X, y = population(200)
    X[:, 1] = np.arange(200) % 3
    if change is not None:
        X[5, change[0]] = change[1]
    with pytest.raises(InputError) as error:
        WoeEncoder(**options).fit(X, y)
    if change is not None:
        assert error.value.step == f"WoeEncoder: column {change[0]}"


def test_new_infinities_are_refused_by_column():
    X, y = population(200)
    encoder = WoeEncoder().fit(X, y)
    X[0, 2] = -np.inf
    with pytest.raises(InputError, match="infinity") as error:
        encoder.transform(X)
    assert error.value.step == "WoeEncoder: column 2"


@pytest.mark.parametrize("y", [[0, 2, 0, 2], [0.5, 1, 0, 1]])
def test_labels_are_0_and_1(y):
    with pytest.raises(InputError, match="labels are 0 or 1"):
        WoeEncoder().fit(np.arange(4.0)[:, None], y)
