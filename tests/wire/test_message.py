"""Declaring messages: what may travel, what is refused, and what repr shows."""

import dataclasses
import subprocess
import sys
import typing
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Optional, Union

import numpy as np
import pyarrow as pa
import pytest

from fedcredit.wire import Message, U8x1, U64x2, message_class
from fedcredit.wire.message import Array, fields_of, payload_size, schema_of

ACCEPTED = [
    (int, pa.int64()),
    (float, pa.float64()),
    (bool, pa.bool_()),
    (str, pa.utf8()),
    (bytes, pa.large_binary()),
    (tuple[int, ...], pa.list_(pa.int64())),
    (tuple[float, ...], pa.list_(pa.float64())),
    (tuple[str, ...], pa.list_(pa.utf8())),
    (tuple[bytes, ...], pa.list_(pa.large_binary())),
    (U8x1, pa.large_list(pa.uint8())),
    (U64x2, pa.large_list(pa.uint64())),
]
REFUSED = [
    Any,
    object,
    list[int],
    dict[str, int],
    set[int],
    complex,
    tuple[int, int],
    tuple[bool, ...],
    tuple,
    Optional[int],  # noqa: UP045
    Union[int, str],  # noqa: UP007
    np.ndarray,
    np.int64,
    type(None),
    Annotated[int, []],  # cannot be hashed
    typing.Literal["a"],
    Message,
]


def _declare(hint: Any, kind: str = "test-message.one") -> type[Message]:
    """Make a message class with one field ``value`` of the given annotation."""

    class Declared(Message, kind=kind):
        __annotations__: ClassVar[dict[str, Any]] = {"value": hint}

    return dataclass(frozen=True, eq=False, repr=False)(Declared)


@pytest.mark.parametrize(("hint", "arrow"), ACCEPTED, ids=str)
def test_accepted_annotations_have_one_non_null_column(hint, arrow):
    schema = schema_of(_declare(hint))
    assert schema.field("value").type == arrow
    assert not schema.field("value").nullable
    assert schema.metadata == {
        b"fedcredit.kind": b"test-message.one",
        b"fedcredit.version": b"1",
    }


def test_only_arrays_of_several_axes_carry_a_shape():
    assert schema_of(_declare(U64x2)).names == ["value", "value.shape"]
    assert schema_of(_declare(U8x1)).names == ["value"]


@pytest.mark.parametrize("hint", REFUSED, ids=str)
def test_refused_annotations_name_the_field(hint):
    cls = _declare(hint)
    with pytest.raises(TypeError, match=r"Declared\.value: a message cannot carry"):
        fields_of(cls)


def test_unresolvable_annotation_is_a_clear_type_error():
    with pytest.raises(TypeError, match=r"Declared: an annotation cannot be resolved.*Missing"):
        fields_of(_declare("Missing"))
    with pytest.raises(TypeError, match="annotation cannot be resolved"):
        fields_of(_declare("tuple[int"))


@pytest.mark.parametrize("dtype", ["O", "?", "U4", "S4", "c16", "f16", ">u4", "M8[s]", "V3"])
def test_array_marks_of_other_element_types_are_refused(dtype):
    with pytest.raises(TypeError):
        Array(dtype, 1)


def test_array_marks_need_an_axis():
    with pytest.raises(TypeError):
        Array("u1", 0)


def test_a_message_must_be_a_frozen_dataclass():
    class Bare(Message, kind="test-message.bare"):
        value: int

    class Thawed(Message, kind="test-message.thawed"):
        value: int

    thawed = dataclass(Thawed)
    for cls in (Bare, thawed):
        with pytest.raises(TypeError, match="must be decorated @dataclass"):
            fields_of(cls)


def test_an_undecorated_heir_of_a_message_is_refused():
    parent = _declare(int, "test-message.parent")

    class Heir(parent, kind="test-message.heir"):
        more: int

    with pytest.raises(TypeError, match="must be decorated @dataclass"):
        fields_of(Heir)


def test_fields_outside_init_are_refused():
    @dataclass(frozen=True, eq=False, repr=False)
    class Derived(Message, kind="test-message.derived"):
        value: int
        twice: int = dataclasses.field(init=False, default=0)

    with pytest.raises(TypeError, match=r"Derived\.twice"):
        fields_of(Derived)


def test_two_classes_cannot_share_a_kind():
    @dataclass(frozen=True, eq=False, repr=False)
    class First(Message, kind="test-message.shared"):
        value: int

    with pytest.raises(TypeError, match=r"'test-message\.shared' is already taken by .*First"):

        class Second(Message, kind="test-message.shared"):
            value: int

    assert message_class("test-message.shared") is First


def test_the_same_class_may_be_defined_again():
    first, second = _declare(int), _declare(float)
    assert first is not second
    assert message_class("test-message.one") is second


@pytest.mark.parametrize(
    "options",
    [
        {"kind": ""},
        {"kind": "Upper"},
        {"kind": "a b"},
        {"kind": "a..b"},
        {"kind": "ä"},
        {"kind": "a\n"},
        {"kind": "a" * 65},
        {"kind": "test-message.bad", "version": 0},
        {"kind": "test-message.bad", "max_bytes": 0},
    ],
    ids=str,
)
def test_unusable_kinds_versions_and_limits(options):
    with pytest.raises(TypeError, match="a kind is up to 64"):

        class Unusable(Message, **options):
            pass

    assert message_class(options["kind"]) is None


def test_unknown_kinds_have_no_class():
    assert message_class("test-message.never-declared") is None


@dataclass(frozen=True, eq=False, repr=False)
class Secretive(Message, kind="test-message.secretive"):
    number: int
    ratio: float
    name: str
    blob: bytes
    names: tuple[str, ...]
    table: U64x2


@dataclass(frozen=True)
class Forgetful(Message, kind="test-message.forgetful"):
    """``repr=False`` is missing."""

    number: int
    name: str


def test_repr_shows_shapes_and_no_value():
    message = Secretive(
        42424242, 1.2345, "confidential", b"hidden!", ("91350211M000100Y43",), np.full((2, 3), 777)
    )
    assert repr(message) == (
        "Secretive(number, ratio, name=<12>, blob=<7>, names=<1>, table=u8[2, 3])"
    )


def test_repr_shows_no_value_when_repr_false_was_forgotten():
    assert repr(Forgetful(424242, "confidential")) == "Forgetful(number, name=<12>)"


def test_payload_size_counts_values():
    message = Secretive(1, 2.0, "abc", b"wxyz", ("ab", "c"), np.zeros((2, 3), np.uint64))
    assert payload_size(message) == 8 + 8 + 3 + 4 + 3 + 48


def test_importing_the_wire_layer_pulls_in_no_heavy_module():
    """Neither numba, tenseal, matplotlib nor Flight belong to messages and sessions."""
    code = (
        "import sys, fedcredit.wire; "
        "print([m for m in ('numba', 'tenseal', 'matplotlib', 'pyarrow.flight')"
        " if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
