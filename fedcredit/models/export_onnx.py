"""A part of a scorecard as an ONNX graph, to be run by any ONNX runtime.

The graph gives what `CardPart.points` and `CardPart.woe` give, bit by bit: numbers are compared
and added in float64, in the same order. Two things differ, because a graph cannot refuse a row.
An infinite number makes the row's points and weights NaN, and there is no missing text: any text
that is not one of the categories counts as missing.

Operator sets and the version of the file format are fixed (ai.onnx 17, ai.onnx.ml 3, IR 8) so
that a newer library does not write what an installed runtime cannot read; ONNX Runtime reads them
since 1.12. See the operator specifications at https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError
from fedcredit.models.card_part import FORMAT, CardCharacteristic, CardPart
from fedcredit.models.columns import to_pandas

__all__ = ["input_names", "onnx_inputs", "to_onnx"]

_STEP = "export ONNX"
_OPSET, _OPSET_ML, _IR_VERSION = 17, 3, 8
_POINTS, _WOE = "points", "woe"


def input_names(part: CardPart) -> dict[str, str]:
    """Name the graph's input of every column.

    Parameters
    ----------
    part : CardPart

    Returns
    -------
    dict of str to str
        Input by column, in the order of the part. They are the same, but for columns without a
        name or with the name of an output, which get underscores at the end.
    """
    taken = {"", _POINTS, _WOE, *part.names}
    names = {}
    for column in part.names:
        name = column
        if name in ("", _POINTS, _WOE):
            while name in taken:
                name += "_"
            taken.add(name)
        names[column] = name
    return names


def onnx_inputs(part: CardPart, table: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """Turn a table into what the graph takes, categories read as by `CardPart.points`.

    Parameters
    ----------
    part : CardPart
    table : pandas.DataFrame, or any table that exports Arrow

    Returns
    -------
    dict of str to ndarray, shape (n, 1)
        By input: float64 of a number, and of a categorical column objects that are str.

    Raises
    ------
    InputError
        As `CardPart.points`; so this refuses infinite numbers.
    """
    frame = to_pandas(table, party=part.party)
    feeds: dict[str, npt.NDArray[Any]] = {}
    for c, name in zip(part.characteristics, input_names(part).values(), strict=True):
        values = c.coder.transform(frame, party=part.party)
        if c.categories is not None:
            missing = ""
            while missing in c.categories:
                missing += "_"
            known = np.array([*c.categories, missing], object)
            values = known[np.where(np.isnan(values), len(c.categories), values).astype(np.int64)]
        feeds[name] = values[:, None]
    return feeds


def to_onnx(part: CardPart, *, woe: bool = False) -> bytes:
    """Write a part as an ONNX model.

    Parameters
    ----------
    part : CardPart
    woe : bool
        Whether there is an output of the weights of evidence too.

    Returns
    -------
    bytes
        The serialised model. Inputs: one per column as `input_names` says, (n, 1), double of a
        number with NaN for missing, or string. Outputs: ``points``, double (n, 1), and on request
        ``woe``, double (n, k). Metadata: ``format``, ``party``, ``model_id``, and ``columns``, a
        JSON list of the columns in the order of the inputs.

    Raises
    ------
    InputError
        The package onnx is not installed, or the part has no characteristics.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError:
        raise InputError(
            "the package onnx is not installed.",
            party=part.party,
            step=_STEP,
            fix="pip install 'fedcredit[onnx]'",
        ) from None
    if not part.characteristics:
        raise InputError(
            "this party has no characteristics in the card, so there is nothing to compute.",
            party=part.party,
            step=_STEP,
            fix="add base_points of the part, a constant, to the points of the others",
        )
    writer = _GraphWriter(onnx, part)
    writer.write(woe=woe)
    return writer.model()


