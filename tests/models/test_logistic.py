"""Logistic regression of several parties: who gets which coefficient, budgets, errors, files."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score

import fedcredit as fc
from fedcredit import errors
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.gram import correlations
from fedcredit.models.linear_jobs import LinearScoreJob
from fedcredit.models.load import load_model
from fedcredit.protocols.predictor import GRID, predictor_label_holder
from fedcredit.stats.glm import fit_glm
from tests.support.parties import assert_helpful

N = 600
OWN, TAX, SOCIAL = ["age", "debt"], ["paid", "growth", "late", "stock"], ["staff", "pay"]
OPEN = {"min_intersection": 1, "release_feature_names": True, "allow_exact_predictor": True}
USED = ["platform.age", "platform.debt", *(f"tax.{n}" for n in TAX), "social.staff", "social.pay"]


def pooled_table(seed=0):
    rng = np.random.default_rng(seed)
    names = [*OWN, *TAX, *SOCIAL]
    values = rng.normal(size=(N, len(names))) @ (np.eye(8) + 0.2 * rng.normal(size=(8, 8)))
    values = values * [3, 1, 500, 0.1, 1, 20, 8, 1000] + [10, 0, 2000, 1, 0, 50, 30, 6000]
    table = pd.DataFrame(values, columns=names)
    z = 0.3 * (table["debt"] + table["late"]) - 0.001 * (table["paid"] - 2000)
    z -= 0.05 * (table["staff"] - 30) + 1
    table["bad"] = (rng.random(N) < 1 / (1 + np.exp(-z))).astype(int)
    table["weight"] = rng.integers(1, 4, N).astype(float)
    table["shift"] = np.round(rng.normal(size=N) / 4, 3)
    table["id"] = [f"Q{number:08d}" for number in rng.permutation(N)]
    return table


TABLE = pooled_table()


def parties(**extra):
    """The parties' tables in orders of their own; `extra` replaces columns of the pooled one."""
    table = TABLE.assign(**extra)
    more = [name for name in extra if name not in TABLE]
    own = [*OWN, "bad", "weight", "shift"]
    parts = {"platform": own, "tax": [*TAX, *more], "social": SOCIAL}
    return {
        name: table[["id", *columns]].sample(frac=1.0, random_state=number)
        for number, (name, columns) in enumerate(parts.items())
    }


def aligned(parts=None, **policies):
    """A frame; policies by provider as changes to an open one."""
    policy = {
        name: fc.ProviderPolicy(**(OPEN | {"max_revealed_predictors": 50} | policies.get(name, {})))
        for name in ("tax", "social")
    }
    return fc.simulate(**(parts or parties()), policy=policy, threads=1).align(on="id")


def logistic(**options):
    return fc.VerticalLogisticRegression(**({"features": USED} | options))


def in_order(frame):
    return TABLE.set_index("id").loc[frame.ids].reset_index(drop=True)


@pytest.fixture(scope="module")
def frame():
    return aligned()


@pytest.fixture(scope="module")
def model(frame):
    return logistic(reveal_predictor=True, max_reveals=10).fit(frame, y="bad")


def pooled_fit(frame, **options):
    table = in_order(frame)
    return fit_glm(table[[*OWN, *TAX, *SOCIAL]], table["bad"], **options)


def test_the_joint_model_is_the_pooled_one(frame, model):
    twin = pooled_fit(frame)
    assert model.feature_labels_ == USED
    np.testing.assert_allclose(model.coef_[0], twin.coef, rtol=1e-6)
    np.testing.assert_allclose(model.intercept_, twin.intercept, rtol=1e-6)
    np.testing.assert_allclose(
        model.coefficient_table()["standard error"], np.sqrt(np.diag(twin.covariance)), rtol=1e-3
    )
    assert model.converged_
    assert model.n_features_in_ == len(frame.columns) - 1
    assert model.revealed_ == model.trace_["revealed"].max() <= 10
    figure = model.plot_trace()
    assert figure.axes[0].get_yscale() == "log"
    assert f"revealed {model.revealed_} times" in str(model.summary()).replace("│\n│ ", "")


