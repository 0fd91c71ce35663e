"""Small tables of a platform and two providers, and what an error must look like."""

import numpy as np
import pandas as pd

import fedcredit as fc

LABEL = "bad"
FEATURES = {
    "platform": ["age", "debt"],
    "tax": ["paid", "growth", "sector"],
    "social": ["staff", "arrears"],
}
#: Without floors, so that joint bins are those of the pooled table.
OPEN = fc.ProviderPolicy(
    min_intersection=1, min_bin_count=1, min_node_rows=1, release_feature_names=True
)


def tables(n=240, seed=0, shuffle=True):
    """One table per party; every party knows every enterprise, in an order of its own."""
    rng = np.random.default_rng(seed)
    pooled = pd.DataFrame(
        {
            "age": rng.integers(1, 30, n).astype(float),
            "debt": np.round(rng.lognormal(size=n), 3),
            "paid": np.round(rng.normal(size=n), 3),
            "growth": np.where(rng.random(n) < 0.2, np.nan, np.round(rng.normal(size=n), 3)),
            "sector": rng.integers(0, 4, n),
            "staff": rng.integers(1, 40, n),
            "arrears": np.round(rng.exponential(size=n), 3),
        }
    )
    z = pooled["paid"] + 0.8 * pooled["growth"].fillna(1.5) - 0.05 * pooled["staff"]
    z += pooled["debt"] + 0.5 * (pooled["sector"] == 2) - 1
    pooled[LABEL] = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    pooled["amount"] = z + rng.normal(size=n)
    pooled["weight"] = rng.integers(1, 4, n).astype(float)
    pooled.insert(0, "id", [f"Q{number:08d}" for number in rng.permutation(n) + 70_000_000])
    parts = {}
    for party, columns in FEATURES.items():
        own = [LABEL] if party == "platform" else []
        part = pooled[["id", *columns, *own]]
        order = rng.permutation(n) if shuffle else np.arange(n)
        parts[party] = part.iloc[order].reset_index(drop=True)
    return parts, pooled


def tables_with_target(**options):
    """The same tables with a target for regression and weights at the platform."""
    parts, pooled = tables(**options)
    extra = pooled[["id", "amount", "weight"]]
    parts["platform"] = parts["platform"].merge(extra, on="id", validate="one_to_one")
    return parts, pooled


def federation(parts, policy=OPEN, **options):
    """Simulate the parties of `tables`."""
    return fc.simulate(**parts, policy=policy, threads=1, **options)


_SETTINGS = {
    "n_estimators": 2,
    "max_depth": 2,
    "min_child_samples": 5,
    "min_child_rows": 0,
    "random_state": 0,
}


def classifier(**options):
    """A classifier that is fitted in well under a second."""
    return fc.VerticalGBDTClassifier(**(_SETTINGS | options))


def regressor(**options):
    return fc.VerticalGBDTRegressor(**(_SETTINGS | options))


def quick(**options):
    """Without providers, where only the platform's part is of interest."""
    return classifier(**({"n_estimators": 1, "features": ["age", "debt"]} | options))


def same_trees(one, other):
    """Whether two models split alike and have the same leaves."""
    return len(one.state_.trees) == len(other.state_.trees) and all(
        a.to_dict() == b.to_dict()
        for a, b in zip(one.state_.trees, other.state_.trees, strict=True)
    )


def assert_helpful(error, *, party=None, secrets=()):
    """An error names step and fix, the party where it is known, and quotes no data."""
    text = str(error)
    assert error.step, text
    assert error.fix, text
    assert "Fix: " in text
    if party is not None:
        assert error.party == party, text
    assert not [secret for secret in secrets if str(secret) in text]
