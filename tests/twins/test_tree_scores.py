"""What an institution reads from the parties' words is the raw score that joint prediction gives.

Within the rounding of leaf values: ``n_trees * 2**-(scale_bits + 1)``, and 1e-12 for the order of
float sums.
"""

import numpy as np
import pandas as pd
import pytest

import fedcredit as fc
from tests.support.parties import OPEN, classifier
from tests.support.real_data import load_real
from tests.support.served_trees import Served, sme_tables

ROWS = 1000


def assert_twin(served, raw):
    """Every row within the tolerance; a row flagged by chance is asked for again."""
    scores, ok = served.scores()
    assert ok.mean() > 0.99
    again, ok_again = served.scores()
    scores = np.where(ok, scores, again)
    assert (ok | ok_again).all()
    assert np.abs(scores - raw).max() <= served.platform.tolerance + 1e-12
    # The words are fresh, the scores the same.
    both = ok & ok_again
    np.testing.assert_array_equal(scores[both], again[both])


@pytest.mark.parametrize(
    "n_providers", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3)), 5]
)
def test_enterprises(n_providers):
    tables = sme_tables(2500, n_providers)
    coded = {"tax": ["late_filings_12m", "zero_declaration_months"], "platform": ["enquiries_6m"]}
    federation = fc.simulate(**tables, policy=OPEN, categorical=coded, threads=1)
    frame = federation.align(on="uscc")
    # The alignment is in an order of its own.
    frame = frame.take(np.sort(np.argsort(frame.own_rows)[:ROWS]))
    model = classifier(n_estimators=5, max_depth=4, hide_membership=False)
    model.fit(frame, y="default")
    served = Served.of(model, frame)
    assert len(served.platform.owners) == n_providers
    parts = served.parts().values()
    assert any(split.is_categorical for part in parts for split in part.splits)
    assert any(split.missing_bin >= 0 for part in parts for split in part.splits)
    assert_twin(served, model.decision_function(frame))


@pytest.mark.realdata
@pytest.mark.parametrize("n_providers", [1, 3])
def test_real_data(n_providers):
    X, y = load_real("default_credit", 3000)
    parties = ("platform", "tax", "social", "housing")[: n_providers + 1]
    tables = {name: X[X.columns[i :: len(parties)]].copy() for i, name in enumerate(parties)}
    tables["platform"]["bad"] = y.astype(int)
    ids = pd.Series([f"Q{number:08d}" for number in range(len(X))])
    for table in tables.values():
        table.insert(0, "id", ids)
    coded = ["SEX", "EDUCATION", "MARRIAGE"]
    categorical = {name: [c for c in coded if c in table] for name, table in tables.items()}
    federation = fc.simulate(**tables, policy=OPEN, categorical=categorical, threads=1)
    frame = federation.align(on="id")
    model = classifier(n_estimators=3, max_depth=4, hide_membership=False).fit(frame, y="bad")
    served = Served.of(model, frame)
    assert len(served.platform.owners) == n_providers
    assert_twin(served, model.decision_function(frame))
