"""One training of a forest at the platform: its session, its checkpoints and what it cost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fedcredit.errors import InputError
from fedcredit.models.federation import Federation
from fedcredit.models.fitting import Columns, JobRows, OwnFeatures
from fedcredit.models.report import TreeCost
from fedcredit.models.shares import StoredForest
from fedcredit.models.store import Store
from fedcredit.protocols.cost import TreeEstimate, describe
from fedcredit.protocols.forest import ForestParams, ForestState, LabelData, PooledFeatures
from fedcredit.protocols.gbdt import ForestHooks, train_label_holder
from fedcredit.protocols.gbdt_messages import TrainJob
from fedcredit.wire import Peers

__all__ = ["MODEL", "ForestJob", "Training", "interrupted_seed"]

#: Kind under which a store holds finished models.
MODEL = "model"
_CHECKPOINT = "checkpoint"
_STEP = "train: resume"


def interrupted_seed(store: Store, model_id: str) -> int:
    """Return the seed of an interrupted fit.

    Raises
    ------
    InputError
        The store holds no checkpoint of this fit.
    """
    data = store.get(_CHECKPOINT, model_id)
    if data is None:
        raise InputError(
            "there is no interrupted fit with this id.",
            step=_STEP,
            fix="resume with the model_id_ of a fit that was interrupted in this federation",
        )
    _, _, extra = StoredForest.read(data).unpack()
    return int(extra["seed"])


@dataclass
class Training:
    """What a training leaves besides its checkpoints.

    Attributes
    ----------
    state : ForestState
    pooled : PooledFeatures
    trees : list of TreeCost
    plan : list of TreeEstimate
        What a tree was expected to cost by block size; empty if there was no choice.
    block : int or None
        The block size that was chosen.
    """

    state: ForestState
    pooled: PooledFeatures
    trees: list[TreeCost]
    plan: list[TreeEstimate]
    block: int | None


@dataclass(frozen=True, eq=False)
class ForestJob:
    """Everything that determines a forest but the providers' columns.

    Attributes
    ----------
    rows : JobRows
    data : LabelData
    own : OwnFeatures
    columns : Columns
    params : ForestParams
    max_bins : int
    """

    rows: JobRows
    data: LabelData
    own: OwnFeatures
    columns: Columns
    params: ForestParams
    max_bins: int

    @property
    def federation(self) -> Federation:
        """The federation of the job's rows."""
        return self.rows.frame.federation

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that take part."""
        use = self.columns.use
        return tuple(n for n in self.rows.frame.providers if use is None or n in use)

    def digest(self) -> str:
        """Return a hash over all that two runs must share for one to go on from the other."""
        plain = {
            "frame": self.rows.frame.frame_id,
            "params": repr(self.params),
            "max_bins": self.max_bins,
            "own": self.own.to_dict(),
            "use": self.columns.use,
            "monotone": self.columns.monotone,
            "weighted": self.data.weight is not None,
        }
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for array in (self.rows.frame.rows, self.data.y, self.data.weight, self.data.is_train):
            if array is not None:
                digest.update(hashlib.sha256(array.tobytes()).digest())
        return digest.hexdigest()

    def begin(self, model_id: str, *, resume: bool) -> None:
        """Write the first checkpoint, or see that the one to go on from is of this job.

        Raises
        ------
        InputError
            It is a checkpoint of another job.
        """
        if not resume:
            self._keep(model_id, ForestState(), PooledFeatures())
            return
        data = self.federation.store.get(_CHECKPOINT, model_id)
        if data is None or StoredForest.read(data).unpack()[2]["job"] != self.digest():
            raise InputError(
                "the checkpoint belongs to a fit of other rows, labels or parameters.",
                step=_STEP,
                fix="resume with the frame, the arguments and the random_state of that fit",
            )

    def _keep(self, model_id: str, state: ForestState, pooled: PooledFeatures) -> None:
        stored = StoredForest.of(state, pooled, {"job": self.digest(), "seed": self.params.seed})
        self.federation.store.put(_CHECKPOINT, model_id, stored.to_bytes())

    def _checkpoint(self, model_id: str) -> ForestState:
        data = self.federation.store.get(_CHECKPOINT, model_id)
        return StoredForest.read(data).unpack()[0] if data is not None else ForestState()

    def train(self, model_id: str) -> Training:
        """Grow the forest from the last checkpoint on; see :meth:`begin`.

        A backend that opens the session anew makes the role again, which then reads the
        checkpoint of the last complete tree.

        Raises
        ------
        FedCreditError
            With party and step; the checkpoint stays, so that the fit can be resumed.
        """
        federation = self.federation
        costs = _Costs(federation)
        plan: list[TreeEstimate] = []
        blocks = [self.params.block]

        def planned(estimates: Sequence[TreeEstimate], chosen: TreeEstimate) -> None:
            plan[:], blocks[:] = estimates, [chosen.block]
            federation.on_note(describe(estimates, chosen))

        def keep(state: ForestState, pooled: PooledFeatures) -> None:
            costs.tree_done(len(state.trees) - 1)
            self._keep(model_id, state, pooled)

        async def role(peers: Peers) -> tuple[ForestState, PooledFeatures]:
            state = self._checkpoint(model_id)
            costs.begin()
            job = self._message(model_id, len(state.trees))
            return await train_label_holder(
                peers,
                {name: self._addressed(job, name) for name in peers},
                self.data,
                self.params,
                state,
                ForestHooks(keep, federation.on_progress, planned),
                own_labels=[coder.name for coder in self.own.coders],
            )

        state, pooled = federation.run(
            role, providers=self.providers, job=f"train-{model_id}", phase="train"
        )
        return Training(state, pooled, costs.trees, plan, blocks[0])

    def finish(self, model_id: str, model: bytes) -> None:
        """Put the finished model in the place of its checkpoint."""
        self.federation.store.put(MODEL, model_id, model)
        self.federation.store.delete(_CHECKPOINT, model_id)

    def _message(self, model_id: str, trees: int) -> TrainJob:
        return TrainJob(
            model_id=model_id,
            frame_id=self.rows.frame.frame_id,
            rows=self.rows.frame.rows,
            salt=secrets.token_bytes(32),
            n_trees=self.params.n_estimators,
            trees=trees,
            max_depth=self.params.tree.max_depth,
            max_bins=self.max_bins,
            hide_membership=self.params.hide_membership,
            columns=(),
            monotone=(),
            signs=(),
        )

    def _addressed(self, job: TrainJob, name: str) -> TrainJob:
        """Return the job for one provider: its own columns and constraints only."""
        signs = self.columns.monotone.get(name, {})
        use = self.columns.use
        return dataclasses.replace(
            job,
            columns=() if use is None else use.get(name, ()),
            monotone=tuple(signs),
            signs=tuple(signs.values()),
        )


class _Costs:
    """Seconds and bytes of every tree."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self.trees: list[TreeCost] = []

    def begin(self) -> None:
        self._mark = self._now()

    def _now(self) -> tuple[float, int, int]:
        counts = self._federation.session_counts()
        platform = self._federation.platform
        up = sum(c.bytes for (sender, _, _), c in counts.items() if sender == platform)
        down = sum(c.bytes for (_, recipient, _), c in counts.items() if recipient == platform)
        return time.perf_counter(), up, down

    def tree_done(self, index: int) -> None:
        now = self._now()
        seconds, up, down = (b - a for a, b in zip(self._mark, now, strict=True))
        # A tree that is grown again after a new start of the session replaces its first entry.
        self.trees = [cost for cost in self.trees if cost.index < index]
        self.trees.append(TreeCost(index, float(seconds), int(up), int(down)))
        self._mark = now
