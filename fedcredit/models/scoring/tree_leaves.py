"""The platform's leaves of a served forest: in fixed point, and padded to full depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encscore_format import VALUE_BITS
from fedcredit.errors import InputError

__all__ = ["LeafEnds", "leaf_spans"]

#: Fixed point of raw scores of magnitude 1 and more, unless their sum needs a smaller one.
_SCALE_BITS = 24
_LIMIT = 1 << (VALUE_BITS - 1)
_STEP = "serve model"

Integers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]


def leaf_spans(node: Integers, depth: int) -> tuple[Integers, Integers]:
    """Return the leaves of a padded tree below each node, which are neighbours.

    Parameters
    ----------
    node : ndarray of int64, shape (k,)
        Heap numbers, 1 to ``2**(depth + 1) - 1``.
    depth : int

    Returns
    -------
    first, size : ndarray of int64, shape (k,)
        Number of the first leaf and number of leaves.
    """
    level = np.frexp(node.astype(np.float64))[1].astype(np.int64) - 1
    size = np.int64(1) << (depth - level)
    return (node - (np.int64(1) << level)) * size, size


@dataclass(frozen=True, eq=False)
class LeafEnds:
    """Where the branches of all trees end, and with what value.

    Attributes
    ----------
    n_trees, depth : int
    scale_bits : int
        Values are whole numbers of ``2**-scale_bits``.
    tree, node : ndarray of int64, shape (n_ends,)
        Tree and heap number of each leaf of the unpadded trees.
    value : ndarray of int64, shape (n_ends,)

    Raises
    ------
    InputError
        The ends are not those of trees, or the values too large for their sum.
    """

    n_trees: int
    depth: int
    scale_bits: int
    tree: Integers = field(repr=False)
    node: Integers = field(repr=False)
    value: Integers = field(repr=False)

    def __post_init__(self) -> None:
        columns = (self.tree, self.node, self.value)
        if any(column.ndim != 1 or len(column) != len(self.tree) for column in columns):
            raise _damaged("a leaf has no value.")
        inside = (
            bool(((self.tree >= 0) & (self.tree < self.n_trees)).all())
            and bool(((self.node >= 1) & (self.node < 2 << self.depth)).all())
            and abs(self.scale_bits) <= 1024
        )
        if not inside:
            raise _damaged("a leaf is out of range.")
        first, size = leaf_spans(self.node, self.depth)
        covered = np.zeros((self.n_trees, (1 << self.depth) + 1), np.int64)
        np.add.at(covered, (self.tree, first), 1)
        np.add.at(covered, (self.tree, first + size), -1)
        if not (covered.cumsum(axis=1)[:, :-1] == 1).all():
            raise _damaged("the leaves do not close the trees.")
        largest = np.zeros(self.n_trees, np.int64)
        # Each alone first, so that magnitudes and their sum cannot overflow.
        bounded = bool(((self.value < _LIMIT) & (self.value > -_LIMIT)).all())
        if bounded:
            np.maximum.at(largest, self.tree, np.abs(self.value))
        if not bounded or int(largest.sum()) >= _LIMIT:
            raise _damaged("the leaf values are too large for their sum.")

    @classmethod
    def rounded(cls, ends: Sequence[tuple[int, int, float]], n_trees: int, depth: int) -> Self:
        """Round leaf values at 2^-24, or as finely as their sum below 2^30 allows.

        The sum is that over the trees of the largest magnitudes. Forests whose sum is below 1
        get more than 24 bits, so that small targets keep their digits.

        Parameters
        ----------
        ends : sequence of (int, int, float)
            Tree, heap number and value of every leaf.
        n_trees, depth : int

        Raises
        ------
        InputError
            The values are too large for any scale.
        """
        tree = np.array([end[0] for end in ends], np.int64)
        value = np.array([end[2] for end in ends], np.float64)
        largest = np.zeros(n_trees)
        np.maximum.at(largest, tree, np.abs(value))
        with np.errstate(over="ignore"):
            total = float(largest.sum())
        if not math.isfinite(total):
            raise InputError(
                "the leaf values are too large.",
                step=_STEP,
                fix="train on a target of smaller numbers",
            )
        bits = _SCALE_BITS
        if total:
            # total < 2^exponent.
            bits = min(1024, bits - min(math.frexp(total)[1], 0))
            # Rounding adds less than one unit per tree.
            while math.ldexp(total, bits) >= _LIMIT - n_trees:
                bits -= 1
        node = np.array([end[1] for end in ends], np.int64)
        whole = np.rint(np.ldexp(value, bits)).astype(np.int64)
        return cls(n_trees, depth, bits, tree, node, whole)

    def padded(self) -> tuple[Integers, Bits]:
        """Copy every leaf to all its descendants at full depth.

        Returns
        -------
        values : ndarray of int64, shape (n_trees, 2**depth)
        canonical : ndarray of bool, shape (n_trees, 2**depth)
            True at the leftmost descendant of each leaf.
        """
        shape = (self.n_trees, 1 << self.depth)
        values, canonical = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        first, size = leaf_spans(self.node, self.depth)
        for tree, start, width, value in zip(self.tree, first, size, self.value, strict=True):
            values[tree, start : start + width] = value
            canonical[tree, start] = True
        values.setflags(write=False)
        return values, canonical

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form, without what the forest says of itself."""
        return {
            "scale_bits": self.scale_bits,
            "tree": self.tree.tolist(),
            "node": self.node.tolist(),
            "value": self.value.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], n_trees: int, depth: int) -> Self:
        """Rebuild from :meth:`to_dict`; the caller guards against other input."""
        columns = (np.array(data[name], np.int64) for name in ("tree", "node", "value"))
        return cls(n_trees, depth, int(data["scale_bits"]), *columns)


def _damaged(reason: str) -> InputError:
    return InputError(reason, step=_STEP, fix="deploy the model again")
