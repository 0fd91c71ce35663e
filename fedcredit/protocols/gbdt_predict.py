"""Joint scoring of aligned rows with a forest whose splits are shared out among the parties.

::

    label holder                                            each provider
      PredictJob{model, rows}                      ------->
      for every block of rows and every level:
        PredictLevel{split numbers, by lane}       ------->
        masked slots (or slots, if open)           ------->
                                                   <-------  directions
      PredictEnd                                   ------->

A lane holds a provider's splits of one tree and level. The label holder walks every row of every
tree down one level per exchange.

What each role learns, beside the table of :mod:`~fedcredit.protocols.directions`:

=============  ==========================================================================
role           learns
=============  ==========================================================================
label holder   the leaf that every row reaches in every tree, hence the score
provider       which rows are scored with which model, and which of its own splits belong to
               one tree and level; with hidden membership nothing that depends on where a row
               goes, with open membership which rows reach its nodes
=============  ==========================================================================

Sources: as for :mod:`~fedcredit.protocols.gbdt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fedcredit.errors import PeerProtocolError
from fedcredit.protocols.directions import DirectionsClient, DirectionsServer, no_slot
from fedcredit.protocols.forest import ForestState, PooledFeatures, ProviderShare
from fedcredit.protocols.gbdt_messages import PredictEnd, PredictJob, PredictLevel
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.stats.trees import LEAF, Tree, decision_directions
from fedcredit.wire import Peer, Peers

__all__ = ["predict_label_holder", "predict_provider"]

#: Lanes times rows of one exchange at most: bounds the memory of the transfers.
_CELLS = 1 << 21
#: Rows of a block at least, however many lanes there are.
_MIN_ROWS = 64
_STEP = "predict"

Bins = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class _Lane:
    """Up to a lane's size of one party's nodes of one tree and level."""

    tree: int
    nodes: npt.NDArray[np.int32]


def _node_depths(tree: Tree) -> npt.NDArray[np.int64]:
    depth = np.zeros(tree.n_nodes, np.int64)
    for node in np.flatnonzero(tree.feature != LEAF):
        depth[tree.left[node]] = depth[tree.right[node]] = depth[node] + 1
    return depth


def _lanes(
    trees: Sequence[Tree], mine: npt.NDArray[np.int64], level: int, size: int
) -> list[_Lane]:
    lanes = []
    for index, tree in enumerate(trees):
        nodes = np.flatnonzero(np.isin(tree.feature, mine) & (_node_depths(tree) == level))
        lanes += [
            _Lane(index, nodes[at : at + size].astype(np.int32))
            for at in range(0, len(nodes), size)
        ]
    return lanes


async def predict_label_holder(
    peers: Peers,
    job: PredictJob,
    bins: Bins,
    pooled: PooledFeatures,
    state: ForestState,
    *,
    on_progress: Progress = ignore,
) -> npt.NDArray[np.float64]:
    """Score rows; the label holder's role.

    Parameters
    ----------
    peers : Peers
        The providers whose splits the forest uses.
    job : PredictJob
    bins : ndarray of uint8 or uint16, shape (n, own features)
        The label holder's own binned features of the rows.
    pooled : PooledFeatures
    state : ForestState
    on_progress : callable (step, done, total)

    Returns
    -------
    ndarray of float64, shape (n,)
        Raw scores.
    """
    await peers.broadcast(job)
    clients = {
        name: DirectionsClient(peer, hide_membership=job.hide_membership)
        for name, peer in peers.items()
    }
    for name, client in clients.items():
        await client.open(job.salt + name.encode())
    walk = _Walk(peers, clients, bins, pooled, state, no_slot(job.hide_membership))
    n = len(job.rows)
    score = np.zeros(n)
    block = walk.block_rows()
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        score[rows] = await walk.scores(rows)
        on_progress("predict", rows.stop, n)
    await peers.broadcast(PredictEnd(len(state.trees)))
    return score


class _Walk:
    """Takes blocks of rows down all trees at once."""

    def __init__(
        self,
        peers: Peers,
        clients: dict[str, DirectionsClient],
        bins: Bins,
        pooled: PooledFeatures,
        state: ForestState,
        lane_size: int,
    ) -> None:
        self.peers, self.clients, self.bins, self.state = peers, clients, bins, state
        self.own = pooled.of("")
        self.levels = max((tree.depth for tree in state.trees), default=0)
        self.lanes = {
            name: [
                _lanes(state.trees, pooled.of(name), level, lane_size)
                for level in range(self.levels)
            ]
            for name in peers
        }
        self.lane_size = lane_size

    def block_rows(self) -> int:
        most = max((len(level) for lanes in self.lanes.values() for level in lanes), default=0)
        return max(_MIN_ROWS, _CELLS // max(1, most, len(self.state.trees)))

    async def scores(self, rows: slice) -> npt.NDArray[np.float64]:
        n = rows.stop - rows.start
        trees = self.state.trees
        node = np.zeros((len(trees), n), np.int32)
        for level in range(self.levels):
            step = node.copy()
            for name in self.peers:
                if self.lanes[name][level]:
                    await self._ask(name, self.lanes[name][level], rows, node)
            self._own_level(rows, node, step)
            for name in self.peers:
                if self.lanes[name][level]:
                    lanes = self.lanes[name][level]
                    slots = range(max(len(lane.nodes) for lane in lanes))
                    left = await self.clients[name].fetch(slots)
                    for lane, bits in zip(lanes, left, strict=True):
                        tree = trees[lane.tree]
                        here = np.isin(node[lane.tree], lane.nodes)
                        at = node[lane.tree][here]
                        step[lane.tree][here] = np.where(bits[here], tree.left[at], tree.right[at])
            node = step
        # Added up in the order of training, so that the sums are the same to the last bit.
        total = np.full(n, self.state.init_score)
        for index, tree in enumerate(trees):
            total += tree.value[node[index]]
        return total

    async def _ask(
        self, name: str, lanes: Sequence[_Lane], rows: slice, node: npt.NDArray[np.int32]
    ) -> None:
        choices = np.full((len(lanes), node.shape[1]), self.lane_size, np.uint8)
        numbers = []
        for place, lane in enumerate(lanes):
            numbers.append(self.state.split_numbers[lane.tree][lane.nodes])
            for slot, number in enumerate(lane.nodes):
                choices[place, node[lane.tree] == number] = slot
        starts = np.concatenate([[0], np.cumsum([len(k) for k in numbers])]).astype(np.int32)
        message = PredictLevel(
            rows.start, node.shape[1], starts, np.concatenate(numbers).astype(np.int32)
        )
        await self.peers[name].send(message)
        await self.clients[name].commit(choices)

    def _own_level(
        self, rows: slice, node: npt.NDArray[np.int32], step: npt.NDArray[np.int32]
    ) -> None:
        """Move the rows whose node splits on a feature of the label holder."""
        own = self.bins[rows]
        for index, tree in enumerate(self.state.trees):
            for number in np.unique(node[index]):
                feature = int(tree.feature[number])
                if feature == LEAF or feature not in self.own:
                    continue
                here = node[index] == number
                left = decision_directions(own[here, feature], tree.split(int(number)))
                step[index][here] = np.where(left, tree.left[number], tree.right[number])


async def predict_provider(
    peer: Peer,
    job: PredictJob,
    bins: Bins,
    share: ProviderShare,
    *,
    salt: bytes,
    on_progress: Progress = ignore,
) -> int:
    """Answer with directions; the provider's role, after the job message.

    Parameters
    ----------
    peer : Peer
        The label holder.
    job : PredictJob
    bins : ndarray of uint8 or uint16, shape (features, n)
        This party's binned features of the rows.
    share : ProviderShare
    salt : bytes
        The pair's and job's own, for the oblivious transfers.
    on_progress : callable (step, done, total)

    Returns
    -------
    int
        Rows answered for.
    """
    n = len(job.rows)
    size = no_slot(job.hide_membership)
    server = DirectionsServer(peer, hide_membership=job.hide_membership, n_rows=n)
    await server.open(salt)
    first = answered = 0
    served: set[int] = set()
    while True:
        message = await peer.recv_any(PredictLevel, PredictEnd)
        if isinstance(message, PredictEnd):
            return answered
        assert isinstance(message, PredictLevel)
        if message.first == answered:
            first, served = answered, set()
            answered += message.rows
        if (message.first, message.first + message.rows) != (first, answered):
            _refuse(peer, "a block of rows is out of turn.")
        _check_level(peer, message, n, size, share)
        asked = set(message.splits.tolist())
        if len(asked) != len(message.splits) or asked & served:
            _refuse(peer, "a split is asked for twice.")
        served |= asked
        await server.receive(len(message.starts) - 1, n_rows=message.rows)
        block = bins[:, message.first : message.first + message.rows]
        lanes: list[dict[int, npt.NDArray[np.bool_]]] = []
        for start, stop in zip(message.starts[:-1], message.starts[1:], strict=True):
            splits = [share.splits[number] for number in message.splits[start:stop]]
            lanes.append(
                {
                    slot: decision_directions(block[split.feature], split)
                    for slot, split in enumerate(splits)
                }
            )
        await server.answer(lanes)
        on_progress(_STEP, answered, n)


def _check_level(
    peer: Peer, message: PredictLevel, n: int, size: int, share: ProviderShare
) -> None:
    lengths = np.diff(message.starts.astype(np.int64))
    splits = message.splits
    if (
        len(message.starts) < 2
        or message.starts[0] != 0
        or message.starts[-1] != len(splits)
        or not ((lengths >= 1) & (lengths <= size)).all()
        or not 1 <= message.rows <= n - message.first
        or len(lengths) * message.rows > max(_CELLS, len(lengths) * _MIN_ROWS)
        or splits.min() < 0
        or splits.max() >= len(share.splits)
    ):
        _refuse(peer, "a request names rows or splits outside the job.")


def _refuse(peer: Peer, reason: str) -> NoReturn:
    raise PeerProtocolError(reason, party=peer.name, step=_STEP)
