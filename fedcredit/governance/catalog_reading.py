"""Reading a catalog's file strictly: what is misspelt or contradicts itself is refused."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from fedcredit.errors import InputError
from fedcredit.governance.catalog_fields import (
    DEFAULT_AGGREGATION,
    GRAINS,
    SHARINGS,
    TYPES,
    CatalogField,
)
from fedcredit.governance.predicate_values import Scalar
from fedcredit.governance.predicates import Aggregate, Operator, Predicate
from fedcredit.governance.section import Section

__all__ = ["read_catalog"]

_PREDICATE_ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_MAX_TEXT = 300


def read_catalog(values: Mapping[str, Any], file: Path) -> tuple[str, str, dict[str, CatalogField]]:
    """Return provider, version and fields of a catalog as TOML gives it.

    Raises
    ------
    ConfigError
        See :meth:`fedcredit.governance.catalog.Catalog.load`.
    """
    top = Section(file, "", values)
    head = top.table("catalog")
    provider, version = head.party("provider"), head.text("version")
    head.finish()
    listed = top.table("fields")
    top.finish()
    if not listed.names():
        listed.fail("lists no field", "write one table [fields.<name>] per field")
    fields = {name: _read_field(listed.table(name), name) for name in listed.names()}
    _check_together(listed, fields)
    return provider, version, fields


def _read_field(section: Section, name: str) -> CatalogField:
    kind = section.choice("type", TYPES)
    try:
        entry = CatalogField(
            name,
            kind,
            grade=section.integer("grade", minimum=1, maximum=5),
            sharing=section.choice("sharing", SHARINGS),
            unit=section.text_or_empty("unit"),
            description=section.text_or_empty("description"),
            uses=section.texts("uses"),
            purposes=section.texts("purposes"),
            min_aggregation=section.integer("min_aggregation", minimum=1)
            if section.present("min_aggregation")
            else DEFAULT_AGGREGATION,
            reason_grain=section.choice("reason_grain", GRAINS, "party"),
            group=section.text_or_empty("group"),
        )
    except InputError as error:
        section.fail(error.reason.removesuffix("."), error.fix)
    predicates = tuple(_read_predicate(part, entry) for part in section.tables("predicates"))
    section.finish()
    return replace(entry, predicates=predicates)


def _read_predicate(section: Section, entry: CatalogField) -> Predicate:
    name, text = section.text("id"), section.text("text")
    if _PREDICATE_ID.fullmatch(name) is None:
        section.fail(
            "'id' cannot name a predicate",
            "use 1 to 63 of a-z, 0-9, - and _, starting and ending with a letter or digit",
        )
    if len(text) > _MAX_TEXT or not text.isprintable():
        section.fail(f"'text' is longer than {_MAX_TEXT} characters or not printable")
    tolerances = _scalars(section, "tolerances")
    if not all(isinstance(step, int) and not isinstance(step, bool) for step in tolerances):
        section.fail("'tolerances' must be whole numbers")
    try:
        predicate = Predicate(
            name,
            entry.name,
            entry.type,
            text,
            section.choice("operator", get_args(Operator)),
            thresholds=_scalars(section, "thresholds"),
            values=_scalars(section, "values"),
            resolution=section.number("resolution", minimum=0.0)
            if section.present("resolution")
            else 0.0,
            tolerances=cast("tuple[int, ...]", tolerances),
            over=section.texts("over"),
            aggregate=section.choice("aggregate", get_args(Aggregate))
            if section.present("aggregate")
            else "",
        )
    except InputError as error:
        section.fail(f"(predicate {name!r}): {error.reason.removesuffix('.')}", error.fix)
    section.finish()
    return predicate


def _scalars(section: Section, key: str) -> tuple[Scalar, ...]:
    made: list[Scalar] = []
    for value in section.items(key):
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            made.append(value.isoformat())
        elif isinstance(value, bool | int | float | str):
            made.append(value)
        else:
            section.fail(f"{key!r} must be a list of numbers, texts, flags or dates")
    return tuple(made)


def _check_together(listed: Section, fields: Mapping[str, CatalogField]) -> None:
    """Refuse what only the fields together can contradict."""
    keys = [n for n, entry in fields.items() if entry.type == "id" and "alignment" in entry.uses]
    if len(keys) > 1:
        listed.fail(
            f"has two keys for alignment, {keys[0]!r} and {keys[1]!r}",
            "leave alignment with the field that holds the enterprises' codes",
        )
    seen: set[str] = set()
    for entry in fields.values():
        for predicate in entry.predicates:
            if predicate.id in seen:
                listed.fail(f"has two predicates with the id {predicate.id!r}", "rename one")
            seen.add(predicate.id)
            for name in predicate.over:
                if name not in fields:
                    listed.fail(
                        f"has no field {name!r}, over which {predicate.id!r} is",
                        "list it, or correct 'over'",
                    )
                if fields[name].type != entry.type:
                    listed.fail(
                        f"gives {name!r} another type than {entry.name!r}, whose predicate "
                        f"{predicate.id!r} is over both",
                        "correct the type, or 'over'",
                    )
