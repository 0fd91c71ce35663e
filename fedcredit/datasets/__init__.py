"""A synthetic SME population, and loaders that cut real credit data between parties.

`load` gives any of them by name; every data set is a `VerticalData`: one table per party, the
name of the id column, of the label and of the categorical columns, and a data dictionary. The
package ships no real data: the loaders read files that the user has, or fetch them from
openml.org on request.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from fedcredit.datasets._credit import load_default_credit, load_give_me_some_credit
from fedcredit.datasets._invoices import load_cumcm2020c
from fedcredit.datasets._population import SmePopulation, make_sme_population
from fedcredit.datasets._vertical import Field, VerticalData
from fedcredit.errors import InputError

__all__ = [
    "DATASETS",
    "Field",
    "SmePopulation",
    "VerticalData",
    "load",
    "load_cumcm2020c",
    "load_default_credit",
    "load_give_me_some_credit",
    "make_sme_population",
]


def _load_sme(
    path: str | os.PathLike[str] | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    dirty: bool = True,
) -> VerticalData:
    """Draw the synthetic population, of 20,000 enterprises by default; it needs no file."""
    if path is not None:
        raise InputError(
            "The synthetic data set reads no file.", step="load sme", fix="leave the path out"
        )
    return make_sme_population(20_000 if n is None else n, seed, dirty=dirty).vertical()


DATASETS: Final[dict[str, Callable[..., VerticalData]]] = {
    "sme": _load_sme,
    "default-credit": load_default_credit,
    "give-me-some-credit": load_give_me_some_credit,
    "cumcm2020c": load_cumcm2020c,
}
"""The loaders by name."""


def load(
    name: str,
    data: str | os.PathLike[str] | None = None,
    n: int | None = None,
    seed: int = 0,
    *,
    dirty: bool | None = None,
) -> VerticalData:
    """Load a data set by name.

    Parameters
    ----------
    name : {"sme", "default-credit", "give-me-some-credit", "cumcm2020c"}
    data : path-like, optional
        Where the files of a real data set are; by default ``$FEDCREDIT_DATA``.
    n : int, optional
        Rows: of the synthetic population 20,000 by default, of a real set a sample of all.
    seed : int
        For the population, the sample and the dirt.
    dirty : bool, optional
        Whether the ids are as dirty as real ones and the parties hold different rows; by default
        so for ``"sme"`` only.

    Returns
    -------
    VerticalData

    Raises
    ------
    InputError
        If there is no such data set, the file is another, or `n` or `seed` does not fit.
    ConfigError
        If the files are not there.
    """
    try:
        loader = DATASETS[name]
    except KeyError:
        raise InputError(
            "There is no such data set.", step="load", fix=f"use one of {', '.join(DATASETS)}"
        ) from None
    options: dict[str, Any] = {"n": n, "seed": seed}
    if dirty is not None:
        options["dirty"] = dirty
    return loader(data, **options)
