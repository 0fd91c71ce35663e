"""Typed messages: a frozen dataclass per kind, with one Arrow schema derived from its annotations.

A field is one of ``int``, ``float``, ``bool``, ``str``, ``bytes``, ``tuple[int, ...]``,
``tuple[float, ...]``, ``tuple[str, ...]``, ``tuple[bytes, ...]``, or an array alias such as
:data:`U8x2` (element type and number of dimensions). What cannot be stated this way does not
travel; in particular there is no "any" type and no pickle.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = [
    "Array",
    "F64x1",
    "F64x2",
    "Field",
    "I32x1",
    "I64x1",
    "I64x2",
    "I64x3",
    "Message",
    "U8x1",
    "U8x2",
    "U8x3",
    "U16x1",
    "U16x2",
    "U32x1",
    "U32x2",
    "U64x1",
    "U64x2",
    "message_class",
]

#: A message larger than this is refused by the codec unless its class says otherwise (bytes).
DEFAULT_MAX_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Array:
    """Marks an annotation as an array of ``dtype`` with ``ndim`` dimensions."""

    dtype: str
    ndim: int


U8x1 = Annotated[npt.NDArray[np.uint8], Array("u1", 1)]
U8x2 = Annotated[npt.NDArray[np.uint8], Array("u1", 2)]
U8x3 = Annotated[npt.NDArray[np.uint8], Array("u1", 3)]
U16x1 = Annotated[npt.NDArray[np.uint16], Array("u2", 1)]
U16x2 = Annotated[npt.NDArray[np.uint16], Array("u2", 2)]
U32x1 = Annotated[npt.NDArray[np.uint32], Array("u4", 1)]
U32x2 = Annotated[npt.NDArray[np.uint32], Array("u4", 2)]
U64x1 = Annotated[npt.NDArray[np.uint64], Array("u8", 1)]
U64x2 = Annotated[npt.NDArray[np.uint64], Array("u8", 2)]
I32x1 = Annotated[npt.NDArray[np.int32], Array("i4", 1)]
I64x1 = Annotated[npt.NDArray[np.int64], Array("i8", 1)]
I64x2 = Annotated[npt.NDArray[np.int64], Array("i8", 2)]
I64x3 = Annotated[npt.NDArray[np.int64], Array("i8", 3)]
F64x1 = Annotated[npt.NDArray[np.float64], Array("f8", 1)]
F64x2 = Annotated[npt.NDArray[np.float64], Array("f8", 2)]

_SCALARS: dict[Any, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    str: pa.utf8(),
    bytes: pa.large_binary(),
}
_TUPLES: dict[Any, pa.DataType] = {
    tuple[int, ...]: pa.list_(pa.int64()),
    tuple[float, ...]: pa.list_(pa.float64()),
    tuple[str, ...]: pa.list_(pa.utf8()),
    tuple[bytes, ...]: pa.list_(pa.large_binary()),
}


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a message as the codec sees it."""

    name: str
    type: pa.DataType
    array: Array | None
    is_tuple: bool


class Message:
    """Base of every message; subclasses are frozen dataclasses.

    ::

        @dataclass(frozen=True, eq=False, repr=False)
        class Columns(Message, kind="align.columns", version=1, max_bytes=64 << 20):
            \"\"\"Receiver to sender: masked columns; uniform without the receiver's keys.\"\"\"

            first: int
            columns: U64x2

    Parameters
    ----------
    kind : str
        Name on the wire, ``"<protocol>.<message>"``; unique in the process.
    version : int
        Raised with every change of the fields; another version is refused.
    max_bytes : int
        Encoded size that a receiver accepts at most.
    """

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 0
    max_bytes: ClassVar[int] = DEFAULT_MAX_BYTES

    def __init_subclass__(
        cls, *, kind: str, version: int = 1, max_bytes: int = DEFAULT_MAX_BYTES, **rest: Any
    ) -> None:
        super().__init_subclass__(**rest)
        known = _KINDS.get(kind)
        if known is not None and (known.__module__, known.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise TypeError(f"message kind {kind!r} is already taken by {known.__qualname__}")
        cls.kind, cls.version, cls.max_bytes = kind, version, max_bytes
        _KINDS[kind] = cls

    def __repr__(self) -> str:
        """Name the kind and the shapes, never a value."""
        parts = []
        for field in fields_of(type(self)):
            value = getattr(self, field.name)
            if field.array is not None:
                parts.append(f"{field.name}={field.array.dtype}{list(np.shape(value))}")
            elif isinstance(value, tuple | str | bytes):
                parts.append(f"{field.name}=<{len(value)}>")
            else:
                parts.append(field.name)
        return f"{type(self).__name__}({', '.join(parts)})"


_KINDS: dict[str, type[Message]] = {}
_FIELDS: dict[type[Message], tuple[Field, ...]] = {}
_SCHEMAS: dict[type[Message], pa.Schema] = {}


def message_class(kind: str) -> type[Message] | None:
    """Return the class registered under ``kind``, or None."""
    return _KINDS.get(kind)


def fields_of(cls: type[Message]) -> tuple[Field, ...]:
    """Return the fields of a message class in wire order."""
    if cls not in _FIELDS:
        hints = typing.get_type_hints(cls, include_extras=True)
        _FIELDS[cls] = tuple(_field(cls, f.name, hints[f.name]) for f in dataclasses.fields(cls))  # type: ignore[arg-type]
    return _FIELDS[cls]


def _field(cls: type[Message], name: str, hint: Any) -> Field:
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Array):
            element = pa.from_numpy_dtype(np.dtype(mark.dtype))
            return Field(name, pa.large_list(element), mark, False)
    if hint in _SCALARS:
        return Field(name, _SCALARS[hint], None, False)
    if hint in _TUPLES:
        return Field(name, _TUPLES[hint], None, True)
    raise TypeError(f"{cls.__name__}.{name}: a message cannot carry {hint!r}")


def schema_of(cls: type[Message]) -> pa.Schema:
    """Return the Arrow schema of a message class; arrays of 2+ dimensions carry their shape."""
    if cls not in _SCHEMAS:
        columns = []
        for field in fields_of(cls):
            columns.append(pa.field(field.name, field.type, nullable=False))
            if field.array is not None and field.array.ndim > 1:
                columns.append(pa.field(f"{field.name}.shape", pa.list_(pa.int64()), False))
        meta = {"fedcredit.kind": cls.kind, "fedcredit.version": str(cls.version)}
        _SCHEMAS[cls] = pa.schema(columns, metadata=meta)
    return _SCHEMAS[cls]
