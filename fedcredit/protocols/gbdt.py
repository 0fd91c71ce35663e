"""Vertical gradient-boosted trees: one label holder, any number of data providers.

Every tree is grown level by level by :class:`fedcredit.stats.grower.TreeGrower` at the label
holder. Histograms of the providers' features come from
:mod:`~fedcredit.protocols.encrypted_sums`, the ways of their rows from
:mod:`~fedcredit.protocols.directions`::

    label holder                                           each provider
      TrainJob{rows, limits}                    ------->
                                                <-------   Features{bins per feature}
      TrainStart{trees already made}, keys      ------->
      for every tree:
        TreeStart{features used}                ------->
        for every level:
          LevelStart, node map or corrections   ------->
          encrypted gradients                   ------->
                                                <-------   encrypted sums per bin
          SplitChoices{slot, feature, bin}      ------->
                                                <-------   directions of the rows
        TreeEnd                                 ------->   (checkpoint)
          (checkpoint)                          <-------   TrainAck
      TrainEnd{trees kept}                      ------->
                                                <-------   TrainAck

What each role learns, beside the two sub-protocols' tables:

=============  ==========================================================================
role           learns
=============  ==========================================================================
label holder   per feature of a provider: number of bins, the most frequent bin, whether it
               has missing values, and its label (a number unless the provider releases
               names); per node and bin the sums of gradients and hessians, from which the
               counts per bin follow; the bin numbers of splits, never a cut point; which
               rows of a splitting node went left. Over many trees the last item orders the
               rows by an (unnamed) feature ever more finely; ``max_splits_per_feature`` at
               the provider bounds into how many groups
provider       the aligned rows of the job; per level of a tree the number of nodes and of
               sums, its own splits and the places of their nodes in the level, hence which
               rows are in a node below nothing but its own splits; with open membership
               which rows share a node, whoever made the splits above it
=============  ==========================================================================

No label, gradient, score, feature value or cut point leaves its owner in the clear.

Sources: Cheng et al., "SecureBoost", IEEE Intelligent Systems 2021 (the split of work between
label holder and providers); Ke et al., "LightGBM", NeurIPS 2017 (the trees).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encsum_keyholder import check_totals
from fedcredit.crypto.encsum_pairs import decode_pair, encode_pair
from fedcredit.errors import CiphertextError, InputError, PeerProtocolError
from fedcredit.protocols.blame import blamed_on
from fedcredit.protocols.boosting import Boosting
from fedcredit.protocols.cost import TreeEstimate, choose_block, estimate_blocks
from fedcredit.protocols.directions import DirectionsClient, no_slot
from fedcredit.protocols.encrypted_sums import SumClient
from fedcredit.protocols.forest import (
    PAIR_BITS,
    ForestParams,
    ForestState,
    LabelData,
    PooledFeatures,
)
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
from fedcredit.stats.grower import HistogramWork, TreeGrower
from fedcredit.stats.histograms import local_histograms
from fedcredit.stats.quantise import QuantisedGradients
from fedcredit.stats.trees import SplitDecision, decision_directions
from fedcredit.wire import Peers

__all__ = ["ForestHooks", "train_label_holder"]

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ForestHooks:
    """What the caller is told while a forest grows.

    Attributes
    ----------
    on_tree : callable (state, pooled features)
        After every tree; the place to write a checkpoint.
    on_progress : callable (step, done, total)
    on_plan : callable (estimates, chosen)
        Once, when the block size is chosen: what a tree costs by block size.
    """

    on_tree: Callable[[ForestState, PooledFeatures], None] = ignore
    on_progress: Progress = ignore
    on_plan: Callable[[Sequence[TreeEstimate], TreeEstimate], None] = ignore


async def train_label_holder(
    peers: Peers,
    jobs: Mapping[str, TrainJob],
    data: LabelData,
    params: ForestParams,
    state: ForestState,
    hooks: ForestHooks | None = None,
    *,
    own_labels: Sequence[str] = (),
) -> tuple[ForestState, PooledFeatures]:
    """Grow a forest with the providers among ``peers``; the label holder's role.

    Parameters
    ----------
    peers : Peers
        The providers; none for a forest of the label holder's features alone.
    jobs : mapping of provider to TrainJob
        Alike but for the columns and constraints.
    data : LabelData
    params : ForestParams
    state : ForestState
        Empty, or a checkpoint to go on from.
    hooks : ForestHooks
    own_labels : sequence of str
        Labels of the label holder's features.

    Returns
    -------
    ForestState, PooledFeatures

    Raises
    ------
    PeerProtocolError
        A provider answered out of turn or with impossible content.
    """
    holder = _LabelHolder(peers, jobs, data, params, hooks or ForestHooks())
    return await holder.run(state, own_labels)


class _LabelHolder:
    def __init__(
        self,
        peers: Peers,
        jobs: Mapping[str, TrainJob],
        data: LabelData,
        params: ForestParams,
        hooks: ForestHooks,
    ) -> None:
        self.peers, self.jobs, self.data, self.params, self.hooks = peers, jobs, data, params, hooks
        self.pooled = PooledFeatures()
        self.n = len(data.y)
        self.local = Boosting(params, data, self.pooled)
        self.vectors = 2 if params.precision == "exact" else 1
        self.sums: SumClient | None = None
        self.directions = {
            name: DirectionsClient(peer, hide_membership=params.hide_membership)
            for name, peer in peers.items()
        }
        self.split_counts = dict.fromkeys(peers, 0)

    async def run(
        self, state: ForestState, own_labels: Sequence[str]
    ) -> tuple[ForestState, PooledFeatures]:
        for name, peer in self.peers.items():
            await peer.send(self.jobs[name])
        self.pooled.add("", self.data.infos, own_labels)
        start = len(state.trees)
        for name, reply in (await self.peers.gather(Features)).items():
            self.pooled.read(name, reply, self.jobs[name])
            start = min(start, reply.trees)
        if start < len(state.trees):
            state = ForestState()  # scores of an earlier tree are not kept: begin anew
            start = 0
        if start == 0:
            state = self.local.initial_state()
        await self.peers.broadcast(TrainStart(start))
        if self.peers:
            self.sums = SumClient(self.params.profile(self.n, self._block()))
            await self.sums.open(self.peers)
        for name, client in self.directions.items():
            await client.open(self.jobs[name].salt + name.encode())
            self.split_counts[name] = self._splits_of(state, name)
        for index in range(start, self.params.n_estimators):
            if self.local.stopped(state):
                break
            await self._tree(state, index)
            # A checkpoint here of a tree that a provider has not kept could not be resumed from.
            await self._kept(state)
            self.hooks.on_tree(state, self.pooled)
            self.hooks.on_progress("train", index + 1, self.params.n_estimators)
        if self.params.early_stopping_rounds is not None:
            state = state.best()
        await self._end(state)
        return state, self.pooled

    def _block(self) -> int | None:
        """Choose the rows per ciphertext by the cost model, unless they are given."""
        if not self.params.block_is_free:
            return self.params.block
        bins = [sum(self.pooled.infos[f].n_bins for f in self.pooled.of(n)) for n in self.peers]
        estimates = estimate_blocks(
            self.params.profile,
            [total for total in bins if total],
            n_rows=self.n,
            depth=self.params.tree.max_depth,
            vectors=self.vectors,
            hide_membership=self.params.hide_membership,
            mbit_per_second=self.params.mbit_per_second,
        )
        chosen = choose_block(estimates)
        self.hooks.on_plan(estimates, chosen)
        return chosen.block

    def _splits_of(self, state: ForestState, name: str) -> int:
        mine = self.pooled.of(name)
        undone = sum(feature in mine for _, feature in state.undone)
        return undone + sum(int(np.isin(tree.feature, mine).sum()) for tree in state.trees)

    async def _tree(self, state: ForestState, index: int) -> None:
        in_bag, use = self.local.sample(index)
        gradients = self.local.gradients(state.score, in_bag, index)
        grower = TreeGrower(
            in_bag,
            gradients.g,
            gradients.h,
            gradients.g_scale,
            gradients.h_scale,
            self.pooled.infos,
            self.params.tree,
            col_mask=use,
            split_budget=self.local.split_budget(state),
        )
        for name, peer in self.peers.items():
            await peer.send(TreeStart(index, use[self.pooled.of(name)].astype(np.uint8)))
        numbers: dict[int, int] = {}
        features: dict[int, int] = {}
        while not grower.done:
            frontier = [node for node, _ in grower.frontier()]
            choices = self._choices(grower)
            await self._histograms(grower, gradients, use, choices)
            await self._directions(grower, frontier, choices, numbers, features)
        await self.peers.broadcast(TreeEnd(index))
        for node in grower.undone:
            if numbers.pop(node, None) is not None:
                state.undone.append((index, features[node]))
        tree = grower.finish(self.params.learning_rate)
        state.trees.append(tree)
        split_numbers = np.full(tree.n_nodes, -1, np.int32)
        split_numbers[list(numbers)] = list(numbers.values())
        state.split_numbers.append(split_numbers)
        state.score = state.score + tree.value[grower.leaf_of_row]
        self.local.record_losses(state)

    def _choices(self, grower: TreeGrower) -> npt.NDArray[np.uint8]:
        """Return each row's slot in each lane of the level, shape (lanes, n)."""
        none = no_slot(self.params.hide_membership)
        frontier = grower.frontier()
        choices = np.full((-(-len(frontier) // none), self.n), none, np.uint8)
        for position, (_, rows) in enumerate(frontier):
            lane, slot = divmod(position, none)
            choices[lane, rows] = slot
        return choices

    async def _histograms(
        self,
        grower: TreeGrower,
        gradients: QuantisedGradients,
        use: Bits,
        choices: npt.NDArray[np.uint8],
    ) -> None:
        work = grower.histogram_work()
        askers = self._askers(use)
        if self.peers:
            await self._request(grower, work, gradients, choices, askers)
        own = self.pooled.of("")
        own_offsets = self.pooled.offsets()[: len(own) + 1]
        G = np.zeros((len(work), int(self.pooled.offsets()[-1])), np.int64)
        H = np.zeros_like(G)
        for i, item in enumerate(work):
            g, h = local_histograms(
                self.data.bins, item.rows, gradients.g, gradients.h, own_offsets
            )
            G[i, : own_offsets[-1]], H[i, : own_offsets[-1]] = g, h
        for name in askers:
            places = self._places(name, use)
            bins = [self.pooled.infos[f].n_bins for f in self.pooled.of(name) if use[f]]
            sums_g, sums_h = await self._collect(name, len(work), bins)
            with blamed_on(self.peers[name], "train: histograms"):
                _check_sums(sums_g, sums_h, bins, work, gradients)
            G[:, places], H[:, places] = sums_g, sums_h
        for i, item in enumerate(work):
            grower.supply(item.node, G[i], H[i])

    def _askers(self, use: Bits) -> Peers:
        """Return the providers that have a usable feature."""
        return Peers(name for name in self.peers if use[self.pooled.of(name)].any())

    async def _request(
        self,
        grower: TreeGrower,
        work: Sequence[HistogramWork],
        gradients: QuantisedGradients,
        choices: npt.NDArray[np.uint8],
        askers: Peers,
    ) -> None:
        """Send the slots and the encrypted gradients of the nodes to be summed."""
        assert self.sums is not None
        rows_of = dict(grower.frontier())
        slot_of = {node: position for position, node in enumerate(rows_of)}
        summed = tuple(slot_of[item.node] for item in work)
        shown = () if self.params.hide_membership else summed
        await self.peers.broadcast(LevelStart(len(rows_of), len(work), self.vectors, shown))
        for client in self.directions.values():
            await client.commit(choices)
        values = np.zeros((len(work), self.vectors, self.n), np.int64)
        for i, item in enumerate(work):
            g, h = gradients.g[item.rows], gradients.h[item.rows]
            if self.vectors == 2:
                values[i, 0, item.rows], values[i, 1, item.rows] = g, h
            else:
                values[i, 0, item.rows] = encode_pair(g, h, PAIR_BITS)
        if self.params.hide_membership:
            if len(work):
                await self.sums.request(askers, values.reshape(-1, self.n))
            return
        for i, item in enumerate(work):
            await self.sums.request(askers, values[i][:, rows_of[item.node]])

    async def _collect(
        self, name: str, nodes: int, bins: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Receive a provider's sums of g and of h, shape (nodes, bins) each."""
        assert self.sums is not None
        peer = self.peers[name]
        if self.params.hide_membership:
            sums = await self.sums.collect(peer, nodes * self.vectors, bins) if nodes else None
        else:
            parts = [await self.sums.collect(peer, self.vectors, bins) for _ in range(nodes)]
            sums = np.concatenate(parts) if parts else None
        if sums is None:
            empty = np.zeros((0, sum(bins)), np.int64)
            return empty, empty
        if self.vectors == 2:
            return sums[0::2], sums[1::2]
        return decode_pair(sums, PAIR_BITS)

    def _places(self, name: str, use: Bits) -> npt.NDArray[np.int64]:
        """Positions in a pooled histogram of the used features of a provider."""
        offsets = self.pooled.offsets()
        mine = [f for f in self.pooled.of(name) if use[f]]
        parts = [np.arange(offsets[f], offsets[f + 1]) for f in mine]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    async def _directions(
        self,
        grower: TreeGrower,
        frontier: Sequence[int],
        choices: npt.NDArray[np.uint8],
        numbers: dict[int, int],
        features: dict[int, int],
    ) -> None:
        decisions = grower.decide()
        none = no_slot(self.params.hide_membership)
        position = {node: i for i, node in enumerate(frontier)}
        for name, peer in self.peers.items():
            mine = [d for d in decisions if self.pooled.owner[d.feature] == name]
            await peer.send(self._split_choices(mine, position))
            for decision in mine:
                numbers[decision.node] = self.split_counts[name]
                features[decision.node] = decision.feature
                self.split_counts[name] += 1
        for decision in decisions:
            if self.pooled.owner[decision.feature] == "":
                column = self.data.bins[decision.rows, decision.feature]
                grower.partition(decision.node, decision_directions(column, decision))
        for name, client in self.directions.items():
            mine = [d for d in decisions if self.pooled.owner[d.feature] == name]
            left = await client.fetch({position[d.node] % none for d in mine})
            for decision in mine:
                lane = position[decision.node] // none
                try:
                    grower.partition(decision.node, left[lane, decision.rows])
                except InputError as error:
                    raise PeerProtocolError(
                        error.reason, party=name, step="train: directions", fix=error.fix
                    ) from None

    def _split_choices(
        self, decisions: Sequence[SplitDecision], position: Mapping[int, int]
    ) -> SplitChoices:
        lengths = [len(d.left_bins) for d in decisions]
        return SplitChoices(
            slots=np.array([position[d.node] for d in decisions], np.int32),
            features=np.array([self.pooled.local[d.feature] for d in decisions], np.int32),
            thresholds=np.array([d.threshold_bin for d in decisions], np.int32),
            default_left=np.array([d.default_left for d in decisions], np.uint8),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            categories=np.array([b for d in decisions for b in d.left_bins], np.int32),
        )

    async def _end(self, state: ForestState) -> None:
        await self.peers.broadcast(TrainEnd(len(state.trees)))
        await self._kept(state)

    async def _kept(self, state: ForestState) -> None:
        """Wait until every provider has stored its share of the trees."""
        for name, ack in (await self.peers.gather(TrainAck)).items():
            if ack.splits != self._splits_of(state, name):
                raise PeerProtocolError(
                    "the provider keeps another number of splits.", party=name, step="train: tree"
                )


def _check_sums(
    g: npt.NDArray[np.int64],
    h: npt.NDArray[np.int64],
    bins: Sequence[int],
    work: Sequence[HistogramWork],
    gradients: QuantisedGradients,
) -> None:
    """Check a provider's sums against what the label holder knows of the nodes."""
    check_totals(g, bins, [int(gradients.g[item.rows].sum()) for item in work])
    check_totals(h, bins, [int(gradients.h[item.rows].sum()) for item in work])
    if int(h.min(initial=0)) < 0:
        raise CiphertextError("a sum of hessians is negative.")
