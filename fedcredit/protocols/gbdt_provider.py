"""The data provider's role in joint tree training; the protocol is :mod:`fedcredit.protocols.gbdt`.

The provider checks whatever it is asked against the job, its features and its policy before it
computes, and keeps a share of the model: its own splits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fedcredit.errors import PeerProtocolError, PolicyError
from fedcredit.protocols.directions import DirectionsServer, no_slot
from fedcredit.protocols.encrypted_sums import SumServer
from fedcredit.protocols.forest import ProviderData, ProviderShare
from fedcredit.protocols.gbdt_messages import (
    Features,
    LevelStart,
    SplitChoices,
    TrainAck,
    TrainEnd,
    TrainJob,
    TrainStart,
    TreeEnd,
    TreeStart,
)
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.protocols.sum_schemes import AnyPlan
from fedcredit.stats.trees import Split, decision_directions
from fedcredit.wire import Peer

__all__ = ["ProviderLimits", "train_provider"]

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ProviderLimits:
    """What the provider refuses whoever asks.

    Attributes
    ----------
    min_node_rows : int
        With open membership, a node with fewer rows is refused.
    threads : int
        For the sums.
    cache_bytes : int
        Memory for transformed masks, which are reused while the rows' order stays.
    """

    min_node_rows: int = 10
    threads: int = 1
    cache_bytes: int = 0


async def train_provider(
    peer: Peer,
    job: TrainJob,
    data: ProviderData,
    share: ProviderShare,
    limits: ProviderLimits,
    *,
    salt: bytes,
    on_tree: Callable[[ProviderShare], None] = ignore,
    on_progress: Progress = ignore,
) -> ProviderShare:
    """Take part in growing a forest; the provider's role, after the job message.

    Parameters
    ----------
    peer : Peer
        The label holder.
    job : TrainJob
        As received and found acceptable.
    data : ProviderData
        Binned features of the job's rows.
    share : ProviderShare
        Empty, or a checkpoint of this job.
    limits : ProviderLimits
    salt : bytes
        The pair's and job's own, for the oblivious transfers.
    on_tree : callable (share)
        After every tree; the place to write a checkpoint.
    on_progress : callable (step, done, total)

    Returns
    -------
    ProviderShare
        The splits of the kept trees.

    Raises
    ------
    PeerProtocolError, PolicyError, CiphertextError
        The label holder asked for something outside the protocol or the provider's limits.
    """
    provider = _Provider(peer, job, data, share, limits)
    return await provider.run(salt, on_tree, on_progress)


class _Provider:
    def __init__(
        self,
        peer: Peer,
        job: TrainJob,
        data: ProviderData,
        share: ProviderShare,
        limits: ProviderLimits,
    ) -> None:
        self.peer, self.job, self.data, self.share, self.limits = peer, job, data, share, limits
        self.n = len(job.rows)
        self.n_bins = np.array([info.n_bins for info in data.infos], np.int64)
        self.use = np.ones(len(data.infos), np.bool_)
        self.directions = DirectionsServer(peer, hide_membership=job.hide_membership, n_rows=self.n)
        self.sums: SumServer | None = None
        self._plan: AnyPlan | None = None

    async def run(
        self,
        salt: bytes,
        on_tree: Callable[[ProviderShare], None],
        on_progress: Progress,
    ) -> ProviderShare:
        await self.peer.send(self._describe())
        start = (await self.peer.recv(TrainStart)).trees
        if not 0 <= start <= self.share.n_trees:
            self._refuse("it goes on from a tree that is not in this party's checkpoint.")
        self.share.truncate(start)
        self.sums = await SumServer.open(self.peer, n_rows=self.n, threads=self.limits.threads)
        await self.directions.open(salt)
        while True:
            message = await self.peer.recv_any(TreeStart, TrainEnd)
            if isinstance(message, TrainEnd):
                break
            assert isinstance(message, TreeStart)
            await self._tree(message)
            on_tree(self.share)
            await self.peer.send(TrainAck(len(self.share.splits)))
            on_progress("train", self.share.n_trees, self.job.n_trees)
        if not 0 <= message.trees <= self.share.n_trees:
            self._refuse("it keeps more trees than were grown.")
        self.share.truncate(message.trees)
        on_tree(self.share)
        await self.peer.send(TrainAck(len(self.share.splits)))
        return self.share

    def _describe(self) -> Features:
        infos = self.data.infos
        return Features(
            labels=self.data.labels,
            n_bins=np.array([info.n_bins for info in infos], np.int32),
            has_missing=np.array([info.has_missing for info in infos], np.uint8),
            is_categorical=np.array([info.is_categorical for info in infos], np.uint8),
            most_frequent=np.array([info.most_frequent_bin for info in infos], np.int32),
            monotone=np.array([info.monotone for info in infos], np.int32),
            split_cap=-1 if self.data.split_cap is None else self.data.split_cap,
            trees=self.share.n_trees,
        )

    async def _tree(self, start: TreeStart) -> None:
        if start.tree != self.share.n_trees or start.tree >= self.job.n_trees:
            self._refuse("a tree is out of turn.")
        if start.use.shape != self.use.shape:
            self._refuse("the feature mask does not fit the features.")
        use = start.use.astype(np.bool_)
        if (use != self.use).any():
            self._plan = None
        self.use = use
        level = 0
        while True:
            message = await self.peer.recv_any(LevelStart, TreeEnd)
            if isinstance(message, TreeEnd):
                break
            assert isinstance(message, LevelStart)
            if level >= self.job.max_depth:
                self._refuse("a tree is deeper than the job allows.")
            await self._level(message, level)
            level += 1
        self.share.n_trees += 1

    async def _level(self, level: LevelStart, depth: int) -> None:
        assert self.sums is not None
        nodes = 1 << depth
        if not 1 <= level.slots <= nodes or not 0 <= level.sums <= max(1, nodes // 2):
            self._refuse("a level has more nodes than its depth allows.")
        if len(level.summed) != (0 if self.job.hide_membership else level.sums):
            self._refuse("the nodes to sum are not as many as announced.")
        if len(set(level.summed)) != len(level.summed) or any(
            not 0 <= slot < level.slots for slot in level.summed
        ):
            self._refuse("a node to sum is not one of the level's.")
        if level.vectors not in (1, 2):
            self._refuse("a node has one or two encrypted vectors.")
        lane_size = no_slot(self.job.hide_membership)
        await self.directions.receive(-(-level.slots // lane_size))
        if self.use.any():
            await self._sum(level)
        choices = await self.peer.recv(SplitChoices)
        await self._answer(choices, level.slots, lane_size)

    async def _sum(self, level: LevelStart) -> None:
        assert self.sums is not None
        bins, n_bins = self.data.bins, self.n_bins[self.use]
        if not self.job.hide_membership:
            for slot in level.summed:
                rows = self._node_rows(slot)
                plan = self.sums.plan(bins[self.use][:, rows], n_bins)
                await self.sums.serve(self.peer, plan, level.vectors, len(rows))
        elif level.sums:
            if self._plan is None:
                cache = self.limits.cache_bytes
                self._plan = self.sums.plan(bins[self.use], n_bins, cache_bytes=cache)
            vectors = level.vectors * level.sums
            await self.sums.serve(self.peer, self._plan, vectors, self.n)

    def _node_rows(self, slot: int) -> npt.NDArray[np.int64]:
        assert self.directions.slots is not None
        rows = np.flatnonzero(self.directions.slots[0] == slot)
        if len(rows) < self.limits.min_node_rows:
            raise PolicyError(
                f"a node of fewer than {self.limits.min_node_rows} rows is not summed here.",
                step="train: histograms",
                fix="raise min_child_rows to that number",
            )
        return rows

    async def _answer(self, choices: SplitChoices, slots: int, lane_size: int) -> None:
        splits = self._splits(choices, slots)
        lanes: list[dict[int, Bits]] = [{} for _ in range(self.directions.lanes)]
        for slot, split in zip(choices.slots, splits, strict=True):
            lane, place = divmod(int(slot), lane_size)
            lanes[lane][place] = decision_directions(self.data.bins[split.feature], split)
        await self.directions.answer(lanes)
        self.share.splits += splits
        self.share.trees += [self.share.n_trees] * len(splits)

    def _splits(self, choices: SplitChoices, slots: int) -> list[Split]:
        """Check the splits that the label holder chose and read them."""
        k = len(choices.slots)
        columns = (choices.features, choices.thresholds, choices.default_left)
        if any(len(column) != k for column in columns) or len(choices.starts) != k + 1:
            self._refuse("the split choices differ in length.")
        starts = choices.starts.astype(np.int64)  # differences of int32 may wrap around
        if starts[0] != 0 or starts[-1] != len(choices.categories) or (np.diff(starts) < 0).any():
            self._refuse("the split choices' categories are malformed.")
        if len(np.unique(choices.slots)) != k or (
            k and (choices.slots.min() < 0 or choices.slots.max() >= slots)
        ):
            self._refuse("a split is for a node outside the level.")
        out = []
        for i in range(k):
            feature = int(choices.features[i])
            if not 0 <= feature < len(self.n_bins) or not self.use[feature]:
                self._refuse("a split uses a feature outside the tree.")
            info = self.data.infos[feature]
            left = tuple(choices.categories[starts[i] : starts[i + 1]].tolist())
            threshold = int(choices.thresholds[i])
            if info.is_categorical:
                fits = bool(left) and all(0 <= b < info.n_bins for b in left)
                fits = fits and all(a < b for a, b in itertools.pairwise(left))
            else:
                fits = not left and 0 <= threshold < info.n_bins
            if not fits:
                self._refuse("a split's bins are not those of its feature.")
            out.append(
                Split(
                    feature=feature,
                    threshold_bin=-1 if info.is_categorical else threshold,
                    left_bins=left,
                    default_left=bool(choices.default_left[i]),
                    missing_bin=info.n_bins - 1 if info.has_missing else -1,
                )
            )
        self._within_cap(out)
        return out

    def _within_cap(self, splits: list[Split]) -> None:
        cap = self.data.split_cap
        if cap is None:
            return
        served = [split.feature for split in (*self.share.splits, *splits)]
        if served and int(np.bincount(served).max()) > cap:
            raise PolicyError(
                f"a feature serves at most {cap} splits of a model here.", step="train: splits"
            )

    def _refuse(self, reason: str) -> NoReturn:
        raise PeerProtocolError(reason, party=self.peer.name, step="train")
