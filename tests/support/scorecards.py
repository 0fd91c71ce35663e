"""A small scorecard of three parties, and the same numbers from all parties' columns at once."""

import functools

import numpy as np

import fedcredit as fc
from fedcredit.models.engine_binning import woe_columns
from fedcredit.models.engine_linear import reveal_ledger
from tests.support.parties import LABEL, OPEN, federation, tables

N = 1_200
PROVIDERS = ("tax", "social")
#: Nothing but constant features is dropped, so that every card has all of them.
ALL = {"min_iv": None, "max_missing": None, "max_correlation": None, "max_vif": None}
BINS = {"max_bins": 4, "prebins": 8}


def policy(**changes):
    return fc.ProviderPolicy(**({**OPEN.__dict__, "max_revealed_predictors": 40} | changes))


def scorecard(**options):
    return fc.VerticalScorecard(**({"binner": BINS, "selector": ALL} | options))


@functools.cache
def made_up():
    """The tables of the parties, and one with everything."""
    return tables(n=N, seed=3)


def aligned(*providers, **changes):
    """Rows of a fresh federation, whose ledgers are empty; by default with both providers."""
    names = ("platform", *(providers or PROVIDERS))
    parts = {name: made_up()[0][name] for name in names}
    return federation(parts, policy=policy(**changes)).align(on="id")


def pooled_table(frame):
    """All columns of the aligned rows in one table, and the labels."""
    pooled = made_up()[1]
    features = [c for c in pooled.columns if c not in ("id", LABEL, "amount", "weight")]
    rows = pooled.set_index("id").loc[frame.ids]
    return rows[features].reset_index(drop=True), rows[LABEL].reset_index(drop=True)


def used(frame, name):
    """Reveals that are spent for some row of a provider."""
    ledger = reveal_ledger(frame.federation.engines[name], 3)
    positions, _ = frame.federation.engines[name].positions(frame.frame_id, np.sort(frame.rows))
    return ledger.limit - ledger.left(positions)


def row_woe(card, frame, c):
    """Weights of evidence of a characteristic, wherever its column is; shape (n, 1)."""
    if c.party == "platform":
        return card.scoring_binner_.transform_own(frame, [c.name]).to_numpy()
    engine = frame.federation.engines[c.party]
    order = np.argsort(frame.rows)
    woe = np.empty((len(frame), 1))
    rows = engine.rows(frame.frame_id, frame.rows[order])
    woe[order] = woe_columns(engine, card.binner_.binner_id_, [c.label], rows)
    return woe


def exact_log_odds(card, frame):
    """Log-odds of the card's coefficients, from all parties' columns."""
    parts = [c.coef * row_woe(card, frame, c)[:, 0] for c in card.share_.characteristics]
    return card.share_.intercept + np.sum(parts, axis=0)


def label(name):
    return name.partition(".")[2]
