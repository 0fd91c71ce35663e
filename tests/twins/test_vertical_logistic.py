"""The joint logistic regression is statsmodels' on the pooled table."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

import fedcredit as fc
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.engine_binning import woe_columns
from tests.support.real_data import load_real

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import statsmodels.api as sm

MODES = {
    "hidden, two exact steps": {},
    "exact": {"reveal_predictor": True, "max_reveals": 5},
}
#: Coefficient over max(1, |coefficient|), p-value, AUC and KS.
TOLERANCE = {"hidden, two exact steps": (1e-3, 1e-2, 5e-4), "exact": (1e-6, 1e-4, 1e-6)}
SLOW = pytest.mark.slow
#: Both modes and both sets, each once quickly.
QUICK = [("exact", "give_me_some_credit"), ("hidden, two exact steps", "default_credit")]
POLICY = fc.ProviderPolicy(
    release_feature_names=True,
    max_revealed_predictors=60,
    max_binnings_per_feature=20,
    allow_exact_predictor=True,
)


def split(table, label, owners):
    """One table per party; owners are lists of columns, the platform's first."""
    names = ["platform", *(f"p{number}" for number in range(1, len(owners)))]
    table = table.assign(id=[f"K{number:08d}" for number in range(len(table))])
    out = {}
    for number, (name, columns) in enumerate(zip(names, owners, strict=True)):
        own = [label] if name == "platform" else []
        out[name] = table[["id", *columns, *own]].sample(frac=1.0, random_state=number)
    return out


def cut(columns, parties):
    """Deal columns out to the platform and the providers."""
    return [list(part) for part in np.array_split(np.array(columns, object), parties + 1)]


def frame_of(parts):
    return fc.simulate(**parts, policy=POLICY, threads=1).align(on="id", id_kind="text")


def assert_twin(frame, design, y, mode, **options):
    """Compare with statsmodels; `design` has the columns by the names of the federated model."""
    coef_tolerance, p_tolerance, rank_tolerance = TOLERANCE[mode]
    model = fc.VerticalLogisticRegression(**MODES[mode] | options).fit(frame, y=y)
    labels = frame[y].to_numpy()
    design = design[model.feature_labels_]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scale = design.std()
        pooled = sm.Logit(labels, sm.add_constant(design / scale)).fit(disp=0, tol=1e-12)
    table = model.coefficient_table()
    found = table["coefficient"].iloc[:-1] * scale
    expected = pooled.params.iloc[1:]
    error = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    assert error.max() < coef_tolerance
    p_values = table["p-value"].iloc[:-1] - pooled.pvalues.iloc[1:]
    assert np.abs(p_values).max() < p_tolerance
    ours = model.predict_proba(frame)[:, 1]
    theirs = pooled.predict().astype(float)
    assert abs(roc_auc_score(labels, ours) - roc_auc_score(labels, theirs)) < rank_tolerance
    assert abs(ks(labels, ours) - ks(labels, theirs)) < rank_tolerance
    return model


def ks(labels, score):
    # Scores that are equal but for the last digits tie in either model.
    rounded = np.round(score, 9)
    return ks_2samp(rounded[labels == 1], rounded[labels == 0]).statistic


def population(n=3000):
    return fc.datasets.make_sme_population(n, seed=5, dirty=False)


NUMERIC = {
    "platform": ["registration_years", "penalties_36m", "enquiries_6m", "credit_utilisation"],
    "tax": ["revenue_growth", "invoice_volatility", "late_filings_12m", "top5_buyer_share"],
    "social_security": ["staff_turnover", "average_tenure", "arrears_months"],
}


@pytest.fixture(scope="module")
def sme():
    """The synthetic population's numeric columns, complete rows only."""
    pop = population()
    pooled = pop.platform.merge(pop.tax, on="uscc").merge(pop.social_security, on="uscc")
    columns = [name for names in NUMERIC.values() for name in names]
    return pooled[[*columns, "default"]].dropna().reset_index(drop=True)


# With pooled Newton steps for a twin, tests/protocols/test_logistic.py has more of both modes.
@pytest.mark.parametrize(
    ("providers", "mode"),
    [
        (1, "exact"),
        (3, "hidden, two exact steps"),
        pytest.param(1, "hidden, two exact steps", marks=SLOW),
        pytest.param(2, "hidden, two exact steps", marks=SLOW),
        pytest.param(2, "exact", marks=SLOW),
        pytest.param(3, "exact", marks=SLOW),
    ],
)
def test_synthetic_population(sme, providers, mode):
    model = assert_synthetic_twin(sme, providers, mode)
    assert model.revealed_ <= 5


def assert_synthetic_twin(sme, providers, mode, **options):
    columns = [name for names in NUMERIC.values() for name in names]
    parts = split(sme, "default", cut(columns, providers))
    frame = frame_of(parts)
    table = sme.assign(id=[f"K{number:08d}" for number in range(len(sme))]).set_index("id")
    pooled = table.loc[frame.ids].reset_index(drop=True)
    design = pd.DataFrame(
        {
            f"{name}.{column}": pooled[column].astype(float)
            for name, part in parts.items()
            for column in part.columns
            if column not in ("id", "default")
        }
    )
    return assert_twin(frame, design, "default", mode, **options)


def woe_design(frame, binner):
    """Every party's weights of evidence, at one place, in the frame's order."""
    columns = {}
    for name in binner.usable():
        party, _, label = name.partition(".")
        if party == "platform":
            columns[name] = binner.transform_own(frame, [name])[name].to_numpy()
            continue
        engine = frame.federation.engines[party]
        rows = engine.rows(frame.frame_id, frame.rows)
        columns[name] = woe_columns(engine, binner.binner_id_, [label], rows)[:, 0]
    return pd.DataFrame(columns)


def assert_woe_twin(name, rows, providers, mode):
    X, y = load_real(name, rows)
    X = X.drop(columns="id", errors="ignore")
    table = X.assign(label=y.astype(int))
    frame = frame_of(split(table, "label", cut(list(X.columns), providers)))
    binner = VerticalBinner(max_bins=6).fit(frame, y="label")
    binner.publish()
    usable = [n for n, iv in binner.iv()["iv"].items() if iv > 0.01 and n in binner.usable()]
    design = woe_design(frame, binner)
    return assert_twin(frame, design, "label", mode, binner=binner, features=usable)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("providers", "mode", "name"),
    [
        pytest.param(n, *case, marks=[] if n == 1 and case in QUICK else [SLOW])
        for n in (1, 3)
        for case in itertools.product(MODES, ("default_credit", "give_me_some_credit"))
    ],
)
def test_real_data_sample_by_weights_of_evidence(name, mode, providers):
    assert_woe_twin(name, 5000, providers, mode)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["default_credit", "give_me_some_credit"])
@pytest.mark.parametrize("mode", MODES)
def test_real_data_in_full(name, mode):
    assert_woe_twin(name, None, 2, mode)
