"""A party's part of a served forest: which leaves its own splits leave reachable.

Every tree is padded to the depth D of the deepest one, so that shapes show the number of trees and
D, and nothing else. Nodes are numbered as in a heap: the root is 1, the children of node h are 2 h
(left) and 2 h + 1 (right), and leaf l of the padded tree, 0 to 2^D - 1 from left to right, is node
2^D + l. A party takes a leaf for reachable unless one of its own splits turns the row away from
it; nodes of other parties turn nobody away. A leaf that ends above depth D is copied to all its
descendants there, and the platform rules out all of these but the leftmost, the *canonical* one:
so the intersection over platform and providers is exactly one leaf of every tree.

Leaf values are whole numbers of ``2**-scale_bits``, the initial score of the forest included (in
the first tree's, before rounding), so that the values of a row's leaves add up to its raw score
within ``n_trees * 2**-(scale_bits + 1)``.

=============  ==========================================================================
role           learns from the deployment of a forest
=============  ==========================================================================
platform       nothing new: it has known the trees since the training
provider       where in the padded trees its own splits sit, hence number of trees, depth, and
               which of its own splits follow each other; nothing about the splits of others,
               leaf values, or how deep a branch without its own splits is
=============  ==========================================================================

Source of the numbering: J. W. J. Williams, "Algorithm 232: Heapsort", CACM 7(6), 1964.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import InputError
from fedcredit.models.at_rest import reading_model
from fedcredit.models.columns import ColumnCoder
from fedcredit.models.scoring.tree_leaves import LeafEnds, leaf_spans
from fedcredit.models.scoring.tree_positions import Positions, heap_numbers, positions_of
from fedcredit.models.scoring.tree_reach import ColumnBinner, rule_out
from fedcredit.protocols.forest import ProviderShare
from fedcredit.protocols.tree_words import MAX_DEPTH, MAX_TREES
from fedcredit.stats.binning import FeatureBins
from fedcredit.stats.trees import LEAF, Split

if TYPE_CHECKING:
    from fedcredit.models.gbdt_base import BaseVerticalGBDT

__all__ = ["ServedTrees", "forest_parts"]

_STEP = "serve model"
_AGAIN = "deploy the model again"

Integers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ServedTrees:
    """A party's part of a served forest.

    Attributes
    ----------
    n_trees, depth : int
        T and D; a padded tree has ``2**depth`` leaves.
    coders, bins : tuple of ColumnCoder, tuple of FeatureBins
        The own columns that the splits use.
    tree, node : tuple of int
        Tree and heap number of each own split.
    splits : tuple of Split
        By index in ``coders`` and bin.
    ends : LeafEnds or None
        At the platform.
    owners : tuple of str
        At the platform: the providers that have splits in the forest.
    party : str
        For error messages.

    Raises
    ------
    InputError
        The parts contradict each other.
    """

    n_trees: int
    depth: int
    coders: tuple[ColumnCoder, ...] = field(repr=False)
    bins: tuple[FeatureBins, ...] = field(repr=False)
    tree: tuple[int, ...] = field(repr=False)
    node: tuple[int, ...] = field(repr=False)
    splits: tuple[Split, ...] = field(repr=False)
    ends: LeafEnds | None = field(default=None, repr=False)
    owners: tuple[str, ...] = ()
    party: str = ""
    _nodes: tuple[npt.NDArray[Any], ...] = field(init=False, repr=False)
    _binners: tuple[ColumnBinner, ...] = field(init=False, repr=False)
    _leaves: Integers | None = field(init=False, repr=False)
    _open: Bits = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        binners = tuple(map(ColumnBinner, self.coders, self.bins))
        leaves, start = None, np.ones((self.n_trees, 1 << self.depth), np.bool_)
        if self.ends is not None:
            leaves, start = self.ends.padded()
        for name, value in (
            ("_nodes", _node_arrays(self)),
            ("_binners", binners),
            ("_leaves", leaves),
            ("_open", start),
        ):
            object.__setattr__(self, name, value)

    # ---------------------------------------------------------------------- construction

    @classmethod
    def of_model(cls, model: BaseVerticalGBDT) -> Self:
        """Build the platform's part of a fitted forest.

        Parameters
        ----------
        model : VerticalGBDTClassifier or VerticalGBDTRegressor

        Raises
        ------
        InputError
            The model's values cannot be held in fixed point.
        NotFittedError
            It is not fitted.
        """
        check_is_fitted(model)
        state, pooled = model.state_, model.pooled_
        at: list[tuple[int, int, Split]] = []
        ends: list[tuple[int, int, float]] = []
        others: set[str] = set()
        for number, tree in enumerate(state.trees):
            start = 0.0 if number else state.init_score
            for node, heap in enumerate(heap_numbers(tree).tolist()):
                feature = int(tree.feature[node])
                if feature == LEAF:
                    ends.append((number, heap, start + float(tree.value[node])))
                elif pooled.owner[feature]:
                    others.add(pooled.owner[feature])
                else:
                    split = dataclasses.replace(tree.split(node), feature=pooled.local[feature])
                    at.append((number, heap, split))
        n_trees, depth = len(state.trees), max(tree.depth for tree in state.trees)
        return cls(
            n_trees=n_trees,
            depth=depth,
            ends=LeafEnds.rounded(ends, n_trees, depth),
            owners=tuple(name for name in dict.fromkeys(pooled.owner) if name in others),
            party=model.platform_,
            **_used(model.own_.coders, model.own_.bins, at),
        )

    @classmethod
    def of_provider(
        cls, party: str, record: Mapping[str, Any], positions: Mapping[str, Any]
    ) -> Self:
        """Build a provider's part from what it keeps of the training.

        Parameters
        ----------
        party : str
            The provider, for error messages.
        record : mapping
            ``coders``, ``bins`` and ``share`` as
            :mod:`~fedcredit.models.engine_forest` stores them.
        positions : mapping
            What the platform says, see
            :class:`~fedcredit.models.scoring.tree_positions.Positions`; it is checked against
            the share.

        Raises
        ------
        PeerProtocolError
            The positions are malformed, or not of splits that this party made, each at most once.
        InputError
            The record is damaged.
        """
        places = Positions.from_dict(positions)
        with reading_model():
            share = ProviderShare.from_dict(record["share"])
            coders = [ColumnCoder.from_dict(item) for item in record["coders"]]
            bins = [FeatureBins.from_dict(item) for item in record["bins"]]
            if len(share.trees) != len(share.splits):
                raise ValueError
        places.require_fit(share)
        numbered = zip(places.tree, places.node, places.split, strict=True)
        at = [(tree, node, share.splits[number]) for tree, node, number in numbered]
        return cls(
            n_trees=places.n_trees, depth=places.depth, party=party, **_used(coders, bins, at)
        )

    # ------------------------------------------------------------------------------- use

    @property
    def n_leaves(self) -> int:
        """L, leaves of a padded tree."""
        return 1 << self.depth

    @property
    def fields(self) -> tuple[str, ...]:
        """The own columns that the splits use."""
        return tuple(coder.name for coder in self.coders)

    @property
    def scale_bits(self) -> int:
        """Leaf values are whole numbers of ``2**-scale_bits``; known at the platform only.

        Raises
        ------
        InputError
            This is a provider's part.
        """
        return self._own_ends().scale_bits

    @property
    def leaves(self) -> Integers:
        """Leaf values in fixed point, int64 of shape (T, 2**D); known at the platform only.

        Raises
        ------
        InputError
            This is a provider's part.
        """
        self._own_ends()
        assert self._leaves is not None
        return self._leaves

    @property
    def tolerance(self) -> float:
        """Largest difference from the model's raw scores that rounding to fixed point makes.

        Raises
        ------
        InputError
            This is a provider's part.
        """
        return math.ldexp(self.n_trees, -self.scale_bits - 1)

    def raw(self, values: Integers) -> npt.NDArray[np.float64]:
        """Return the raw scores, shape (n,), that sums of leaf values in fixed point stand for.

        Raises
        ------
        InputError
            This is a provider's part.
        """
        return np.ldexp(np.asarray(values, np.float64), -self.scale_bits)

    def _own_ends(self) -> LeafEnds:
        if self.ends is None:
            raise InputError(
                "only the platform's part has leaf values.",
                party=self.party or None,
                step=_STEP,
                fix="ask the platform's part",
            )
        return self.ends

    def binned(self, frame: pd.DataFrame) -> npt.NDArray[np.uint16]:
        """Put the own columns into the bins of the training.

        Parameters
        ----------
        frame : pandas.DataFrame
            The own columns, at least :attr:`fields`.

        Returns
        -------
        ndarray of uint16, shape (n, columns)
            For :meth:`reach_of`.

        Raises
        ------
        InputError
            A column is missing, or of another type than in the training.
        """
        bins = np.empty((len(frame), len(self._binners)), np.uint16)
        for column, binner in enumerate(self._binners):
            bins[:, column] = binner(frame, self.party)
        return bins

    def reach_of(self, bins: npt.NDArray[np.uint16]) -> Bits:
        """Tell which leaves the own splits leave reachable for each row of :meth:`binned`.

        Returns
        -------
        ndarray of bool, shape (n, T, 2**D)
            ``n * T * 2**D`` bytes: many rows are better taken in blocks.
        """
        reach = np.empty((len(bins), *self._open.shape), np.bool_)
        reach[:] = self._open
        if self.splits:
            rule_out(np.ascontiguousarray(bins), *self._nodes, reach)
        return reach

    def reach(self, frame: pd.DataFrame) -> Bits:
        """Tell which leaves the own splits leave reachable for each row; see :meth:`reach_of`."""
        return self.reach_of(self.binned(frame))

    # --------------------------------------------------------------------------- at rest

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "n_trees": self.n_trees,
            "depth": self.depth,
            "coders": [coder.to_dict() for coder in self.coders],
            "bins": [feature.to_dict() for feature in self.bins],
            "tree": list(self.tree),
            "node": list(self.node),
            "splits": [
                {**dataclasses.asdict(split), "left_bins": list(split.left_bins)}
                for split in self.splits
            ],
            "ends": self.ends and self.ends.to_dict(),
            "owners": list(self.owners),
            "party": self.party,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises
        ------
        InputError
            It is something else, or damaged.
        """
        with reading_model():
            n_trees, depth, ends = int(data["n_trees"]), int(data["depth"]), data["ends"]
            _check_size(n_trees, depth)
            return cls(
                n_trees=n_trees,
                depth=depth,
                coders=tuple(ColumnCoder.from_dict(item) for item in data["coders"]),
                bins=tuple(FeatureBins.from_dict(item) for item in data["bins"]),
                tree=tuple(map(int, data["tree"])),
                node=tuple(map(int, data["node"])),
                splits=tuple(
                    Split(**{**item, "left_bins": tuple(item["left_bins"])})
                    for item in data["splits"]
                ),
                ends=None if ends is None else LeafEnds.from_dict(ends, n_trees, depth),
                owners=tuple(map(str, data["owners"])),
                party=str(data["party"]),
            )


