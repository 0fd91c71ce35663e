"""Growing a tree level by level, without any input or output.

The grower decides; where histograms and directions come from is the caller's business: the rows
of a plaintext matrix, or the parties of a joint computation. The loop is always ::

    grower = TreeGrower(in_bag, g, h, g_scale, h_scale, infos, params)
    while not grower.done:
        for work in grower.histogram_work():
            grower.supply(work.node, *histograms_of(work.rows))
        for decision in grower.decide():
            grower.partition(decision.node, directions_of(decision))
    tree = grower.finish(learning_rate)

Histograms are asked for the root and, of two siblings, for the one with fewer rows only; the other
one's are the parent's minus these. Rows out of the sample (``in_bag`` false: not drawn, or held
for validation) go down the tree and reach a leaf, but count in no histogram and no decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import InputError
from fedcredit.stats.split_scans import derive_most_frequent
from fedcredit.stats.splits import NO_BOUND, BestSplit, find_best_split
from fedcredit.stats.tree_params import FeatureInfo, FeatureTable, TreeParams
from fedcredit.stats.trees import LEAF, SplitDecision, Tree

__all__ = ["HistogramWork", "TreeGrower"]

_STEP = "trees: grow"
# LightGBM writes leaf values below this magnitude as zero.
_ZERO = float(np.float32(1e-35))
# Sums up to here are exact in a float64.
_EXACT = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class HistogramWork:
    """A node whose histograms the grower waits for.

    Attributes
    ----------
    node : int
        Id of the node, the argument of `TreeGrower.supply`.
    rows : ndarray of int32
        The node's rows in the sample, ascending.
    """

    node: int
    rows: NDArray[np.int32] = field(repr=False)


@dataclass(slots=True, eq=False)
class _Node:
    """A node while the tree grows; sums are in real units."""

    rows: NDArray[np.int32]
    count: int
    depth: int
    sum_g: float
    sum_h: float
    output: float
    low: float
    high: float
    allowed: NDArray[np.bool_]
    parent: int = LEAF
    G: NDArray[np.float64] | None = None
    H: NDArray[np.float64] | None = None
    split: BestSplit | None = None
    left: int = LEAF
    right: int = LEAF


class TreeGrower:
    """Grow one tree from histograms and directions that the caller supplies.

    Parameters
    ----------
    in_bag : ndarray of bool, shape (n,)
        Rows that the tree learns from.
    g, h : ndarray of int64, shape (n,)
        Quantised gradients and hessians (hessians not negative). Only rows in the sample matter.
    g_scale, h_scale : float
        Their units, powers of two, so that sums are exact.
    feature_infos : sequence of FeatureInfo
        All features in pooled order.
    params : TreeParams
        Parameters.
    col_mask : ndarray of bool, shape (n_features,), optional
        Features this tree may use. Histograms of the others are ignored.
    split_budget : ndarray of int, shape (n_features,), optional
        How many splits of this tree each feature may serve. Within a level, nodes with lower ids
        choose first.

    Attributes
    ----------
    leaf_of_row : ndarray of int32, shape (n,)
        After `finish`: each row's leaf, as a node number of the tree.
    undone : list of int
        Nodes whose split was undone, since it left a child with fewer than ``min_child_rows``.

    Raises
    ------
    InputError
        If arguments do not fit together, or a method is called out of turn.
    """

    def __init__(
        self,
        in_bag: NDArray[np.bool_],
        g: NDArray[np.int64],
        h: NDArray[np.int64],
        g_scale: float,
        h_scale: float,
        feature_infos: Sequence[FeatureInfo],
        params: TreeParams,
        col_mask: NDArray[np.bool_] | None = None,
        split_budget: NDArray[np.integer] | None = None,
    ) -> None:
        in_bag = np.asarray(in_bag)
        n = len(in_bag)
        if in_bag.shape != (n,) or in_bag.dtype != np.bool_ or g.shape != (n,) or h.shape != (n,):
            raise InputError("in_bag, g and h are vectors of one length.", step=_STEP)
        if g.dtype != np.int64 or h.dtype != np.int64:
            raise InputError("g and h are int64.", step=_STEP, fix="quantise them first")
        if not 0 < n <= np.iinfo(np.int32).max:
            raise InputError("a tree needs between 1 and 2**31 - 1 rows.", step=_STEP)
        for scale in (g_scale, h_scale):
            if not (0 < scale < np.inf and np.frexp(scale)[0] == 0.5):
                raise InputError("scales are powers of two.", step=_STEP)
        self.features = FeatureTable.of(feature_infos)
        self.params = params
        self._in_bag: NDArray[np.bool_] | None = None if bool(in_bag.all()) else in_bag
        self._g, self._h = g, h
        self._g_scale, self._h_scale = float(g_scale), float(h_scale)
        self._n = n
        n_features = self.features.n_features
        columns = np.ones(n_features, np.bool_) if col_mask is None else np.asarray(col_mask)
        if columns.shape != (n_features,) or columns.dtype != np.bool_:
            raise InputError("col_mask has one bool per feature.", step=_STEP)
        self._columns = columns
        self._budget = None if split_budget is None else np.array(split_budget, np.int64)
        if self._budget is not None and self._budget.shape != (n_features,):
            raise InputError("split_budget has one number per feature.", step=_STEP)

        rows = np.arange(n, dtype=np.int32)
        bag = self._bag(rows)
        if not len(bag):
            raise InputError("no row is in the sample.", step=_STEP)
        if int(h[bag].min()) < 0:
            raise InputError("a hessian is negative.", step=_STEP)
        total_g, total_h = int(g[bag].sum()), int(h[bag].sum())
        if max(float(np.abs(g[bag]).sum(dtype=np.float64)), float(total_h)) >= _EXACT:
            raise InputError("sums exceed 53 bits.", step=_STEP, fix="quantise with fewer bits")
        root = _Node(
            rows=rows,
            count=len(bag),
            depth=0,
            sum_g=total_g * self._g_scale,
            sum_h=total_h * self._h_scale,
            output=0.0,
            low=-NO_BOUND,
            high=NO_BOUND,
            allowed=columns.copy(),
        )
        self._nodes = [root]
        self._active: list[int] = []
        self._waiting: dict[int, HistogramWork] = {}
        self._directions: dict[int, NDArray[np.bool_] | None] = {}
        self.leaf_of_row: NDArray[np.int32] = np.zeros(n, np.int32)
        self.undone: list[int] = []
        if root.count >= 2 * params.min_child_samples:
            self._active = [0]
            self._waiting = {0: HistogramWork(0, bag)}

    def _bag(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        return rows if self._in_bag is None else rows[self._in_bag[rows]]

    @property
    def done(self) -> bool:
        """Whether no node is left to split."""
        return not self._active and not self._directions

    def frontier(self) -> list[tuple[int, NDArray[np.int32]]]:
        """List the nodes that may split on this level, by id, each with all its rows.

        Rows out of the sample are included: they go the way of the others.
        """
        return [(number, self._nodes[number].rows) for number in sorted(self._active)]

    def histogram_work(self) -> list[HistogramWork]:
        """List the nodes whose histograms are still to be supplied, in ascending order of ids."""
        return [self._waiting[node] for node in sorted(self._waiting)]

    def supply(self, node: int, G: NDArray[np.int64], H: NDArray[np.int64]) -> None:
        """Take the histograms of a node.

        Every feature's bins must add up to the node's totals, which the grower knows from ``g``,
        ``h`` and the node's rows; so a damaged or wrongly decrypted histogram does not pass.

        Parameters
        ----------
        node : int
            Id from `histogram_work`.
        G, H : ndarray of int64, shape (total_bins,)
            Integer sums per bin, concatenated over all features in pooled order. Values of
            features outside ``col_mask`` are ignored.

        Raises
        ------
        InputError
            If the node waits for no histograms, or shape, type or totals are wrong.
        """
        if node not in self._waiting:
            raise InputError("this node waits for no histograms.", step=_STEP)
        total_bins = self.features.total_bins
        if G.shape != (total_bins,) or H.shape != (total_bins,):
            raise InputError("a histogram has one value per bin of all features.", step=_STEP)
        if G.dtype != np.int64 or H.dtype != np.int64:
            raise InputError("histograms are int64.", step=_STEP)
        rows = self._waiting[node].rows
        starts = self.features.offsets[:-1]
        used = self._columns
        for values, sums in ((self._g, G), (self._h, H)):
            wrong = used & (np.add.reduceat(sums, starts) != values[rows].sum())
            if wrong.any():
                raise InputError(
                    f"the bins of feature {int(np.argmax(wrong))} do not add up to the node.",
                    step=f"{_STEP}: histograms",
                    fix="check that all parties hold the same rows in the same order",
                )
        if int(H[np.repeat(used, self.features.n_bins)].min(initial=0)) < 0:
            raise InputError("a sum of hessians is negative.", step=f"{_STEP}: histograms")
        del self._waiting[node]
        self._share(node, G.astype(np.float64), H.astype(np.float64))

    def _share(self, number: int, G: NDArray[np.float64], H: NDArray[np.float64]) -> None:
        """Keep a node's histograms, in real units, and derive its sibling's."""
        G *= self._g_scale
        H *= self._h_scale
        node, features = self._nodes[number], self.features
        derive_most_frequent(
            G, H, features.offsets, features.most_frequent_bin, node.sum_g, node.sum_h
        )
        node.G, node.H = G, H
        if node.parent == LEAF:
            return
        parent = self._nodes[node.parent]
        sibling = self._nodes[parent.left + parent.right - number]
        assert parent.G is not None
        assert parent.H is not None
        sibling.G, sibling.H = parent.G - G, parent.H - H
        parent.G = parent.H = None

    def decide(self) -> list[SplitDecision]:
        """Choose the splits of the current level, once all histograms are there.

        Returns
        -------
        list of SplitDecision
            In ascending order of node ids. Empty if no node of the level has a useful split; the
            grower is then done.

        Raises
        ------
        InputError
            If histograms or directions are outstanding.
        """
        if self._waiting:
            raise InputError("histograms are outstanding.", step=_STEP, fix="supply them first")
        if self._directions:
            raise InputError("directions are outstanding.", step=_STEP, fix="call partition first")
        decisions = []
        for number in self._active:
            node = self._nodes[number]
            assert node.G is not None
            assert node.H is not None
            allowed = node.allowed if self._budget is None else node.allowed & (self._budget > 0)
            node.split, node.allowed = find_best_split(
                node.G,
                node.H,
                self.features,
                self.params,
                sum_g=node.sum_g,
                sum_h=node.sum_h,
                count=node.count,
                allowed=allowed,
                low=node.low,
                high=node.high,
            )
            if node.split is None:
                node.G = node.H = None
                continue
            if self._budget is not None:
                self._budget[node.split.feature] -= 1
            decisions.append(self._decision(number, node.split))
        self._active = []
        self._directions = {decision.node: None for decision in decisions}
        return decisions

    def _missing_bin(self, feature: int) -> int:
        if not self.features.has_missing[feature]:
            return -1
        return int(self.features.n_bins[feature]) - 1

    def _decision(self, number: int, split: BestSplit) -> SplitDecision:
        return SplitDecision(
            node=number,
            feature=split.feature,
            threshold_bin=split.threshold_bin,
            left_bins=split.left_bins,
            default_left=split.default_left,
            missing_bin=self._missing_bin(split.feature),
            gain=split.gain,
            rows=self._nodes[number].rows,
        )

    def partition(self, node: int, goes_left: NDArray[np.bool_]) -> None:
        """Take the directions of a node's rows.

        The gradients of the rows that go left must add up to what the histograms promised, so
        directions that are damaged or belong to other rows do not pass (rows out of the sample
        have no such check).

        Parameters
        ----------
        node : int
            Id from a decision.
        goes_left : ndarray of bool
            One per row of `SplitDecision.rows`.

        Raises
        ------
        InputError
            If the node waits for no directions, or shape, type or the sum is wrong.
        """
        if node not in self._directions or self._directions[node] is not None:
            raise InputError("this node waits for no directions.", step=_STEP)
        goes_left = np.asarray(goes_left)
        if goes_left.dtype != np.bool_ or goes_left.shape != self._nodes[node].rows.shape:
            raise InputError("directions are one bool per row of the node.", step=_STEP)
        here = self._nodes[node]
        assert here.split is not None
        left = self._g[self._bag(here.rows[goes_left])].sum() * self._g_scale
        if abs(left - here.split.left_g) > 0.5 * self._g_scale:
            raise InputError(
                "the rows that go left do not add up to the split's gradients.",
                step=f"{_STEP}: directions",
                fix="check that all parties hold the same rows in the same order",
            )
        self._directions[node] = goes_left
        if all(directions is not None for directions in self._directions.values()):
            self._descend()

    def _descend(self) -> None:
        """Make the children of the level's splits and find out which of them go on."""
        parents = []
        for number, directions in sorted(self._directions.items()):
            assert directions is not None
            if self._too_small(number, directions):
                node = self._nodes[number]
                node.split = node.G = node.H = None
                self.undone.append(number)
                continue
            self._add_children(number, directions)
            parents.append(number)
        self._directions = {}
        minimum = 2 * self.params.min_child_samples
        for number in parents:
            parent = self._nodes[number]
            left, right = self._nodes[parent.left], self._nodes[parent.right]
            if left.depth >= self.params.max_depth or max(left.count, right.count) < minimum:
                parent.G = parent.H = None
                continue
            smaller = parent.left if left.count < right.count else parent.right
            self._active += [parent.left, parent.right]
            rows = self._bag(self._nodes[smaller].rows)
            if len(rows):
                self._waiting[smaller] = HistogramWork(smaller, rows)
            else:
                # Counts are estimates, so a split may leave one side without rows.
                zeros = np.zeros(self.features.total_bins)
                self._share(smaller, zeros, zeros.copy())

    def _too_small(self, number: int, goes_left: NDArray[np.bool_]) -> bool:
        """Whether a split leaves a child with too few rows of the sample."""
        limit = self.params.min_child_rows
        if not limit:
            return False
        rows = self._nodes[number].rows
        left = len(self._bag(rows[goes_left]))
        return min(left, self._nodes[number].count - left) < limit

    def _add_children(self, number: int, goes_left: NDArray[np.bool_]) -> None:
        parent = self._nodes[number]
        split = parent.split
        assert split is not None
        left_low = right_low = parent.low
        left_high = right_high = parent.high
        monotone = int(self.features.monotone[split.feature])
        if monotone:
            middle = (split.left_output + split.right_output) / 2.0
            if monotone > 0:
                left_high, right_low = min(left_high, middle), max(right_low, middle)
            else:
                left_low, right_high = max(left_low, middle), min(right_high, middle)
        parent.left, parent.right = len(self._nodes), len(self._nodes) + 1
        left = (split.left_g, split.left_h, split.left_output, left_low, left_high)
        right = (split.right_g, split.right_h, split.right_output, right_low, right_high)
        for side, (g, h, output, low, high) in ((goes_left, left), (~goes_left, right)):
            rows = parent.rows[side]
            child = _Node(
                rows=rows,
                count=len(self._bag(rows)),
                depth=parent.depth + 1,
                sum_g=g,
                sum_h=h,
                output=output,
                low=low,
                high=high,
                allowed=parent.allowed,
                parent=number,
            )
            self._nodes.append(child)
        parent.rows = parent.rows[:0]

    def finish(self, learning_rate: float) -> Tree:
        """Return the tree and fill `leaf_of_row`.

        Parameters
        ----------
        learning_rate : float
            Factor on every leaf's output.

        Raises
        ------
        InputError
            If nodes are left to split, or the learning rate is not positive.
        """
        if not self.done:
            raise InputError("the tree is not grown yet.", step=_STEP)
        if not 0 < learning_rate < np.inf:
            raise InputError("the learning rate is positive.", step=_STEP)
        nodes = self._nodes
        splits = [node.split for node in nodes]
        values = np.array([node.output * learning_rate for node in nodes])
        values[~(np.abs(values) > _ZERO)] = 0.0
        lengths = [0 if split is None else len(split.left_bins) for split in splits]
        for number, node in enumerate(nodes):
            if node.split is None:
                self.leaf_of_row[node.rows] = number
        return Tree(
            feature=np.array([LEAF if s is None else s.feature for s in splits], np.int32),
            threshold_bin=np.array(
                [-1 if s is None else s.threshold_bin for s in splits], np.int32
            ),
            default_left=np.array([s is not None and s.default_left for s in splits], np.bool_),
            missing_bin=np.array(
                [-1 if s is None else self._missing_bin(s.feature) for s in splits], np.int32
            ),
            category_start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            categories=np.array([b for s in splits if s for b in s.left_bins], np.int32),
            left=np.array([node.left for node in nodes], np.int32),
            right=np.array([node.right for node in nodes], np.int32),
            value=values,
            gain=np.array([0.0 if s is None else s.gain for s in splits]),
            count=np.array([node.count for node in nodes], np.int64),
        )