def test_weights_and_offset_by_name_are_no_features(frame):
    joint = fc.VerticalLogisticRegression().fit(
        frame, y="bad", sample_weight="weight", offset="platform.shift"
    )
    assert joint.feature_labels_ == USED
    table = in_order(frame)
    twin = pooled_fit(frame, weight=table["weight"], offset=table["shift"])
    np.testing.assert_allclose(joint.coef_[0], twin.coef, rtol=1e-3)
    expected = table[[*OWN, *TAX, *SOCIAL]] @ twin.coef + twin.intercept
    np.testing.assert_allclose(joint.decision_function(frame), expected, atol=1e-3)


def test_arrays_in_the_frames_order(frame, model):
    shuffled = frame.take(np.random.default_rng(0).permutation(len(frame)))
    joint = logistic().fit(shuffled, y=shuffled["bad"].to_numpy())
    np.testing.assert_allclose(joint.coef_, model.coef_, rtol=1e-3)
    np.testing.assert_allclose(
        joint.predict_proba(shuffled), model.predict_proba(shuffled), atol=1e-4
    )


def test_training_rows_are_free_once_their_predictor_was_revealed(frame, model):
    sessions = len(frame.federation.phases)
    twin = pooled_fit(frame)
    expected = in_order(frame)[[*OWN, *TAX, *SOCIAL]] @ twin.coef + twin.intercept
    np.testing.assert_allclose(model.decision_function(frame), expected, atol=1e-6)
    some = frame.take([5, 3, 3, 599])
    np.testing.assert_array_equal(
        model.decision_function(some), model.decision_function(frame)[[5, 3, 3, 599]]
    )
    assert model.score(frame, "bad") == model.score(frame, frame["bad"])
    assert len(frame.federation.phases) == sessions


def test_signs_hold_at_providers(frame, model):
    up = float(np.sign(model.coef_[0, 2]))
    assert abs(model.coefficient_table().loc["tax.paid", "z"]) > 3
    held = logistic(sign_constraints={"tax.paid": -int(up), "debt": 1}).fit(frame, y="bad")
    assert held.coef_[0, 2] == 0.0
    twin = pooled_fit(frame, signs=[0, 1, -int(up), 0, 0, 0, 0, 0])
    np.testing.assert_allclose(held.coef_[0], twin.coef, rtol=0.02, atol=1e-4)


def test_a_ridge_counts_in_units_of_the_tables(frame):
    alone = fc.VerticalLogisticRegression(C=0.05).fit(
        in_order(frame)[[*OWN, *TAX, *SOCIAL]], in_order(frame)["bad"]
    )
    joint = logistic(C=0.05).fit(frame, y="bad")
    # The joint fit's tolerance, in units of a coefficient times its column's spread.
    np.testing.assert_allclose(joint.coef_, alone.coef_, rtol=2e-3, atol=1e-5)


@pytest.fixture(scope="module")
def joint():
    """A model of which one provider keeps its coefficients to itself."""
    frame = aligned(tax={"release_coefficients": False})
    return frame, logistic().fit(frame, y="bad")


class TestKeptCoefficients:
    def test_stay_with_their_provider(self, joint):
        frame, model = joint
        assert np.isnan(model.coef_[0, 2:6]).all()
        assert model.covariance_ is None
        twin = pooled_fit(frame)
        shown = [0, 1, 6, 7]
        np.testing.assert_allclose(model.coef_[0, shown], twin.coef[shown], rtol=1e-3)
        error = np.sqrt(np.diag(twin.covariance))[shown]
        table = model.coefficient_table()
        np.testing.assert_allclose(table["standard error"].iloc[shown], error, rtol=1e-2)
        assert table.loc[["tax.paid", "tax.stock"]].iloc[:, 2:].isna().all(axis=None)
        assert "keeps to itself" in str(model.summary())
        record = json.loads(frame.federation.engines["tax"].store.get("model", model.model_id_))
        scale = np.array(record["design"]["numeric"]["scale"])
        np.testing.assert_allclose(np.array(record["coef"]) / scale, twin.coef[2:6], rtol=1e-3)
        assert not set(record["coef"]) & set(numbers(model._stored().header))

    def test_scores_are_those_of_the_whole_model(self, joint):
        frame, model = joint
        twin = pooled_fit(frame)
        expected = in_order(frame)[[*OWN, *TAX, *SOCIAL]] @ twin.coef + twin.intercept
        np.testing.assert_allclose(model.decision_function(frame), expected, atol=1e-3)