def forest_parts(model: BaseVerticalGBDT) -> tuple[ServedTrees, dict[str, dict[str, Any]]]:
    """Prepare a fitted forest for being served, at the platform.

    Parameters
    ----------
    model : VerticalGBDTClassifier or VerticalGBDTRegressor

    Returns
    -------
    part : ServedTrees
        The platform's.
    positions : dict of str to dict
        What each provider with splits in the forest must be told, ready for JSON: the argument of
        :meth:`ServedTrees.of_provider`. It learns the positions of its own splits only.

    Raises
    ------
    InputError
        The model's values cannot be held in fixed point.
    NotFittedError
        It is not fitted.
    """
    part = ServedTrees.of_model(model)
    return part, {name: places.to_dict() for name, places in positions_of(model).items()}


def _used(
    coders: Sequence[ColumnCoder],
    bins: Sequence[FeatureBins],
    at: Sequence[tuple[int, int, Split]],
) -> dict[str, Any]:
    """Return placed splits and the columns that they use, renumbered, as arguments."""
    features = sorted({split.feature for _, _, split in at})
    if features and not 0 <= features[0] <= features[-1] < min(len(coders), len(bins)):
        raise InputError("a split is of a column that is not there.", step=_STEP, fix=_AGAIN)
    new = {feature: place for place, feature in enumerate(features)}
    return {
        "coders": tuple(coders[feature] for feature in features),
        "bins": tuple(bins[feature] for feature in features),
        "tree": tuple(tree for tree, _, _ in at),
        "node": tuple(node for _, node, _ in at),
        "splits": tuple(dataclasses.replace(s, feature=new[s.feature]) for _, _, s in at),
    }


