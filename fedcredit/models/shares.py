"""The platform's share of a forest at rest: one Arrow message, no pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcredit.models.at_rest import AtRest, reading_model
from fedcredit.protocols.forest import ForestState, PooledFeatures
from fedcredit.stats.tree_params import FeatureInfo
from fedcredit.stats.trees import Tree
from fedcredit.wire import F64x1, Message

__all__ = ["StoredForest"]


@dataclass(frozen=True, eq=False, repr=False)
class StoredForest(AtRest, Message, kind="store.forest", version=1, max_bytes=8 << 30):
    """At rest at the platform: trees, pooled features and what else an estimator needs.

    ``header`` is JSON; ``score`` and ``best_score`` are the raw scores of the job's rows.
    """

    _holds = "a forest"

    header: str
    score: F64x1
    best_score: F64x1

    @classmethod
    def of(cls, state: ForestState, pooled: PooledFeatures, extra: dict[str, Any]) -> StoredForest:
        """Collect a forest; ``extra`` is JSON-able."""
        header = {
            "init_score": state.init_score,
            "train_loss": state.train_loss,
            "valid_loss": state.valid_loss,
            "trees": [tree.to_dict() for tree in state.trees],
            "split_numbers": [numbers.tolist() for numbers in state.split_numbers],
            "undone": state.undone,
            "pooled": {
                "owner": pooled.owner,
                "local": pooled.local,
                "labels": pooled.labels,
                "cap": pooled.cap,
                "infos": [
                    [
                        info.n_bins,
                        info.has_missing,
                        info.is_categorical,
                        info.most_frequent_bin,
                        info.monotone,
                    ]
                    for info in pooled.infos
                ],
            },
            "extra": extra,
        }
        return cls(json.dumps(header), state.score, state.best_score)

    def unpack(self) -> tuple[ForestState, PooledFeatures, dict[str, Any]]:
        """Rebuild state, pooled features and the extra part.

        Raises
        ------
        InputError
            The header is not one that :meth:`of` made.
        """
        with reading_model():
            header = json.loads(self.header)
            state = ForestState(
                trees=[Tree.from_dict(item) for item in header["trees"]],
                split_numbers=[np.array(item, np.int32) for item in header["split_numbers"]],
                undone=[(int(tree), int(feature)) for tree, feature in header["undone"]],
                init_score=float(header["init_score"]),
                score=np.array(self.score),
                best_score=np.array(self.best_score),
                train_loss=list(header["train_loss"]),
                valid_loss=list(header["valid_loss"]),
            )
            part = header["pooled"]
            pooled = PooledFeatures(
                infos=[FeatureInfo(*item) for item in part["infos"]],
                owner=list(part["owner"]),
                local=list(part["local"]),
                labels=list(part["labels"]),
                cap=list(part["cap"]),
            )
            _check(state, pooled)
            return state, pooled, dict(header["extra"])


def _check(state: ForestState, pooled: PooledFeatures) -> None:
    """Raise ValueError if the parts of a forest contradict each other."""
    columns = (pooled.owner, pooled.local, pooled.labels, pooled.cap)
    if any(len(column) != len(pooled) for column in columns):
        raise ValueError
    for tree, numbers in zip(state.trees, state.split_numbers, strict=True):
        if len(numbers) != tree.n_nodes or int(tree.feature.max()) >= len(pooled):
            raise ValueError
