"""Where the files of the real data sets are, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from fedcredit.errors import ConfigError, InputError

__all__ = ["binary_label", "fetch_openml", "locate", "read_csv", "require_columns", "sample_rows"]

DATA_VARIABLE = "FEDCREDIT_DATA"


def locate(path: str | os.PathLike[str] | None, folder: str, file: str, *, name: str) -> Path:
    """Find a data file, plain or gzipped.

    Parameters
    ----------
    path : path-like, optional
        The file itself, its folder, or the folder above; by default ``$FEDCREDIT_DATA``.
    folder, file : str
        Usual names of folder and file, the latter without ``.gz``.
    name : str
        Name of the data set, for the message.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ConfigError
        If there is neither `path` nor the variable, or no such file.
    """
    given = path if path is not None else os.environ.get(DATA_VARIABLE)
    step = f"load {name}"
    if not given:
        raise ConfigError(
            f"There is no folder to read {name} from; the package ships no real data.",
            step=step,
            fix=f"set {DATA_VARIABLE}, or pass the path, to a folder with {folder}/{file}",
        )
    root = Path(given)
    if root.is_file():
        return root
    for directory in (root / folder, root):
        for candidate in (directory / f"{file}.gz", directory / file):
            if candidate.is_file():
                return candidate
    raise ConfigError(
        f"The file {file} (or {file}.gz) of {name} is not there.",
        step=step,
        fix=f"point {DATA_VARIABLE}, or the path, to the folder that holds {folder}/",
    )


def read_csv(path: Path, *, name: str) -> pd.DataFrame:
    """Read a UTF-8 CSV file, gzipped or not; ``NA`` and empty fields are missing.

    Raises
    ------
    InputError
        If the file cannot be read as a CSV table.
    """
    try:
        return pa.csv.read_csv(path).to_pandas()
    except (pa.ArrowException, OSError):
        # Arrow's message would quote the row.
        raise InputError(
            f"The file {path.name} is no readable CSV table.",
            step=f"load {name}",
            fix="fetch the file again",
        ) from None


def fetch_openml(data_id: int, *, rows: int, name: str) -> pd.DataFrame:
    """Download a table from openml.org; scikit-learn keeps it in its cache.

    Raises
    ------
    ConfigError
        If the download fails.
    InputError
        If the table has another number of rows than the data set.
    """
    from sklearn import datasets as sklearn_datasets

    step = f"load {name}"
    try:
        frame = sklearn_datasets.fetch_openml(data_id=data_id, as_frame=True, parser="auto").frame
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Data set {data_id} could not be fetched from openml.org ({type(error).__name__}).",
            step=step,
            fix=f"check the network, or set {DATA_VARIABLE} to a folder with the file",
        ) from error
    if len(frame) != rows:
        raise InputError(
            f"openml.org data set {data_id} has {len(frame)} rows instead of {rows}.",
            step=step,
            fix="read the file instead",
        )
    return frame


def require_columns(table: pd.DataFrame, columns: Sequence[str], *, name: str) -> None:
    """Raise InputError, naming the missing columns, unless the table has all of them."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"The table of {name} lacks the columns {', '.join(missing)}.",
            step=f"load {name}",
            fix="use the original file",
        )


def binary_label(values: Any, *, event: str, no_event: str, name: str) -> Any:
    """Return 0/1 as int8 from numbers, or from the two given words.

    Raises
    ------
    InputError
        If there is any other value, or a missing one.
    """
    words = pd.Series(values).astype(str)
    ones = words.isin([event, "1", "1.0"]).to_numpy()
    zeros = words.isin([no_event, "0", "0.0"]).to_numpy()
    if not bool((ones | zeros).all()):
        raise InputError(
            f"The label of {name} is not binary.", step=f"load {name}", fix="use the original file"
        )
    return ones.astype(np.int8)


def sample_rows(table: pd.DataFrame, n: int | None, seed: int, *, name: str) -> pd.DataFrame:
    """Draw `n` rows without replacement, kept in the order of the file; all rows by default.

    Raises
    ------
    InputError
        If `n` is not positive or more than there are, or `seed` is negative.
    """
    if seed < 0:
        raise InputError("seed must not be negative.", step=f"load {name}")
    if n is None:
        return table
    if not 1 <= n <= len(table):
        raise InputError(
            f"{n} rows were asked for, and {name} has {len(table)}.",
            step=f"load {name}",
            fix=f"ask for 1 to {len(table)}",
        )
    rows = np.random.default_rng(seed).choice(len(table), n, replace=False)
    return table.iloc[np.sort(rows)].reset_index(drop=True)
