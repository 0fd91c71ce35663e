"""From what is true of every enterprise to the table that one party holds."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.datasets import _codes

__all__ = ["KEY", "held_table", "keyed_tables"]

KEY: Final = "uscc"
_DUPLICATED: Final = 0.008
# Shares of the rows that each party of a real set holds once it is made dirty.
_COVERAGE: Final = {"platform": 0.95, "tax": 0.9, "social_security": 0.85}


def held_table(
    rng: np.random.Generator,
    features: pd.DataFrame,
    ids: NDArray[Any],
    rows: NDArray[np.int64],
    *,
    dirty: bool,
) -> pd.DataFrame:
    """Pick rows, enter some twice if `dirty`, shuffle, and spell the ids as systems hold them."""
    if dirty:
        rows = np.concatenate([rows, rows[rng.random(len(rows)) < _DUPLICATED]])
    rows = rng.permutation(rows)
    table = features.take(rows).reset_index(drop=True)
    table.insert(0, KEY, _codes.respell(rng, ids[rows]) if dirty else ids[rows])
    return table


def keyed_tables(
    features: dict[str, pd.DataFrame], *, seed: int, dirty: bool
) -> dict[str, pd.DataFrame]:
    """Give the parties' tables, whose rows correspond, an id column.

    Parameters
    ----------
    features : dict of str to pandas.DataFrame
        One table per party, of n rows each.
    seed : int
        For `dirty`; the clean codes depend on the row number alone.
    dirty : bool
        Let every party lose some rows, shuffle the others and spoil the ids; otherwise row i of
        every table has the same clean code.

    Returns
    -------
    dict of str to pandas.DataFrame
    """
    n = len(next(iter(features.values())))
    fixed = np.random.default_rng(32100)
    region = np.full(n, 310115, dtype=np.int64)
    newer = np.arange(n) % 2 == 1
    ids = _codes.make_codes(fixed, region, newer=newer, entity=np.ones(n, dtype=np.int64))
    if not dirty:
        tables = {party: table.reset_index(drop=True) for party, table in features.items()}
        for table in tables.values():
            table.insert(0, KEY, ids)
        return tables
    old_numbers = _codes.registration_numbers(fixed, region)
    tables = {}
    for stream, (party, table) in enumerate(features.items()):
        rng = np.random.default_rng([seed, stream])
        rows = np.flatnonzero(rng.random(n) < _COVERAGE.get(party, 0.9))
        own_ids = _codes.spoil(rng, ids, old_numbers)
        tables[party] = held_table(rng, table, own_ids, rows, dirty=True)
    return tables
