"""What every data set of this package is returned as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

__all__ = ["Field", "VerticalData"]


class Field(NamedTuple):
    """One entry of a data dictionary.

    Attributes
    ----------
    unit : str
        Unit, ``"category"``, ``"0/1"`` or ``"count"``.
    description : str
        Meaning, and why the value may be missing.
    """

    unit: str
    description: str


@dataclass(frozen=True, repr=False, eq=False)
class VerticalData:
    """One table of each party, to be aligned on an id column that all of them have.

    Attributes
    ----------
    name : str
        Name of the data set in `fedcredit.datasets.DATASETS`.
    platform : pandas.DataFrame
        The label holder's table: key, features, label.
    providers : dict of str to pandas.DataFrame
        The data providers' tables by party name: key, features.
    key : str
        Name of the id column, the same at every party.
    label : str
        Name of the label column, in `platform` only; 1 is the event (default).
    target : str
        What the label means.
    categorical : dict of str to list of str
        By party (``"platform"`` among them) the feature columns that are unordered categories.
    dictionary : dict of str to Field
        Data dictionary by ``"party.column"``.
    """

    name: str
    platform: pd.DataFrame
    providers: dict[str, pd.DataFrame]
    key: str
    label: str
    target: str
    categorical: dict[str, list[str]]
    dictionary: dict[str, Field]

    @property
    def parties(self) -> dict[str, pd.DataFrame]:
        """Every party's table by name, the platform first."""
        return {"platform": self.platform, **self.providers}

    def __repr__(self) -> str:
        tables = ", ".join(f"{name} {table.shape}" for name, table in self.parties.items())
        return f"VerticalData({self.name!r}: {tables}; key={self.key!r}, label={self.label!r})"
