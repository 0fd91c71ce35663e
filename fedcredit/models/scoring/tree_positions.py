"""What a platform tells a provider about its splits in a forest that is to be served.

A :class:`Positions` says of every split of the provider that the forest uses in which padded tree
and at which heap number (see :mod:`~fedcredit.models.scoring.trees`) it sits. That is all that a
provider learns; the provider checks that every split is its own, of that tree, and named once.
Splits that were undone in the training, or lie in trees that early stopping left out, are in no
position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import PeerProtocolError
from fedcredit.protocols.forest import ProviderShare
from fedcredit.protocols.tree_words import MAX_DEPTH, MAX_TREES
from fedcredit.stats.trees import LEAF, Tree

if TYPE_CHECKING:
    from fedcredit.models.gbdt_base import BaseVerticalGBDT

__all__ = ["Positions", "heap_numbers", "positions_of"]

_STEP = "serve model"


@dataclass(frozen=True)
class Positions:
    """Where a provider's splits sit in the padded trees of a forest.

    Attributes
    ----------
    n_trees, depth : int
        T and D of the padded forest.
    tree, node, split : tuple of int
        Of each split the tree, the heap number of the node, and its number in the provider's
        share.

    Raises
    ------
    PeerProtocolError
        A number is out of range, or a position or a split occurs twice.
    """

    n_trees: int
    depth: int
    tree: tuple[int, ...] = field(repr=False)
    node: tuple[int, ...] = field(repr=False)
    split: tuple[int, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not (1 <= self.n_trees <= MAX_TREES and 0 <= self.depth <= MAX_DEPTH):
            raise _refusal("the number of trees or their depth is out of range.")
        if not len(self.tree) == len(self.node) == len(self.split):
            raise _refusal("a split has no position.")
        if not (
            all(0 <= tree < self.n_trees for tree in self.tree)
            and all(1 <= node < 1 << self.depth for node in self.node)
            and all(number >= 0 for number in self.split)
        ):
            raise _refusal("the position of a split is out of range.")
        if len(set(zip(self.tree, self.node, strict=True))) != len(self.tree):
            raise _refusal("two splits are at one position.")
        if len(set(self.split)) != len(self.split):
            raise _refusal("a split is at two positions.")

    def require_fit(self, share: ProviderShare) -> None:
        """Check the positions against a provider's share.

        Raises
        ------
        PeerProtocolError
            A split is not in the share, or was made in another tree.
        """
        made = dict(enumerate(share.trees))
        if any(
            made.get(number) != tree for tree, number in zip(self.tree, self.split, strict=True)
        ):
            raise _refusal("a split was not made in the tree that is said to hold it.")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "n_trees": self.n_trees,
            "depth": self.depth,
            "tree": list(self.tree),
            "node": list(self.node),
            "split": list(self.split),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what a platform sent.

        Raises
        ------
        PeerProtocolError
            It is not what :meth:`to_dict` returns, or not possible.
        """
        names = ("tree", "node", "split")
        if not isinstance(data, Mapping) or set(data) != {"n_trees", "depth", *names}:
            raise _refusal("positions have exactly the fields of Positions.to_dict.")
        if not all(type(data[name]) is list for name in names):
            raise _refusal("positions are lists of numbers.")
        numbers = [data["n_trees"], data["depth"], *(item for name in names for item in data[name])]
        if not all(type(number) is int for number in numbers):
            raise _refusal("positions are whole numbers.")
        columns = {name: tuple(data[name]) for name in names}
        return cls(data["n_trees"], data["depth"], **columns)


def _refusal(reason: str) -> PeerProtocolError:
    return PeerProtocolError(
        reason, step=_STEP, fix="deploy the model that was trained with this party"
    )


def heap_numbers(tree: Tree) -> npt.NDArray[np.int64]:
    """Return the heap numbers of a tree's nodes, int64 of shape (n_nodes,); the root is 1."""
    heap = np.ones(tree.n_nodes, np.int64)
    # Children have higher numbers than their parents.
    for node in np.flatnonzero(tree.feature != LEAF):
        heap[tree.left[node]] = 2 * heap[node]
        heap[tree.right[node]] = 2 * heap[node] + 1
    return heap


def positions_of(model: BaseVerticalGBDT) -> dict[str, Positions]:
    """Return what each provider with splits in a fitted forest has to know to serve it.

    Parameters
    ----------
    model : VerticalGBDTClassifier or VerticalGBDTRegressor

    Returns
    -------
    dict of str to Positions
        By provider, in the order of the training; without those that no split uses.

    Raises
    ------
    NotFittedError
        The model is not fitted.
    """
    check_is_fitted(model)
    state, owners = model.state_, model.pooled_.owner
    found: dict[str, list[tuple[int, int, int]]] = {name: [] for name in owners if name}
    for number, (tree, splits) in enumerate(zip(state.trees, state.split_numbers, strict=True)):
        heap = heap_numbers(tree)
        for node in np.flatnonzero(tree.feature != LEAF):
            owner = owners[tree.feature[node]]
            if owner:
                found[owner].append((number, int(heap[node]), int(splits[node])))
    depth = max(tree.depth for tree in state.trees)
    out = {}
    for name, placed in found.items():
        if placed:
            tree_, node_, split_ = zip(*placed, strict=True)
            out[name] = Positions(len(state.trees), depth, tree_, node_, split_)
    return out