def numbers(text):
    found = []
    json.loads(text, parse_float=lambda value: found.append(float(value)))
    return found


class TestBudgets:
    def test_are_counted_per_row_over_models(self):
        frame = aligned(social={"max_revealed_predictors": 3})
        train, test = frame.train_test_split(test_size=0.3, stratify="bad", random_state=0)
        model = logistic(polish_steps=1).fit(train, y="bad")
        assert model.revealed_ == 1
        first = model.predict_proba(test)
        for _ in range(5):
            np.testing.assert_array_equal(model.predict_proba(test), first)
        model.predict(train)
        other = logistic(polish_steps=1, C=1.0).fit(train, y="bad")
        with pytest.raises(errors.BudgetError, match="0 of 3 reveals are left") as caught:
            other.predict(train)
        assert_helpful(caught.value, party="social")
        other.predict(test)
        with pytest.raises(errors.BudgetError, match="0 of 3 reveals are left") as caught:
            logistic(polish_steps=1).fit(train, y="bad")
        assert_helpful(caught.value, party="social")
        assert "polish_steps=0" in str(caught.value)
        hidden = logistic(polish_steps=0).fit(train, y="bad")
        assert hidden.revealed_ == 0
        assert hidden.coefficient_table()["standard error"].isna().all()

    def test_bound_the_steps_of_a_fit(self):
        frame = aligned(tax={"max_revealed_predictors": 1})
        model = logistic(polish_steps=2).fit(frame, y="bad")
        assert model.revealed_ == 1

    def test_default_to_half_of_the_features(self):
        parts = parties()
        fed = fc.simulate(**parts, policy=fc.ProviderPolicy(**OPEN), threads=1)
        frame = fed.align(on="id")
        model = logistic(polish_steps=2).fit(frame, y="bad")
        # The two columns of social are worth one predictor.
        assert model.revealed_ == 1
        with pytest.raises(errors.BudgetError) as caught:
            model.predict(frame)
        assert_helpful(caught.value, party="social")


def test_scores_are_coarse_unless_exact_ones_are_allowed(frame, model):
    coarse = aligned(**{n: {"allow_exact_predictor": False} for n in ("tax", "social")})
    joint = logistic().fit(coarse, y="bad")
    exact = model.decision_function(frame)[np.argsort(frame.ids.to_numpy())]
    rounded = joint.decision_function(coarse)
    off = rounded[np.argsort(coarse.ids.to_numpy())] - exact
    assert 0.1 * GRID < off.std() < GRID
    assert np.abs(off).max() < 2.1 * GRID
    assert abs(off.mean()) < 0.1 * GRID
    # Asking again does not average the rounding out.
    again = coarse.federation.frame(coarse.frame_id)
    np.testing.assert_array_equal(joint.decision_function(again.take(np.arange(50))), rounded[:50])


def test_exact_fits_need_the_providers_leave():
    frame = aligned(tax={"allow_exact_predictor": False})
    with pytest.raises(errors.PolicyError, match="exact predictors") as caught:
        logistic(reveal_predictor=True).fit(frame, y="bad")
    assert_helpful(caught.value, party="tax")


class TestNoPartialScores:
    def test_without_a_provider(self, frame, model):
        fewer = frame.federation.align(on="id", providers=["tax"])
        with pytest.raises(errors.InputError, match="lacks the providers social") as caught:
            model.predict(fewer)
        assert_helpful(caught.value)

    def score(self, frame, model, participants, rows):
        async def role(peers):
            for name, peer in peers.items():
                job = LinearScoreJob(
                    model.model_id_, frame.frame_id, rows[name], bytes(32), tuple(participants)
                )
                await peer.send(job)
            return await predictor_label_holder(peers, len(rows["tax"]))

        return frame.federation.run(role, providers=list(participants), job="x", phase="predict")

    def test_from_providers_that_are_asked_alone(self, frame, model):
        rows = {"tax": np.arange(5, dtype=np.uint32)}
        with pytest.raises(errors.PolicyError, match="all the providers") as caught:
            self.score(frame, model, ["tax"], rows)
        assert_helpful(caught.value, party="tax")

    def test_from_providers_that_are_given_different_rows(self, frame, model):
        rows = {"tax": np.arange(5, dtype=np.uint32), "social": np.arange(1, 6, dtype=np.uint32)}
        with pytest.raises(errors.PeerProtocolError, match="masks"):
            self.score(frame, model, ["tax", "social"], rows)
        same = dict.fromkeys(rows, rows["tax"])
        assert self.score(frame, model, ["tax", "social"], same).shape == (5,)

    def test_of_an_unknown_model(self, frame, model):
        rows = {"tax": np.arange(5, dtype=np.uint32), "social": np.arange(5, dtype=np.uint32)}
        unknown = logistic()
        unknown.model_id_ = "0" * 16
        with pytest.raises(errors.ProtocolError, match="not known here") as caught:
            self.score(frame, unknown, ["tax", "social"], rows)
        assert_helpful(caught.value)