class _GraphWriter:
    """Nodes, constants and inputs of one graph."""

    def __init__(self, onnx: Any, part: CardPart) -> None:
        self._onnx = onnx
        self._part = part
        self._columns = input_names(part)
        # Values in between must not have the name of an input.
        self._stem = "_"
        while any(name.startswith(self._stem) for name in self._columns.values()):
            self._stem += "_"
        self._count = 0
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    # ------------------------------------------------------------------------ pieces

    def _name(self) -> str:
        self._count += 1
        return f"{self._stem}{self._count}"

    def _constant(self, value: npt.NDArray[Any]) -> str:
        name = self._name()
        self._constants.append(self._onnx.numpy_helper.from_array(value, name))
        return name

    def _whole(self, value: int) -> str:
        return self._constant(np.array([[value]], np.int64))

    def _node(self, kind: str, *inputs: str, output: str | None = None, **options: Any) -> str:
        name = output or self._name()
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [name], name=name, **options))
        return name

    def _value(self, name: str, kind: int, width: int) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, kind, ["n", width])

    # ------------------------------------------------------------------------- graph

    def write(self, *, woe: bool) -> None:
        double = self._onnx.TensorProto.DOUBLE
        bins = [self._bins(c) for c in self._part.characteristics]
        total = self._constant(np.array([[self._part.base_points]]))
        last = len(bins) - 1
        for j, (c, place) in enumerate(zip(self._part.characteristics, bins, strict=True)):
            # One by one: the specification of Sum leaves the order of additions open.
            addend = self._looked_up(c.points, place)
            total = self._node("Add", total, addend, output=_POINTS if j == last else None)
        self._outputs.append(self._value(_POINTS, double, 1))
        if woe:
            weights = [
                self._looked_up(c.woe, place)
                for c, place in zip(self._part.characteristics, bins, strict=True)
            ]
            self._node("Concat", *weights, output=_WOE, axis=1)
            self._outputs.append(self._value(_WOE, double, len(weights)))

    def _looked_up(self, per_bin: npt.NDArray[np.float64], place: str) -> str:
        # One more bin, that of infinite numbers.
        return self._node("Gather", self._constant(np.append(per_bin, np.nan)), place, axis=0)

    def _bins(self, c: CardCharacteristic) -> str:
        kind = self._onnx.TensorProto.DOUBLE if c.categories is None else None
        name = self._columns[c.name]
        self._inputs.append(self._value(name, kind or self._onnx.TensorProto.STRING, 1))
        return self._intervals(c, name) if c.categories is None else self._groups(c, name)

    def _intervals(self, c: CardCharacteristic, x: str) -> str:
        rule = c.rule
        if len(rule.splits):
            # The interval of x is the number of splits that are not above it.
            reached = self._node("GreaterOrEqual", x, self._constant(rule.splits[None, :]))
            ones = self._node("Cast", reached, to=self._onnx.TensorProto.INT64)
            place = self._node("ReduceSum", ones, self._constant(np.array([1])), keepdims=1)
        else:
            place = self._whole(0)
        for code, target in zip(rule.special_codes, rule.folded, strict=False):
            equal = self._node("Equal", x, self._constant(np.array([[code]])))
            place = self._node("Where", equal, self._whole(target), place)
        missing = self._node("IsNaN", x)
        place = self._node("Where", missing, self._whole(rule.folded[-1]), place)
        return self._node("Where", self._node("IsInf", x), self._whole(rule.n_bins), place)

    def _groups(self, c: CardCharacteristic, x: str) -> str:
        names = list(c.categories or ())
        bins = c.rule.apply(np.arange(len(names), dtype=np.float64)).tolist()
        missing = c.rule.folded[-1]
        return self._node(
            "LabelEncoder",
            x,
            domain="ai.onnx.ml",
            # An encoder has at least one key.
            keys_strings=names or [""],
            values_int64s=bins or [missing],
            default_int64=missing,
        )

    # ------------------------------------------------------------------------- model

    def model(self) -> bytes:
        """Serialise what was written."""
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, "scorecard_part", self._inputs, self._outputs, self._constants
        )
        model = helper.make_model(
            graph,
            producer_name="fedcredit",
            ir_version=_IR_VERSION,
            opset_imports=[
                helper.make_opsetid("", _OPSET),
                helper.make_opsetid("ai.onnx.ml", _OPSET_ML),
            ],
        )
        helper.set_model_props(
            model,
            {
                "format": FORMAT,
                "party": self._part.party,
                "model_id": self._part.model_id,
                "columns": json.dumps(list(self._part.names), ensure_ascii=False),
            },
        )
        data: bytes = model.SerializeToString(deterministic=True)
        return data
