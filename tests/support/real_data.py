"""The two public credit data sets, where a machine has them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
# Columns without an order, by data set.
CATEGORICAL = {"default_credit": ["SEX", "EDUCATION", "MARRIAGE"], "give_me_some_credit": []}
_FILES = {
    "default_credit": ("default_credit/UCI_Credit_Card.csv.gz", "default.payment.next.month"),
    "give_me_some_credit": ("give_me_some_credit/cs-training.csv.gz", "SeriousDlqin2yrs"),
}


def data_directory() -> Path:
    return Path(os.environ.get("FEDCREDIT_DATA", ROOT.parent / "shared" / "data"))


@functools.cache
def _read(name: str) -> tuple[pd.DataFrame, np.ndarray] | None:
    file, label = _FILES[name]
    path = data_directory() / file
    if not path.is_file():
        return None
    frame = pd.read_csv(path)
    y = frame[label].to_numpy(np.float64)
    identifiers = [c for c in frame.columns if c.startswith("Unnamed") or c in ("", "ID", "id")]
    return frame.drop(columns=[label, *identifiers]).astype(np.float64), y


def load_real(name: str, rows: int | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return features and labels, or skip the test that asks; `rows` takes a seeded sample."""
    found = _read(name)
    if found is None:
        pytest.skip(f"{_FILES[name][0]} is not in {data_directory()} (set FEDCREDIT_DATA)")
    X, y = found
    if rows is not None:
        chosen = np.sort(np.random.default_rng(0).choice(len(y), rows, replace=False))
        X, y = X.iloc[chosen].reset_index(drop=True), y[chosen]
    return X, y
