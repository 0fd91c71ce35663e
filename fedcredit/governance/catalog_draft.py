"""Catalogs and tables: a first catalog for a table, and whether the two still fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import pandas as pd
from pandas.api import types as dtypes

from fedcredit.errors import InputError
from fedcredit.governance.catalog_fields import GRADES, GRAINS, SHARINGS, TYPES, USES
from fedcredit.governance.predicate_values import column_values
from fedcredit.governance.question import PURPOSES

if TYPE_CHECKING:
    from fedcredit.governance.catalog import Catalog

__all__ = ["Finding", "check_catalog", "draft_catalog", "guess_type"]

_DRAFT_GRADE = 3
_HEAD = """\
# Field catalog of {provider}: what may be used for what. What is not listed here is denied.
# This is a draft from the table's columns; `fedcredit catalog check` compares it with the table.
# Review every field before the party is started:
{review}

[catalog]
provider = {name}
version = "1"
"""
_REVIEW: dict[str, Sequence[str]] = {
    "type": [", ".join(TYPES)],
    "unit, description": ["what the number means, for those who ask about it"],
    "grade": [
        "data level of JR/T 0197-2020; 4 is not verified, 5 is used for nothing",
        *(f"{grade}  {meaning}" for grade, meaning in GRADES.items()),
    ],
    "sharing": [", ".join(SHARINGS), "scoring and verification need consent in any case"],
    "uses": [", ".join(USES), "verification needs predicates: [[fields.<name>.predicates]]"],
    "purposes": ["of scoring and verification:", *PURPOSES],
    "min_aggregation": ["fewest rows of a bin or sum over the field, and of a training job"],
    "reason_grain": ["how finely a reason for a score may name it: " + ", ".join(GRAINS)],
}
_FIELD = """
[fields.{key}]
type = "{type}"
unit = ""
description = ""
grade = {grade}
sharing = "{sharing}"
uses = {uses}
purposes = {purposes}
min_aggregation = 10
reason_grain = "feature"
"""


class Finding(NamedTuple):
    """What a check has found: an ``error`` keeps something from working, a ``note`` does not."""

    level: Literal["error", "note"]
    field: str
    text: str


def guess_type(series: pd.Series) -> str:
    """Guess a field's type from a column's dtype: flag, integer, number, date or category."""
    dtype = series.dtype
    if dtypes.is_bool_dtype(dtype):
        return "flag"
    if dtypes.is_integer_dtype(dtype):
        return "integer"
    if dtypes.is_numeric_dtype(dtype):
        return "number"
    if dtypes.is_datetime64_any_dtype(dtype):
        return "date"
    inferred = dtypes.infer_dtype(series, skipna=True)
    return {"boolean": "flag", "date": "date", "decimal": "number"}.get(inferred, "category")


def draft_catalog(
    frame: pd.DataFrame,
    *,
    provider: str,
    key: str | None = None,
    categorical: Sequence[str] = (),
    withheld: Sequence[str] = (),
) -> str:
    """Return the text of a catalog file; see :meth:`Catalog.draft`."""
    review = [
        f"#   {key if number == 0 else '':<18} {line}"
        for key, lines in _REVIEW.items()
        for number, line in enumerate(lines)
    ]
    text = _HEAD.format(provider=provider, name=json.dumps(provider), review="\n".join(review))
    for column in frame.columns:
        name = str(column)
        kind = guess_type(frame[column])
        uses, purposes, sharing = ["training", "scoring"], list(PURPOSES), "consent"
        if name in categorical:
            kind = "category"
        if name == key:
            kind, uses, purposes = "id", ["alignment"], []
        if name in withheld:
            uses, purposes, sharing = [], [], "never"
        text += _FIELD.format(
            key=json.dumps(name, ensure_ascii=False),
            type=kind,
            grade=_DRAFT_GRADE,
            sharing=sharing,
            uses=json.dumps(uses),
            purposes=json.dumps(purposes),
        )
    return text


def check_catalog(catalog: Catalog, frame: pd.DataFrame | None = None) -> list[Finding]:
    """Look for what a catalog says in vain, and for what does not fit its table.

    Parameters
    ----------
    catalog : Catalog
    frame : pandas.DataFrame, optional
        The provider's table.

    Returns
    -------
    list of Finding
        No value of the table stands in it.
    """
    found = [Finding("note", name, text) for name, text in _in_vain(catalog)]
    if frame is None:
        return found
    columns = [str(column) for column in frame.columns]
    found += [
        Finding("note", name, "is a column without an entry: it is denied for every use")
        for name in columns
        if name not in catalog.fields
    ]
    for name, entry in catalog.fields.items():
        if name not in columns:
            found.append(Finding("error", name, "is an entry without a column"))
            continue
        try:
            column_values(frame, name, entry.type)
        except InputError:
            found.append(
                Finding(
                    "error",
                    name,
                    f"does not hold values of type {entry.type}; "
                    f"the column looks like {guess_type(frame[name])}",
                )
            )
    for predicate in catalog.predicates().values():
        try:
            if predicate.operator == "declared":
                predicate.steps(frame)
            else:
                predicate.at(next(iter(predicate.thresholds), None)).evaluate(frame)
        except InputError as error:
            found.append(
                Finding(
                    "error",
                    predicate.field,
                    f"has the predicate {predicate.id!r}, which cannot be evaluated: "
                    f"{error.reason.removesuffix('.')}",
                )
            )
    return found


def _in_vain(catalog: Catalog) -> list[tuple[str, str]]:
    """Return the settings that another setting makes useless, by field."""
    found = []
    if catalog.key_field is None and not catalog.allowed("alignment"):
        found.append(("", "no field is open for alignment"))
    for name, entry in catalog.fields.items():
        for use in entry.uses:
            denial = entry.denial(use)
            if denial is not None:
                found.append((name, f"lists the use {use} but {denial.reason}"))
        for predicate in entry.predicates:
            closed = [
                part
                for part in dict.fromkeys((name, *predicate.fields))
                if catalog.fields[part].denial("verification") is not None
            ]
            if closed:
                found.append(
                    (
                        name,
                        f"has the predicate {predicate.id!r}, but {closed[0]!r} is not open for "
                        "verification",
                    )
                )
        if entry.purposes and not {"scoring", "verification"} & set(entry.uses):
            found.append((name, "lists purposes but neither scoring nor verification"))
    return found
