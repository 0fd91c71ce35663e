"""Reports as JSON documents: dataclasses to plain values and back, checked by their annotations."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from fedcredit.errors import InputError

__all__ = ["FORMAT", "from_dict", "to_dict"]

#: Name and version of the training report; raised with every change that old readers cannot take.
FORMAT = "fedcredit.training_report/1"

T = TypeVar("T")


def to_dict(report: Any, format: str = FORMAT) -> dict[str, Any]:
    """Return a report dataclass as strict JSON values, with its ``format``.

    Not-a-number and infinite values become None.
    """
    return {"format": format, **_plain(report)}


def from_dict(cls: type[T], values: Mapping[str, Any], format: str = FORMAT) -> T:
    """Build a report dataclass from :func:`to_dict`'s result.

    Raises
    ------
    InputError
        Another format or version, a missing or unknown entry, a value of the wrong type.
    """
    if values.get("format") != format:
        raise InputError(
            "this is not a report of the version that this package reads.",
            step="read report",
            fix=f"pass a document of format {format}",
        )
    return typing.cast(T, _build(cls, {k: v for k, v in values.items() if k != "format"}, "report"))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _build(hint: Any, value: Any, where: str) -> Any:
    """Return ``value`` as the annotated type ``hint``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build_dataclass(hint, value, where)
    if origin is typing.Literal:
        if value in args:
            return value
    elif origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        structured = [a for a in args if dataclasses.is_dataclass(a) or typing.get_origin(a)]
        if structured:
            return _build(structured[0], value, where)
        if isinstance(value, int) and not isinstance(value, bool) and int not in args:
            value = float(value)
        if isinstance(value, args) and (bool in args or not isinstance(value, bool)):
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_build(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    elif origin is Mapping:
        if isinstance(value, Mapping):
            return {str(k): _build(args[1], v, f"{where}.{k}") for k, v in value.items()}
    elif hint is datetime:
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                pass
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise InputError(f"{where} has a value of the wrong type.", step="read report")


def _build_dataclass(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} has a value of the wrong type.", step="read report")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = set(value) - set(fields)
    missing = [
        f.name
        for f in fields.values()
        if f.name not in value
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if unknown or missing:
        parts = [f"misses {', '.join(missing)}"] if missing else []
        parts += [f"has {len(unknown)} unknown entries"] if unknown else []
        raise InputError(f"{where} {' and '.join(parts)}.", step="read report")
    return cls(**{k: _build(hints[k], v, f"{where}.{k}") for k, v in value.items()})
