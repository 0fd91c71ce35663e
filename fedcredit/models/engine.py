"""A data provider's engine: everything it does in a session, behind its own policy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import FedCreditError, InputError, PolicyError, ProtocolError
from fedcredit.models.alignment import AlignedOrder, AlignJob, LocalTable, MatchInfo
from fedcredit.models.columns import ColumnCoder, fit_coders, to_pandas
from fedcredit.models.policy import ProviderPolicy
from fedcredit.models.store import MemoryStore, Store
from fedcredit.protocols.align_many import align_provider
from fedcredit.protocols.cost import MASK_CACHE_BYTES
from fedcredit.protocols.forest import ProviderData, ProviderShare
from fedcredit.protocols.gbdt_messages import PredictJob, TrainJob
from fedcredit.protocols.gbdt_predict import predict_provider
from fedcredit.protocols.gbdt_provider import ProviderLimits, train_provider
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.stats.binning import FeatureBins, bin_matrix, fit_bins
from fedcredit.wire import Peers

__all__ = ["ProviderEngine"]

_MODEL = "model"


class ProviderEngine:
    """Answers the platform's jobs with this provider's table.

    Parameters
    ----------
    party : str
        This provider's name.
    table : pandas.DataFrame, pyarrow.Table or other Arrow table
    store : Store, optional
        Where alignments and model shares are kept; in memory by default.
    policy : ProviderPolicy, optional
    id_column : str, optional
        Overrides the id column that the platform names.
    id_kind : {"uscc", "text"}, optional
        Overrides the platform's.
    features : sequence of str, optional
        Columns to offer; all but the id column by default.
    categorical : sequence of str
        Columns that are categories whatever their type.
    threads : int
    on_progress : callable (step, done, total)

    Raises
    ------
    InputError
        The table cannot be read, or lacks a named column.
    """

    def __init__(
        self,
        party: str,
        table: Any,
        *,
        store: Store | None = None,
        policy: ProviderPolicy | None = None,
        id_column: str | None = None,
        id_kind: str | None = None,
        features: Sequence[str] | None = None,
        categorical: Sequence[str] = (),
        threads: int = 1,
        on_progress: Progress = ignore,
    ) -> None:
        self.party = party
        self.policy = policy if policy is not None else ProviderPolicy()
        self.store: Store = store if store is not None else MemoryStore()
        self._table = LocalTable(to_pandas(table, party=party), party=party)
        self._id_column, self._id_kind = id_column, id_kind
        self._features = None if features is None else set(self._table.known(features, "features"))
        self._categorical = self._table.known(categorical, "categorical columns")
        self._threads = threads
        self._progress = on_progress

    def __repr__(self) -> str:
        return f"ProviderEngine({self.party!r})"

    def __reduce__(self) -> Any:
        raise TypeError("an engine holds its party's table and is never pickled")

    async def serve(self, peers: Peers, coordinator: str) -> str:
        """Wait for the coordinator's job and do it; the role of one session.

        Returns
        -------
        str
            The kind of the job.
        """
        try:
            return await self._serve(peers, coordinator)
        except FedCreditError as error:
            error.at(party=self.party)
            raise

    async def _serve(self, peers: Peers, coordinator: str) -> str:
        peer = peers[coordinator]
        job = await peer.recv_any(AlignJob, TrainJob, PredictJob)
        if isinstance(job, AlignJob):
            await self._align(peers, coordinator, job)
        elif isinstance(job, TrainJob):
            await self._train(peers, coordinator, job)
        elif isinstance(job, PredictJob):
            await self._predict(peers, coordinator, job)
        return job.kind

    # ------------------------------------------------------------------ alignment

    async def _align(self, peers: Peers, coordinator: str, job: AlignJob) -> None:
        column = self._id_column or job.id_column
        report = self._table.ids(column, self._id_kind or job.id_kind)
        others = [name for name in job.participants if name != self.party]
        positions = await align_provider(
            peers,
            coordinator,
            others,
            report.ids,
            strategy=job.strategy,
            floor=max(1, job.floor, self.policy.min_intersection),
            session=job.salt,
            on_progress=self._progress,
        )
        AlignedOrder(job.frame_id, column, report.rows[positions]).save(self.store)
        names = self._feature_names(column)
        labels = self._labels(names)
        info = MatchInfo(
            rows=report.n_rows,
            blank=report.blank,
            duplicate=report.duplicate,
            invalid_check_digit=report.invalid_check_digit,
            pre_standard=report.pre_standard,
            unusable=report.unusable,
            distinct=len(report),
            matched=len(positions),
            labels=tuple(labels),
            categorical=tuple(
                label
                for label, name in labels.items()
                if name in self._categorical
                or not pd.api.types.is_numeric_dtype(self._table.frame[name].dtype)
            ),
        )
        await peers[coordinator].send(info)

    def _feature_names(self, id_column: str) -> list[str]:
        names = [str(c) for c in self._table.frame.columns if c != id_column]
        if self._features is None:
            return names
        return [name for name in names if name in self._features]

    def _labels(self, names: Sequence[str]) -> dict[str, str]:
        """Map what the platform may call a feature to its column."""
        if self.policy.release_feature_names:
            return {name: name for name in names}
        return {f"f{number}": name for number, name in enumerate(names, 1)}

    # ------------------------------------------------------------------- training

    async def _train(self, peers: Peers, coordinator: str, job: TrainJob) -> None:
        self._check_train(job)
        frame = self._rows(job.frame_id, job.rows)
        record = self._resume(job)
        if record is None:
            record = self._new_record(job, frame)
        data = self._provider_data(job, record, frame)
        limits = ProviderLimits(
            min_node_rows=self.policy.min_node_rows,
            threads=self._threads,
            cache_bytes=MASK_CACHE_BYTES if job.hide_membership else 0,
        )

        def checkpoint(share: ProviderShare) -> None:
            record["share"] = share.to_dict()
            self.store.put(_MODEL, job.model_id, json.dumps(record).encode())

        await train_provider(
            peers[coordinator],
            job,
            data,
            ProviderShare.from_dict(record["share"]),
            limits,
            salt=job.salt + self.party.encode(),
            on_tree=checkpoint,
            on_progress=self._progress,
        )

    def _check_train(self, job: TrainJob) -> None:
        policy = self.policy
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

    def _rows(self, frame_id: str, rows: npt.NDArray[np.uint32]) -> pd.DataFrame:
        order = AlignedOrder.load(self.store, frame_id, party=self.party)
        if not len(rows) or not (np.diff(rows.astype(np.int64)) > 0).all():
            raise ProtocolError("the job's rows are not strictly ascending.", step="load rows")
        if int(rows[-1]) >= len(order.rows):
            raise ProtocolError("the job names rows outside the alignment.", step="load rows")
        positions = order.rows[rows]
        if int(positions.max()) >= len(self._table.frame):
            raise ProtocolError(
                "the table has fewer rows than when it was aligned.",
                step="load rows",
                fix="align again",
            )
        columns = self._feature_names(order.id_column)
        return self._table.take(positions, columns)

    @staticmethod
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

    def _resume(self, job: TrainJob) -> dict[str, Any] | None:
        """Return the record of an interrupted run of exactly this job."""
        data = self.store.get(_MODEL, job.model_id)
        if data is None or not job.trees:
            return None
        record: dict[str, Any] = json.loads(data)
        return record if record["job"] == self._digest(job) else None

    def _new_record(self, job: TrainJob, frame: pd.DataFrame) -> dict[str, Any]:
        names = self._chosen(job, list(frame.columns))
        with self._only_labels(frame):
            coders = fit_coders(
                frame[names],
                party=self.party,
                categorical=[name for name in self._categorical if name in names],
            )
            bins = [
                fit_bins(
                    coder.transform(frame, party=self.party),
                    is_categorical=coder.is_categorical,
                    max_bins=job.max_bins,
                    min_bin_count=self.policy.min_bin_count,
                )
                for coder in coders
            ]
        return {
            "job": self._digest(job),
            "coders": [coder.to_dict() for coder in coders],
            "bins": [feature.to_dict() for feature in bins],
            "share": ProviderShare().to_dict(),
        }

    @contextmanager
    def _only_labels(self, frame: pd.DataFrame) -> Iterator[None]:
        """Let an error about a column, which the platform gets to see, name it by its label."""
        try:
            yield
        except InputError as error:
            for label, name in self._labels(list(frame.columns)).items():
                error.reason = error.reason.replace(repr(name), repr(label))
            error.args = (error.reason,)
            raise

    def _chosen(self, job: TrainJob, names: list[str]) -> list[str]:
        """Return the columns that the job's labels stand for."""
        labels = self._labels(names)
        unknown = [label for label in (*job.columns, *job.monotone) if label not in labels]
        if unknown:
            raise InputError(
                f"the platform names unknown features: {', '.join(unknown)}.",
                step="select features",
                fix="use the labels in frame.columns",
            )
        chosen = job.columns or tuple(labels)
        return [labels[label] for label in labels if label in set(chosen)]

    def _provider_data(
        self, job: TrainJob, record: dict[str, Any], frame: pd.DataFrame
    ) -> ProviderData:
        coders, bins = _encoders(record)
        labels = {name: label for label, name in self._labels(list(frame.columns)).items()}
        signs = dict(zip(job.monotone, job.signs, strict=True))
        infos = []
        for coder, feature in zip(coders, bins, strict=True):
            info = feature.info()
            sign = signs.get(labels[coder.name], 0)
            infos.append(dataclasses.replace(info, monotone=sign) if sign else info)
        return ProviderData(
            bins=_binned(coders, bins, frame, self.party),
            infos=infos,
            labels=tuple(labels[coder.name] for coder in coders),
            split_cap=self.policy.max_splits_per_feature,
        )

    # ----------------------------------------------------------------- prediction

    async def _predict(self, peers: Peers, coordinator: str, job: PredictJob) -> None:
        if not job.hide_membership and not self.policy.allow_sorted:
            raise PolicyError(
                "open membership is not allowed here.",
                step="predict",
                fix="predict with hide_membership=True",
            )
        data = self.store.get(_MODEL, job.model_id)
        if data is None:
            raise ProtocolError(
                "this model is not known here.",
                step="predict",
                fix="train it again; the party may have lost or cleared its storage",
            )
        record: dict[str, Any] = json.loads(data)
        coders, bins = _encoders(record)
        frame = self._rows(job.frame_id, job.rows)
        with self._only_labels(frame):
            binned = _binned(coders, bins, frame, self.party)
        await predict_provider(
            peers[coordinator],
            job,
            binned,
            ProviderShare.from_dict(record["share"]),
            salt=job.salt + self.party.encode(),
            on_progress=self._progress,
        )


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
