"""A joint scorecard is that of scorecardpy and statsmodels on one table with all columns.

With given bins and without smoothing, where providers allow exact predictors: coefficients within
1e-3, points equal but where a coefficient's last digits decide a rounding, AUC and KS within 5e-4.
With the predictors rounded at random, as policies have it by default: coefficients within 0.05
standard errors, points within one per bin, AUC within 2e-3 and KS within two events.
"""

import functools

import numpy as np
import pandas as pd
import pytest

import fedcredit as fc
from fedcredit.models.engine_scorecard import own_table
from fedcredit.stats.metrics import auc, ks
from tests.support.other_packages import quiet
from tests.support.parties import OPEN, federation
from tests.support.real_data import load_real

LABEL = "bad"
PARTIES = ("platform", "tax", "social", "housing")
SETTINGS = OPEN.__dict__ | {"allow_user_splits": True, "max_revealed_predictors": 9}
SELECTOR = {"min_iv": None, "max_missing": None, "max_correlation": None, "max_vif": None}


def synthetic(rows):
    """The numeric columns of the enterprises that all parties of the population know."""
    population = fc.datasets.make_sme_population(rows, seed=7)
    parts = {"tax": population.tax, "social": population.social_security}
    frame = fc.simulate(platform=population.platform, **parts).align(on="uscc")
    engines = frame.federation.engines.values()
    columns = [frame.platform, *(engine.rows(frame.frame_id, frame.rows) for engine in engines)]
    table = pd.concat([part.reset_index(drop=True) for part in columns], axis=1)
    y = table.pop("default").to_numpy(np.float64)
    numeric = table.select_dtypes("number").astype(np.float64)
    return numeric.rename(columns=dict(zip(numeric, _unique(numeric), strict=True))), y


def _unique(table):
    return [f"x{k}_{name}" for k, name in enumerate(table)]


@functools.cache
def columns_of(name, rows):
    X, y = synthetic(rows) if name == "synthetic" else load_real(name, rows)
    X = X.drop(columns=[c for c in X if c.lower() == "id"])
    return X.rename(columns=lambda c: c.replace("-", "_").replace(".", "_")), y


def cuts(X, y, n=5):
    """A few quantiles of every column, with rows of both classes between any two of them.

    scorecardpy gives a bin of one class a weight by a rule of its own.
    """

    def mixed(rows):
        return 10 < y[rows].sum() < rows.sum() - 10

    found = {}
    for name in X:
        values = X[name].to_numpy()
        edges = []
        for edge in np.unique(np.nanquantile(values, np.arange(1, n) / n, method="higher")):
            start = edges[-1] if edges else -np.inf
            if mixed((values >= start) & (values < edge)) and mixed(values >= edge):
                edges.append(float(edge))
        missing = np.isnan(values)
        if edges and (not missing.any() or mixed(missing)):
            found[name] = edges
    return found


def spread(X, y, n_providers):
    """One table per party; columns are dealt out in turn."""
    parties = PARTIES[: n_providers + 1]
    ids = [f"E{k:07d}" for k in range(len(X))]
    tables = {p: X[X.columns[i :: len(parties)]].copy() for i, p in enumerate(parties)}
    tables["platform"][LABEL] = y.astype(int)
    rng = np.random.default_rng(1)
    for name, table in tables.items():
        table.insert(0, "id", ids)
        tables[name] = table.iloc[rng.permutation(len(table))].reset_index(drop=True)
    return tables


def joint_card(X, y, breaks, n_providers, exact=True):
    tables = spread(X[list(breaks)], y, n_providers)
    policy = fc.ProviderPolicy(**(SETTINGS | {"allow_exact_predictor": exact}))
    frame = federation(tables, policy=policy).align(on="id")
    owner = {c: p for p, table in tables.items() for c in table.columns}
    splits = {f"{owner[name]}.{name}": values for name, values in breaks.items()}
    binner = {"user_splits": splits, "smoothing": 0.0, "method": "none"}
    card = fc.VerticalScorecard(
        binner=binner, selector=SELECTOR, sign_constraints=None, features=list(splits)
    )
    return card.fit(frame, LABEL), frame


@functools.cache
def breaks_of(name, rows):
    return cuts(*columns_of(name, rows))


