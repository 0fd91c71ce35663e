"""A data provider's engine: everything it does in a session, behind its own policy and catalog.

The catalog is the gate of alignment and training. The column that is aligned on must be open for
alignment. Features are offered, and used in any job of a session (training, binning, correlations,
and the scores and reasons by which a model is judged), if they are open for training; bins and sums
over them hold at least ``min_aggregation`` rows, and so does a job that trains, bins or correlates.
What deployed models answer to institutions is not behind this gate but behind the service's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import (
    BudgetError,
    ConfigError,
    FedCreditError,
    InputError,
    PolicyError,
    ProtocolError,
)
from fedcredit.governance.catalog import Catalog
from fedcredit.governance.catalog_fields import coarser
from fedcredit.governance.gate import Gate
from fedcredit.models.alignment import AlignedOrder, AlignJob, LocalTable, MatchInfo
from fedcredit.models.columns import ColumnCoder, fit_coders, to_pandas
from fedcredit.models.engine_binning import count_bins, count_events, keep_woe
from fedcredit.models.engine_forest import predict_forest, train_forest
from fedcredit.models.engine_linear import correlate_linear, score_linear, train_linear
from fedcredit.models.engine_log import log_job, log_refused_job
from fedcredit.models.engine_scorecard import explain_rows, keep_card, score_points
from fedcredit.models.linear_jobs import GramJob, LinearJob, LinearScoreJob
from fedcredit.models.policy import ProviderPolicy
from fedcredit.models.scorecard_messages import CardJob, PointsJob, ReasonsJob
from fedcredit.models.scoring.desk import Desk
from fedcredit.models.scoring.engine_deploy import deploy_part, withdraw_part
from fedcredit.models.scoring.messages import DeployJob, WithdrawJob
from fedcredit.models.scoring.server import serve_session
from fedcredit.models.scoring.subjects import SubjectIndex
from fedcredit.models.scoring.witnessing import answer_round
from fedcredit.models.store import MemoryStore, Store
from fedcredit.protocols.align_many import align_provider
from fedcredit.protocols.binning_messages import BinJob, CountJob, WoeJob
from fedcredit.protocols.checkpoints import CheckpointRound
from fedcredit.protocols.gbdt_messages import PredictJob, TrainJob
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.wire import Identity, Message, Peers

__all__ = ["ProviderEngine"]

#: What features without a group are called in reasons by group.
_OTHER_GROUP = "other"
_Handler = Callable[["ProviderEngine", Peers, str, Any], Awaitable[None]]
#: What the engine does for every kind of job besides alignment.
_HANDLERS: dict[type[Message], _Handler] = {
    TrainJob: train_forest,
    PredictJob: predict_forest,
    LinearJob: train_linear,
    LinearScoreJob: score_linear,
    GramJob: correlate_linear,
    BinJob: count_events,
    WoeJob: keep_woe,
    CountJob: count_bins,
    CardJob: keep_card,
    PointsJob: score_points,
    ReasonsJob: explain_rows,
    DeployJob: deploy_part,
    WithdrawJob: withdraw_part,
    CheckpointRound: answer_round,
}


class ProviderEngine:
    """Answers the platform's jobs with this provider's table.

    Parameters
    ----------
    party : str
        This provider's name.
    table : pandas.DataFrame, pyarrow.Table or other Arrow table
    catalog : Catalog
        What the table's columns may be used for; :meth:`Catalog.open_for` allows everything.
    store : Store, optional
        Where alignments and model shares are kept; in memory by default.
    policy : ProviderPolicy, optional
    id_column : str, optional
        Overrides the id column that the platform names.
    id_kind : {"uscc", "text"}, optional
        Overrides the platform's.
    features : sequence of str, optional
        Columns to offer, of those that the catalog opens for training; all of these by default.
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
        catalog: Catalog,
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
        self.catalog = catalog
        self.policy = policy if policy is not None else ProviderPolicy()
        self.store: Store = store if store is not None else MemoryStore()
        self._table = LocalTable(to_pandas(table, party=party), party=party)
        self._id_column, self._id_kind = id_column, id_kind
        self._features = None if features is None else set(self._table.known(features, "features"))
        columns = [str(c) for c in self._table.frame.columns]
        self._open = frozenset(catalog.allowed("training"))
        # Columns that are no ids and could be features, but that the catalog does not open.
        self._closed = frozenset(
            name
            for name in columns
            if (self._features is None or name in self._features)
            and name != id_column
            and name not in self._open
            and not (name in catalog.fields and catalog.fields[name].type == "id")
        )
        self.categorical = self._table.known(categorical, "categorical columns")
        self.threads = threads
        self.progress = on_progress
        self._desk: Desk | None = None

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
        job = await peers[coordinator].recv_any(AlignJob, *_HANDLERS)
        if self._desk is not None:
            log_job(self, coordinator, job)
        try:
            if isinstance(job, AlignJob):
                await self._align(peers, coordinator, job)
            else:
                await _HANDLERS[type(job)](self, peers, coordinator, job)
        except (BudgetError, PolicyError) as error:
            if self._desk is not None:
                log_refused_job(self, coordinator, job, error)
            raise
        return job.kind

    # ---------------------------------------------------------- service for institutions

    def govern(
        self, gate: Gate, identity: Identity, *, as_of: str = "", id_column: str = "uscc"
    ) -> None:
        """Let this party answer institutions, and log what the platform does, through a gate.

        Parameters
        ----------
        gate : Gate
            With the same catalog.
        identity : Identity
            Signs what the party states.
        as_of : str
            Date of the table, ISO 8601.
        id_column : str
            Where enterprises are looked up, unless the engine was given a column.
        """
        column = self._id_column or id_column
        kind = self._id_kind or ("uscc" if column.lower() == "uscc" else "text")
        self._desk = Desk(
            self.party,
            self.store,
            SubjectIndex(self._table, column, kind),
            gate,
            identity,
            as_of=as_of,
            call=self.called_in_reasons,
        )

    @property
    def desk(self) -> Desk:
        """What answers institutions.

        Raises
        ------
        ConfigError
            This party has no gate, so it answers nobody.
        """
        if self._desk is None:
            raise ConfigError(
                "this party has no gate, and nothing about an enterprise leaves without one.",
                party=self.party,
                step="serve",
                fix="start it with `fedcredit party start`",
            )
        return self._desk

    async def serve_institution(self, peers: Peers, institution: str) -> str:
        """Serve an institution until it leaves; the role of one session."""
        await serve_session(self.desk, peers, institution)

    def called_in_reasons(self, names: Sequence[str], labels: Sequence[str]) -> list[str]:
        """Return what columns are called in reasons, as coarsely as policy or catalog asks."""
        called = []
        for label, name in zip(labels, names, strict=True):
            grain = coarser(self.policy.reason_grain, self.catalog.reason_grain(name))
            group = self.catalog.field(name).group or self.policy.feature_groups.get(
                name, _OTHER_GROUP
            )
            called.append({"feature": label, "group": group}.get(grain, self.party))
        return called

    # ------------------------------------------------------------------ alignment

    async def _align(self, peers: Peers, coordinator: str, job: AlignJob) -> None:
        column = self._id_column or job.id_column
        report = self._table.ids(column, self._id_kind or job.id_kind)
        is_known = self.policy.release_feature_names or column == job.id_column
        self.catalog.require("alignment", [column], shown=None if is_known else {column: "id"})
        others = [name for name in job.participants if name != self.party]
        positions = await align_provider(
            peers,
            coordinator,
            others,
            report.ids,
            strategy=job.strategy,
            floor=max(
                1,
                job.floor,
                self.policy.min_intersection,
                self.catalog.min_aggregation([column]),
            ),
            session=job.salt,
            on_progress=self.progress,
        )
        AlignedOrder(job.frame_id, column, report.rows[positions]).save(self.store)
        names = self._feature_names(column)
        labels = self.labels(names)
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
                if name in self.categorical
                or not pd.api.types.is_numeric_dtype(self._table.frame[name].dtype)
            ),
        )
        await peers[coordinator].send(info)

    def _feature_names(self, id_column: str) -> list[str]:
        columns = (str(c) for c in self._table.frame.columns)
        names = [name for name in columns if name != id_column and name in self._open]
        if self._features is None:
            return names
        return [name for name in names if name in self._features]

    @property
    def offered(self) -> list[str]:
        """The columns that are offered as features, in the table's order."""
        return self._feature_names(self._id_column or "uscc")

    def labels(self, names: Sequence[str]) -> dict[str, str]:
        """Map what the platform may call a feature to its column.

        Parameters
        ----------
        names : sequence of str
            All offered columns.
        """
        wanted = set(names)
        return {label: name for label, name in self._all_labels(names).items() if name in wanted}

    def _all_labels(self, names: Sequence[str]) -> dict[str, str]:
        """Label offered and closed columns; numbers are the same when the catalog changes."""
        listed = {*names, *self._closed}
        columns = [str(c) for c in self._table.frame.columns if str(c) in listed]
        if self.policy.release_feature_names:
            return {name: name for name in columns}
        return {f"f{number}": name for number, name in enumerate(columns, 1)}

    def permit(self, names: Sequence[str], *, rows: int | None = None) -> None:
        """Refuse a job of these columns unless the catalog opens every one for training.

        Parameters
        ----------
        names : sequence of str
        rows : int, optional
            Of a job that trains, bins or correlates; checked against the minimum aggregation.

        Raises
        ------
        Refusal
            Naming the feature by its label, and the rule.
        """
        labels = self._all_labels(sorted(self._open - {self._id_column}))
        shown = {name: label for label, name in labels.items()}
        self.catalog.require("training", names, rows=rows, shown=shown)

    def floor(self, names: Sequence[str]) -> int:
        """Return the fewest rows that a bin of these columns may hold."""
        return max(1, self.policy.min_bin_count, self.catalog.min_aggregation(names))

    # ------------------------------------------------------- what the jobs work with

    def positions(
        self, frame_id: str, rows: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.int64], str]:
        """Return the table's row numbers of these rows of an alignment, and its id column.

        Raises
        ------
        ProtocolError
            The rows are not strictly ascending rows of the alignment.
        """
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
        return positions, order.id_column

    def row_ids(self, frame_id: str, rows: npt.NDArray[np.uint32]) -> list[str]:
        """Return the ids of these rows of an alignment as text; see :meth:`positions`."""
        positions, id_column = self.positions(frame_id, rows)
        ids = self._table.take(positions, [id_column])[id_column]
        # A number has one text, also where a missing id elsewhere made the column floats.
        return [str(value).strip().upper().removesuffix(".0") for value in ids.tolist()]

    def rows(self, frame_id: str, rows: npt.NDArray[np.uint32]) -> pd.DataFrame:
        """Return the offered columns of these rows of an alignment; see :meth:`positions`."""
        positions, id_column = self.positions(frame_id, rows)
        return self._table.take(positions, self._feature_names(id_column))

    def whole_table(self, names: Sequence[str]) -> pd.DataFrame:
        """Return offered columns of all rows, for what must not depend on a job's rows."""
        return self._table.frame[list(names)]

    @contextmanager
    def only_labels(self, frame: pd.DataFrame) -> Iterator[None]:
        """Let an error about a column, which the platform gets to see, name it by its label."""
        try:
            yield
        except InputError as error:
            for label, name in self.labels(list(frame.columns)).items():
                error.reason = error.reason.replace(repr(name), repr(label))
            error.args = (error.reason,)
            raise

    def chosen(self, columns: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the columns that labels stand for, in the table's order; all if there are none.

        Raises
        ------
        InputError
            A label is unknown.
        Refusal
            A label stands for a column that the catalog does not open for training.
        """
        every = self._all_labels(names)
        self.catalog.require(
            "training",
            [every[label] for label in columns if label in every],
            shown={name: label for label, name in every.items()},
        )
        labels = self.labels(names)
        unknown = [label for label in columns if label not in labels]
        if unknown:
            raise InputError(
                f"the platform names unknown features: {', '.join(unknown)}.",
                step="select features",
                fix="use the labels in frame.columns",
            )
        wanted = set(columns or labels)
        return [name for label, name in labels.items() if label in wanted]

    def coders(self, frame: pd.DataFrame, names: Sequence[str]) -> list[ColumnCoder]:
        """Decide how these columns are encoded; see :func:`fit_coders`."""
        return fit_coders(
            frame[list(names)],
            party=self.party,
            categorical=[name for name in self.categorical if name in names],
        )
