"""A whole scorecard over processes: the estimators and engines of :mod:`fedcredit.models`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import fedcredit as fc
from benchmarks.parties import LABEL, Party, TcpBackend
from benchmarks.scorecard_data import labels, raw_columns
from fedcredit.governance.catalog import Catalog
from fedcredit.models.engine import ProviderEngine
from fedcredit.models.federation import Federation
from fedcredit.wire import Peers

ID, TARGET = "id", "bad"
#: Weak features stay in, so that the regression is as large as the data.
SELECTOR = {"min_iv": 0.002}
#: A card takes a few fits, with one reveal each, and one for the points.
POLICY = fc.ProviderPolicy(release_feature_names=True, max_revealed_predictors=20)


def table(rows: int, features: Sequence[int]) -> pd.DataFrame:
    """One party's columns with ids."""
    columns = raw_columns(rows, features)
    out = pd.DataFrame({f"f{f}": values for f, values in zip(features, columns, strict=True)})
    out.insert(0, ID, [f"91{number:016d}" for number in range(rows)])
    return out


def make_card(prebins: int) -> fc.VerticalScorecard:
    """Return the card to fit, joint or pooled."""
    return fc.VerticalScorecard(binner={"prebins": prebins}, selector=SELECTOR)


def coefficients_of(card: fc.VerticalScorecard) -> dict[str, float]:
    """Coefficients by column."""
    return {c.name.partition(".")[2]: c.coef or 0.0 for c in card.share_.characteristics}


def card_holder(party: Party, case: Any) -> dict[str, Any]:
    """Align, fit a card with the providers and score every row."""
    shape = case.shape
    own = table(shape.rows, shape.features(LABEL))
    own[TARGET] = labels(shape.rows, shape.width)
    with Federation(TcpBackend(party), own) as federation:
        card = make_card(case.prebins)
        party.wait()
        with party.measured() as span:
            frame = federation.align(on=ID, id_kind="text")
            card.fit(frame, TARGET)
            points = card.points(frame)
        phases = federation.phase_seconds()
    party.dismiss()
    back = np.empty(shape.rows, np.int64)
    back[[int(one[2:]) for one in frame.ids]] = points
    return {
        "span": span,
        "coef": coefficients_of(card),
        "points": back,
        "phases": phases,
        "fits": card.n_fits_,
    }


def card_provider(party: Party, case: Any) -> dict[str, Any]:
    """Serve sessions until there are no more."""
    columns = table(case.shape.rows, case.shape.features(party.name))
    engine = ProviderEngine(
        party.name,
        columns,
        catalog=Catalog.open_for(columns, provider=party.name),
        policy=POLICY,
        threads=case.threads,
    )
    call = party.called()
    with party.measured() as span:
        while call is not None:
            names = (LABEL, *(name for name in call[1] if name != party.name))
            party.answer(engine.serve(Peers(names), LABEL), call)
            call = party.called()
    return {"span": span}


def pooled_card(case: Any) -> tuple[float, dict[str, float], npt.NDArray[np.int64]]:
    """Fit and score with all columns in one table; return seconds, coefficients and points."""
    shape = case.shape
    columns = table(shape.rows, range(shape.width)).drop(columns=ID)
    y = labels(shape.rows, shape.width)
    started = time.perf_counter()
    card = make_card(case.prebins).fit(columns, y)
    points = card.points(columns).to_numpy()
    return time.perf_counter() - started, coefficients_of(card), points
