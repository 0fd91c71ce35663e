"""Typed messages: a frozen dataclass per kind, with one Arrow schema derived from its annotations.

A field is one of ``int``, ``float``, ``bool``, ``str``, ``bytes``, ``tuple[int, ...]``,
``tuple[float, ...]``, ``tuple[str, ...]``, ``tuple[bytes, ...]``, or an array alias such as
:data:`U8x2` (element type and number of dimensions). What cannot be stated this way does not
travel; in particular there is no "any" type and no pickle.
"""

from __future__ import annotations

import dataclasses
import re
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
    """Marks an annotation as an array of ``dtype`` with ``ndim`` dimensions.

    Raises
    ------
    TypeError
        Not an integer or floating element type of at most 8 bytes in native byte order, or no
        dimension: Arrow could not hold such an array without converting it.
    """

    dtype: str
    ndim: int

    def __post_init__(self) -> None:
        dtype = np.dtype(self.dtype)
        if dtype.kind not in "iuf" or dtype.itemsize > 8 or not dtype.isnative or self.ndim < 1:
            raise TypeError(f"a message cannot carry arrays of {self.dtype!r}, {self.ndim} axes")


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
    reveals : str
        What the recipient can learn from it, in one clause; reports on a run are built from the
        messages that crossed the wire and these clauses.
    """

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 0
    max_bytes: ClassVar[int] = DEFAULT_MAX_BYTES
    reveals: ClassVar[str] = ""

    def __init_subclass__(
        cls,
        *,
        kind: str,
        version: int = 1,
        max_bytes: int = DEFAULT_MAX_BYTES,
        reveals: str = "",
        **rest: Any,
    ) -> None:
        super().__init_subclass__(**rest)
        if not _KIND.fullmatch(kind) or version < 1 or max_bytes < 1:
            raise TypeError(
                f"{cls.__qualname__}: a kind is up to 64 lower-case ASCII letters, digits, '.', "
                "'_' and '-', a version and a size limit are at least 1"
            )
        # dataclass() keeps a method that the class itself has, so a forgotten ``repr=False``
        # cannot print values.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Message.__repr__  # type: ignore[method-assign]
        known = _KINDS.get(kind)
        if known is not None and (known.__module__, known.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise TypeError(f"message kind {kind!r} is already taken by {known.__qualname__}")
        cls.kind, cls.version, cls.max_bytes, cls.reveals = kind, version, max_bytes, reveals
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


_KIND = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+(?:[._-][a-z0-9]+)*", re.ASCII)
_KINDS: dict[str, type[Message]] = {}
_FIELDS: dict[type[Message], tuple[Field, ...]] = {}
_SCHEMAS: dict[type[Message], pa.Schema] = {}


def message_class(kind: str) -> type[Message] | None:
    """Return the class registered under ``kind``, or None."""
    return _KINDS.get(kind)


def fields_of(cls: type[Message]) -> tuple[Field, ...]:
    """Return the fields of a message class in wire order.

    Raises
    ------
    TypeError
        The class is not a frozen dataclass, an annotation cannot be resolved, or a field's type
        does not travel.
    """
    if cls not in _FIELDS:
        params = cls.__dict__.get("__dataclass_params__")
        if params is None or not params.frozen:
            raise TypeError(f"{cls.__qualname__} must be decorated @dataclass(frozen=True, ...)")
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except Exception as error:
            raise TypeError(
                f"{cls.__qualname__}: an annotation cannot be resolved ({error}); define the "
                "message at the top of its module and import what it names at run time"
            ) from error
        _FIELDS[cls] = tuple(_field(cls, f, hints[f.name]) for f in dataclasses.fields(cls))  # type: ignore[arg-type]
    return _FIELDS[cls]


def _field(cls: type[Message], field: dataclasses.Field[Any], hint: Any) -> Field:
    name = field.name
    if not field.init:
        raise TypeError(f"{cls.__name__}.{name}: a message's field must be given to __init__")
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Array):
            element = pa.from_numpy_dtype(np.dtype(mark.dtype))
            return Field(name, pa.large_list(element), mark, False)
    for known, kind in _SCALARS.items():
        if hint is known:
            return Field(name, kind, None, False)
    for known, kind in _TUPLES.items():
        if hint == known:
            return Field(name, kind, None, True)
    raise TypeError(f"{cls.__name__}.{name}: a message cannot carry {hint!r}")


def payload_size(message: Message) -> int:
    """Return about how many bytes the values of a message occupy."""
    total = 0
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        for item in value if field.is_tuple else (value,):
            if field.array is not None:
                total += int(np.asarray(item).nbytes)
            else:
                total += len(item) if isinstance(item, str | bytes) else 8
    return total


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
