"""A data provider's part in forests: training and prediction behind its policy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import PolicyError, ProtocolError
from fedcredit.models.columns import ColumnCoder
from fedcredit.models.policy import ProviderPolicy
from fedcredit.protocols.cost import MASK_CACHE_BYTES
from fedcredit.protocols.forest import ProviderData, ProviderShare
from fedcredit.protocols.gbdt_messages import PredictJob, TrainJob
from fedcredit.protocols.gbdt_predict import predict_provider
from fedcredit.protocols.gbdt_provider import ProviderLimits, train_provider
from fedcredit.stats.binning import FeatureBins, bin_matrix, fit_bins
from fedcredit.wire import Peers

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine

__all__ = ["predict_forest", "train_forest"]

_MODEL = "model"


async def train_forest(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: TrainJob
) -> None:
    """Take part in the training of a forest, from the last checkpoint of this job on."""
    _check(job, engine.policy)
    frame = engine.rows(job.frame_id, job.rows)
    record = _resume(engine, job)
    if record is None:
        record = _new_record(engine, job, frame)
    names = _column_names(record)
    engine.permit(names, rows=len(frame))
    limits = ProviderLimits(
        min_node_rows=max(engine.policy.min_node_rows, engine.catalog.min_aggregation(names)),
        threads=engine.threads,
        cache_bytes=MASK_CACHE_BYTES if job.hide_membership else 0,
    )

    def checkpoint(share: ProviderShare) -> None:
        record["share"] = share.to_dict()
        engine.store.put(_MODEL, job.model_id, json.dumps(record).encode())

    await train_provider(
        peers[coordinator],
        job,
        _provider_data(engine, job, record, frame),
        ProviderShare.from_dict(record["share"]),
        limits,
        salt=job.salt + engine.party.encode(),
        on_tree=checkpoint,
        on_progress=engine.progress,
    )


async def predict_forest(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: PredictJob
) -> None:
    """Take part in the prediction of a forest that was trained with this party."""
    if not job.hide_membership and not engine.policy.allow_sorted:
        raise PolicyError(
            "open membership is not allowed here.",
            step="predict",
            fix="predict with hide_membership=True",
        )
    data = engine.store.get(_MODEL, job.model_id)
    if data is None:
        raise ProtocolError(
            "this model is not known here.",
            step="predict",
            fix="train it again; the party may have lost or cleared its storage",
        )
    record: dict[str, Any] = json.loads(data)
    engine.permit(_column_names(record))
    coders, bins = _encoders(record)
    frame = engine.rows(job.frame_id, job.rows)
    with engine.only_labels(frame):
        binned = _binned(coders, bins, frame, engine.party)
    await predict_provider(
        peers[coordinator],
        job,
        binned,
        ProviderShare.from_dict(record["share"]),
        salt=job.salt + engine.party.encode(),
        on_progress=engine.progress,
    )


def _check(job: TrainJob, policy: ProviderPolicy) -> None:
    if not job.hide_membership and not policy.allow_sorted:
        raise PolicyError(
            "open membership is not allowed here.",
            step="train",
            fix="train with hide_membership=True",
        )
    if job.n_trees > policy.max_trees:
        raise PolicyError(
            f"a model has at most {policy.max_trees} trees here.",
            step="train",
            fix="lower n_estimators",
        )
    if not 1 <= job.max_depth <= 8 or not 2 <= job.max_bins <= 65_535:
        raise ProtocolError("depth or bins are out of range.", step="train")
    if len(job.monotone) != len(job.signs) or set(job.signs) - {-1, 1}:
        raise ProtocolError("the monotone constraints are malformed.", step="train")


def _digest(job: TrainJob) -> str:
    parts = (
        job.frame_id,
        hashlib.sha256(job.rows.tobytes()).hexdigest(),
        job.max_bins,
        job.max_depth,
        job.hide_membership,
        job.columns,
        job.monotone,
        job.signs,
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _resume(engine: ProviderEngine, job: TrainJob) -> dict[str, Any] | None:
    """Return the record of an interrupted run of exactly this job."""
    data = engine.store.get(_MODEL, job.model_id)
    if data is None or not job.trees:
        return None
    record: dict[str, Any] = json.loads(data)
    return record if record["job"] == _digest(job) else None


def _new_record(engine: ProviderEngine, job: TrainJob, frame: pd.DataFrame) -> dict[str, Any]:
    engine.chosen(job.monotone, list(frame.columns))
    names = engine.chosen(job.columns, list(frame.columns))
    with engine.only_labels(frame):
        coders = engine.coders(frame, names)
        bins = [
            fit_bins(
                coder.transform(frame, party=engine.party),
                is_categorical=coder.is_categorical,
                max_bins=job.max_bins,
                min_bin_count=max(
                    engine.policy.min_bin_count, engine.catalog.min_aggregation([coder.name])
                ),
            )
            for coder in coders
        ]
    return {
        "job": _digest(job),
        "coders": [coder.to_dict() for coder in coders],
        "bins": [feature.to_dict() for feature in bins],
        "share": ProviderShare().to_dict(),
    }


def _provider_data(
    engine: ProviderEngine, job: TrainJob, record: dict[str, Any], frame: pd.DataFrame
) -> ProviderData:
    coders, bins = _encoders(record)
    labels = {name: label for label, name in engine.labels(list(frame.columns)).items()}
    signs = dict(zip(job.monotone, job.signs, strict=True))
    infos = []
    for coder, feature in zip(coders, bins, strict=True):
        info = feature.info()
        sign = signs.get(labels[coder.name], 0)
        infos.append(dataclasses.replace(info, monotone=sign) if sign else info)
    return ProviderData(
        bins=_binned(coders, bins, frame, engine.party),
        infos=infos,
        labels=tuple(labels[coder.name] for coder in coders),
        split_cap=engine.policy.max_splits_per_feature,
    )


def _column_names(record: dict[str, Any]) -> list[str]:
    return [str(item["name"]) for item in record["coders"]]


def _encoders(record: dict[str, Any]) -> tuple[list[ColumnCoder], list[FeatureBins]]:
    coders = [ColumnCoder.from_dict(item) for item in record["coders"]]
    return coders, [FeatureBins.from_dict(item) for item in record["bins"]]


def _binned(
    coders: Sequence[ColumnCoder], bins: Sequence[FeatureBins], frame: pd.DataFrame, party: str
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Encode and bin a party's columns; shape (features, n)."""
    if not coders:
        return np.zeros((0, len(frame)), np.uint8)
    columns = np.column_stack([coder.transform(frame, party=party) for coder in coders])
    return np.ascontiguousarray(bin_matrix(bins, columns).T)