class TestColumnsOfProvidersThatCannotBeUsed:
    @pytest.mark.parametrize(
        ("column", "message"),
        [
            (np.where(np.arange(N) < 3, np.nan, np.arange(float(N))), "'secret' has missing"),
            (np.full(N, 4.25), "'secret' is constant"),
            (np.array(["u", "v"] * (N // 2)), "'secret' is categorical"),
            (TABLE["paid"] - 2 * TABLE["late"], "linear combination"),
        ],
    )
    @pytest.mark.parametrize("named", [True, False])
    def test_name_the_label_and_the_party(self, column, message, named):
        frame = aligned(parties(secret=column), tax={"release_feature_names": named})
        with pytest.raises(
            errors.InputError, match=message.replace("secret", "secret" if named else "f5")
        ) as caught:
            fc.VerticalLogisticRegression().fit(frame, y="bad")
        assert_helpful(caught.value, party="tax", secrets=["4.25", *([] if named else ["secret"])])

    def test_across_parties(self):
        frame = aligned(parties(copy=TABLE["debt"] - TABLE["staff"]))
        with pytest.raises(errors.InputError, match="linearly dependent") as caught:
            fc.VerticalLogisticRegression().fit(frame, y="bad")
        assert_helpful(caught.value)

    def test_that_separate(self):
        frame = aligned(parties(leak=TABLE["bad"] + 0.01 * TABLE["late"]))
        with pytest.raises(errors.InputError, match="separated") as caught:
            fc.VerticalLogisticRegression(reveal_predictor=True, max_reveals=12).fit(frame, y="bad")
        assert_helpful(caught.value)
        # One exact step cannot tell; that the coefficients still move, it can.
        with pytest.warns(ConvergenceWarning):
            fc.VerticalLogisticRegression(polish_steps=1).fit(frame, y="bad")


def test_too_few_rows_are_refused():
    frame = aligned(tax={"min_intersection": 550})
    with pytest.raises(errors.PolicyError, match="at least 550 rows") as caught:
        logistic().fit(frame.take(np.arange(549)), y="bad")
    assert_helpful(caught.value, party="tax")


def test_rows_that_occur_twice_are_refused(frame):
    with pytest.raises(errors.InputError, match="twice"):
        logistic().fit(frame.take([*range(300), 5]), y="bad")


def test_an_unreachable_provider_ends_the_fit(frame, monkeypatch):
    def run(*args, **options):
        raise errors.PeerUnavailable("the party cannot be reached.", party="tax")

    monkeypatch.setattr(frame.federation.backend, "run", run)
    with pytest.raises(errors.PeerUnavailable) as caught:
        logistic().fit(frame, y="bad")
    assert (caught.value.party, caught.value.step) == ("tax", "train")


@pytest.mark.slow
def test_searches_and_cross_validation_on_a_frame(frame):
    y = frame["bad"]
    scores = cross_val_score(logistic(polish_steps=1), frame, y, cv=2, scoring="roc_auc")
    assert (scores > 0.55).all()
    model = logistic(polish_steps=0)
    search = GridSearchCV(model, {"C": [1e-4, 1.0]}, cv=2, scoring="roc_auc", refit=False)
    search.fit(frame, y)
    assert search.best_params_ == {"C": 1.0}


def test_files(frame, model, tmp_path):
    model.save(tmp_path / "model.fc")
    twin = fc.VerticalLogisticRegression.load(tmp_path / "model.fc", frame.federation)
    same = load_model((tmp_path / "model.fc").read_bytes(), frame.federation)
    kept = load_model(frame.federation.store.get("model", model.model_id_), frame.federation)
    for other in (twin, same, kept):
        assert other.fingerprint() == model.fingerprint()
        np.testing.assert_array_equal(other.predict_proba(frame), model.predict_proba(frame))
        pd.testing.assert_frame_equal(other.coefficient_table(), model.coefficient_table())
        pd.testing.assert_frame_equal(other.trace_, model.trace_)
    elsewhere = frame.federation.align(on="id")
    np.testing.assert_allclose(
        np.sort(twin.decision_function(elsewhere)),
        np.sort(model.decision_function(frame)),
        atol=1e-6,
    )


@pytest.fixture(scope="module")
def binned(frame):
    binner = VerticalBinner(features=USED, max_bins=4).fit(frame, y="bad")
    return binner, logistic(binner=binner, features=None).fit(frame, y="bad")


class TestWeightsOfEvidence:
    def test_are_the_columns_of_every_party(self, frame, binned, tmp_path):
        binner, model = binned
        assert model.feature_labels_ == binner.usable()
        assert (model.coefficient_table()["coefficient"].iloc[:-1] != 0).all()
        model.save(tmp_path / "model.fc")
        twin = fc.VerticalLogisticRegression.load(tmp_path / "model.fc", frame.federation)
        np.testing.assert_array_equal(twin.predict_proba(frame), model.predict_proba(frame))

    def test_an_edited_binner_leaves_the_model_as_it_was(self, frame, binned):
        binner, model = binned
        before = model.predict_proba(frame)
        name = next(n for n in binner.usable() if n.startswith("platform"))
        if len(binner.binning_table(name)) > 3:
            binner.merge(name, 0, 1)
        np.testing.assert_array_equal(model.predict_proba(frame), before)

    def test_features_are_those_of_the_binner(self, frame, binned):
        binner, _ = binned
        chosen = binner.usable()[:2]
        assert (
            logistic(binner=binner, features=chosen).fit(frame, y="bad").feature_labels_ == chosen
        )
        with pytest.raises(errors.InputError, match="no column"):
            logistic(binner=binner, features=["tax.nothing"]).fit(frame, y="bad")


class TestCorrelations:
    def test_of_all_parties(self, frame):
        found = correlations(frame, features=USED)
        expected = in_order(frame)[[*OWN, *TAX, *SOCIAL]].corr().to_numpy()
        assert list(found.columns) == list(found.index) == USED
        np.testing.assert_allclose(found, expected, atol=5e-4)
        np.testing.assert_array_equal(found, found.T)

    def test_of_the_platform_alone(self, frame):
        found = correlations(frame, features=["age", "debt"])
        expected = in_order(frame)[["age", "debt"]].corr()
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_need_the_providers_leave(self):
        frame = aligned(social={"release_correlations": False})
        with pytest.raises(errors.PolicyError, match="not released") as caught:
            correlations(frame)
        assert_helpful(caught.value, party="social")
        assert correlations(frame, features=["age", "tax.paid"]).shape == (2, 2)

    def test_a_column_of_one_row_reads_that_row_so_columns_are_an_allowance(self):
        parts = parties()
        targets = parts["platform"]["id"].to_numpy()[:3]
        for number, target in enumerate(targets):
            parts["platform"][f"only_{number}"] = (parts["platform"]["id"] == target) * 1.0
        spies = [f"only_{number}" for number in range(3)]
        frame = aligned(parts, tax={"max_correlated_columns": 3})
        found = correlations(frame, features=[*spies, "tax.paid"])
        paid = in_order(frame)["paid"]
        standard = (paid - paid.mean()) / paid.std(ddof=0)
        n = len(frame)
        for number, target in enumerate(targets):
            read = found.loc[f"platform.only_{number}", "tax.paid"] * np.sqrt(n - 1)
            row = int(np.flatnonzero(frame.ids.to_numpy() == target)[0])
            assert abs(read - standard[row]) < 0.05
        # Three rows were read; the provider allows no fourth, whoever asks and about what.
        with pytest.raises(errors.BudgetError, match="0 of 3 columns") as caught:
            correlations(frame, features=["age", "tax.paid"])
        assert_helpful(caught.value, party="tax")