def _node_arrays(part: ServedTrees) -> tuple[npt.NDArray[Any], ...]:
    """Return the splits as the arrays that :func:`rule_out` walks."""
    first, size = leaf_spans(np.array(part.node, np.int64), part.depth)
    sets = [np.array(split.left_bins, np.int64) for split in part.splits]
    return (
        np.array(part.tree, np.int64),
        first,
        size // 2,
        np.array([split.feature for split in part.splits], np.int64),
        np.array([split.threshold_bin for split in part.splits], np.int64),
        np.array([split.default_left for split in part.splits], np.bool_),
        np.array([split.missing_bin for split in part.splits], np.int64),
        np.cumsum([0, *(len(s) for s in sets)], dtype=np.int64),
        np.concatenate([np.zeros(0, np.int64), *sets]),
    )


def _check_size(n_trees: int, depth: int) -> None:
    if not (1 <= n_trees <= MAX_TREES and 0 <= depth <= MAX_DEPTH):
        raise InputError(
            f"a served forest has 1 to {MAX_TREES} trees of depth {MAX_DEPTH} at most.",
            step=_STEP,
            fix="train a smaller forest",
        )


def _check(part: ServedTrees) -> None:
    def demand(holds: bool, reason: str) -> None:
        if not holds:
            raise InputError(reason, party=part.party or None, step=_STEP, fix=_AGAIN)

    _check_size(part.n_trees, part.depth)
    demand(len(part.coders) == len(part.bins), "a column of a served forest has no bins.")
    for coder, bins in zip(part.coders, part.bins, strict=True):
        demand(coder.is_categorical == bins.is_categorical, "a column has bins of another kind.")
    demand(
        len(part.tree) == len(part.node) == len(part.splits)
        and all(0 <= tree < part.n_trees for tree in part.tree)
        and all(1 <= node < 1 << part.depth for node in part.node),
        "the position of a split is missing or out of range.",
    )
    placed = set(zip(part.tree, part.node, strict=True))
    demand(len(placed) == len(part.splits), "two splits are at one position.")
    for split in part.splits:
        demand(0 <= split.feature < len(part.bins), "a split is of a column that is not there.")
        bins = part.bins[split.feature]
        demand(split.is_categorical == bins.is_categorical, "a split is of another kind.")
        used = split.left_bins or (split.threshold_bin, max(split.missing_bin, 0))
        demand(all(0 <= b < bins.n_bins for b in used), "a split is of a bin that is not there.")
    if part.ends is None:
        return
    sized = (part.ends.n_trees, part.ends.depth) == (part.n_trees, part.depth)
    demand(sized, "the leaves are of a forest of another size.")
    ends = set(zip(part.ends.tree.tolist(), part.ends.node.tolist(), strict=True))
    inner = all((tree, node >> up) not in ends for tree, node in placed for up in range(MAX_DEPTH))
    demand(inner, "a split is below a leaf.")