@functools.cache
def pooled_card(name, rows):
    """Bins, coefficients, points per bin and scores of one table."""
    (X, y), breaks = columns_of(name, rows), breaks_of(name, rows)
    with quiet():
        import scorecardpy
        import statsmodels.api as sm

        table = X[list(breaks)].assign(**{LABEL: y.astype(int)})
        bins = scorecardpy.woebin(
            table,
            LABEL,
            breaks_list={name: [*values] for name, values in breaks.items()},
            positive=f"{LABEL}|1",
            no_cores=1,
            print_step=0,
            ignore_datetime_cols=False,
            replace_blank=False,
        )
        woe = scorecardpy.woebin_ply(table, bins, no_cores=1, print_step=0, replace_blank=False)
        columns = [f"{name}_woe" for name in breaks]
        fitted = sm.GLM(
            y, sm.add_constant(woe[columns].astype(float)), family=sm.families.Binomial()
        ).fit(tol=1e-12)
        made = scorecardpy.scorecard(
            bins, fitted, columns, points0=600, odds0=1 / 50, pdo=20, basepoints_eq0=True
        )
        scores = scorecardpy.scorecard_ply(
            X[list(breaks)], made, print_step=0, replace_blank_na=False
        )["score"]
    coef = {name: fitted.params[f"{name}_woe"] for name in breaks}
    return bins, made, coef, float(fitted.params["const"]), scores.to_numpy(np.float64)


def compare(name, rows, n_providers, exact=True):
    (X, y), breaks = columns_of(name, rows), breaks_of(name, rows)
    card, frame = joint_card(X, y, breaks, n_providers, exact)
    bins, made, coef, intercept, scores = pooled_card(name, rows)

    assert abs(card.share_.intercept - intercept) < (1e-3 if exact else 1e-2)
    assert {c.label for c in card.share_.characteristics} == set(breaks)
    n_bins = off = 0
    for c in card.share_.characteristics:
        theirs = bins[c.label]
        # scorecardpy puts the missing bin first, we put it last.
        order = np.argsort(theirs["bin"].astype(str).to_numpy() == "missing", kind="stable")
        filled = c.has_bins
        np.testing.assert_array_equal(c.count[filled], theirs["count"].to_numpy()[order])
        np.testing.assert_allclose(c.woe[filled], theirs["woe"].to_numpy(float)[order], atol=1e-12)
        assert abs(c.coef - coef[c.label]) < (1e-3 if exact else 0.05 * c.standard_error)
        points = made[c.label]["points"].to_numpy(np.float64)[order]
        difference = np.abs(c.points[filled] - points)
        assert difference.max() <= 1
        n_bins, off = n_bins + len(points), off + int(difference.sum())
    assert off <= (0.1 if exact else 0.5) * n_bins

    by_id = pd.Series(card.points(frame).to_numpy(np.float64), index=frame.ids).sort_index()
    ours = by_id.to_numpy()
    assert np.abs(ours - scores).max() <= max(1, off)
    assert abs(auc(y, -ours) - auc(y, -scores)) < (5e-4 if exact else 2e-3)
    # A point more or less can move a few events across the place where KS is largest.
    assert abs(ks(y, -ours) - ks(y, -scores)) < (5e-4 if exact else 2 / y.sum())
    for party in card.providers_:
        own = own_table(frame.federation.engines[party], card.model_id_)
        assert own["points"].tolist() == card.table().query("party == @party")["points"].tolist()


@pytest.mark.parametrize("n_providers", [1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_synthetic(n_providers):
    compare("synthetic", 2_500, n_providers)


def test_with_predictors_rounded_at_random():
    compare("synthetic", 2_500, 2, exact=False)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "n_providers"),
    [
        ("default_credit", 2),
        ("give_me_some_credit", 1),
        *(
            pytest.param(name, n, marks=pytest.mark.slow)
            for name, n in (
                ("default_credit", 1),
                ("default_credit", 3),
                ("give_me_some_credit", 2),
                ("give_me_some_credit", 3),
            )
        ),
    ],
)
def test_real_data(name, n_providers):
    compare(name, 4_000, n_providers)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("n_providers", [1, 2, 3])
@pytest.mark.parametrize("name", ["default_credit", "give_me_some_credit"])
def test_real_data_in_full(name, n_providers):
    compare(name, None, n_providers)
