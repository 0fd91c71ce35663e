"""Reads a TOML table into a frozen dataclass by the types of its fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from fedcredit.errors import InputError
from fedcredit.governance.section import Section

__all__ = ["read_fields"]

T = TypeVar("T")


def read_fields(section: Section, kind: type[T]) -> T:
    """Take every field of ``kind`` out of a table; what is not there keeps its default.

    Parameters
    ----------
    section : Section
        Nothing may be left in it afterwards.
    kind : dataclass
        Its fields are whole or other numbers, flags, texts, choices (``Literal``), tuples of
        texts or mappings of texts, all with a default. None stands for "no limit".

    Raises
    ------
    ConfigError
        The table holds an unknown key, or a value of the wrong type or out of range.
    """
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name, default, hint = field.name, field.default, hints[field.name]
        if not section.present(name):
            continue
        if get_origin(hint) is Literal:
            values[name] = section.choice(name, get_args(hint))
        elif get_origin(hint) is Mapping:
            values[name] = section.text_map(name)
        elif isinstance(default, bool):
            values[name] = section.flag(name, default=default)
        elif isinstance(default, int) or default is None:
            values[name] = section.integer(name, minimum=0)
        elif isinstance(default, tuple):
            values[name] = section.texts(name)
        elif isinstance(default, float):
            values[name] = section.number(name, minimum=0.0)
        else:
            values[name] = section.text(name)
    section.finish()
    try:
        return kind(**values)
    except InputError as error:
        section.fail(error.reason.rstrip("."), error.fix)
