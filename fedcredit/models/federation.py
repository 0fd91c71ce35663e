"""A federation as the platform's data scientist holds it: align tables, get a frame to model on."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fedcredit.errors import FedCreditError, InputError
from fedcredit.models.alignment import AlignedOrder, AlignJob, LocalTable, MatchInfo
from fedcredit.models.backend import Backend, Role
from fedcredit.models.columns import to_pandas
from fedcredit.models.engine import ProviderEngine
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.frame_record import load_frame, save_frame, stored_frames
from fedcredit.models.report import PartyMatch, PhaseCost
from fedcredit.models.store import MemoryStore, Store
from fedcredit.protocols.align_many import align_platform
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.uscc import IdReport
from fedcredit.wire import KindCount, Peers, Transcript

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fedcredit.governance.budgets import BudgetRules
    from fedcredit.governance.witnessing import WitnessedLog
    from fedcredit.models.scoring.served import ServedModel
    from fedcredit.models.scoring.simulation import SimulatedService
    from fedcredit.protocols.checkpoints import Exchanged

__all__ = ["Federation", "require_known"]

R = TypeVar("R")
_PLATFORM = "platform"
#: Party names stand before the dot in the names of columns.
_PARTY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FRAME_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Federation:
    """The platform's table and its way to the providers.

    Parameters
    ----------
    backend : Backend
        Reaches the providers.
    platform : pandas.DataFrame or Arrow table
        The platform's own table: id, features, label.
    store : Store, optional
        Where the platform keeps alignments, checkpoints and its shares of models.
    categorical : sequence of str
        Columns of the platform that are categories whatever their type.
    on_progress : callable (step, done, total), optional

    Attributes
    ----------
    on_note : callable (text)
        Told in one line what was decided on the way, for instance by the cost model.
    providers : tuple of str
    engines : dict of str to ProviderEngine
        The providers' engines if they live in this process (:func:`simulate`), else empty.
    own_log : callable or None
        Gives, as a context, the platform's audit log for an exchange of checkpoints.
    default_key, default_id_kind : str
        Id column of :meth:`align` and how its ids are normalised.
    phases : list of PhaseCost
        Seconds and bytes of every session so far.
    transcript : Transcript
        Counts of all messages so far.
    """

    def __init__(
        self,
        backend: Backend,
        platform: Any,
        *,
        store: Store | None = None,
        engines: Mapping[str, ProviderEngine] | None = None,
        categorical: Sequence[str] = (),
        on_progress: Progress = ignore,
    ) -> None:
        self.backend = backend
        self.store: Store = store if store is not None else MemoryStore()
        self.engines = dict(engines or {})
        self.on_progress = on_progress
        self.on_note: Callable[[str], None] = ignore
        self.own_log: Callable[[], AbstractContextManager[WitnessedLog]] | None = None
        self.default_key = "uscc"
        self.default_id_kind: str | None = None
        self.phases: list[PhaseCost] = []
        self.transcript = Transcript()
        self._session = Transcript()
        self.table = LocalTable(
            to_pandas(platform, party=backend.coordinator), party=backend.coordinator
        )
        self.categorical = self.table.known(categorical, "categorical columns")

    @property
    def platform(self) -> str:
        """Name of the platform."""
        return self.backend.coordinator

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the providers."""
        return tuple(self.backend.providers)

    def __repr__(self) -> str:
        return f"Federation({self.platform!r} with {', '.join(self.providers) or 'no providers'})"

    def __reduce__(self) -> Any:
        raise TypeError("a federation holds tables and connections and is never pickled")

    def close(self) -> None:
        """Disconnect from the providers."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, role: Role[R], *, providers: Sequence[str] | None = None, job: str, phase: str
    ) -> R:
        """Run one session and record what it cost; see :meth:`Backend.run`.

        Raises
        ------
        FedCreditError
            Whatever a role raised, with party and step.
        """
        transcript = self._session = Transcript()
        begin = time.perf_counter()
        try:
            return self.backend.run(role, providers=providers, job=job, transcript=transcript)
        except FedCreditError as error:
            error.at(step=phase)
            raise
        finally:
            seconds = time.perf_counter() - begin
            self.phases.append(PhaseCost(phase, seconds, transcript.total_bytes))
            self.transcript.merge(transcript.counts)

    def session_counts(self) -> Mapping[tuple[str, str, str], KindCount]:
        """Return the messages and bytes of the current or last session so far."""
        return self._session.counts

    def align(
        self,
        on: str | None = None,
        *,
        id_kind: str | None = None,
        providers: Sequence[str] | None = None,
        strategy: str = "private",
        min_intersection: int = 1,
        name: str | None = None,
    ) -> FederatedFrame:
        """Match the rows of all parties by private set intersection.

        Parameters
        ----------
        on : str, optional
            The id column, by default the configured one or ``"uscc"``; a provider that is
            configured with another one uses its own.
        id_kind : {"uscc", "text"}, optional
            How ids are normalised; ``"uscc"`` if the column has that name, else ``"text"``.
        providers : sequence of str, optional
            The providers to align with; all by default.
        strategy : {"private", "pairwise", "cached"}
            See :mod:`fedcredit.protocols.align_many`.
        min_intersection : int
            Abort when fewer rows match; every provider has a floor of its own as well.
        name : str, optional
            Under which all parties keep the alignment (lower-case letters, digits, ``._-``);
            random by default.

        Returns
        -------
        FederatedFrame

        Raises
        ------
        InputError
            A provider is unknown, the name is taken, or the id column is missing or unusable.
        PolicyError
            The intersection is empty or below a party's floor.
        """
        chosen = [providers] if isinstance(providers, str) else providers
        names = tuple(dict.fromkeys(self.providers if chosen is None else chosen))
        require_known(names, self.providers, step="align")
        on = on or self.default_key
        kind = id_kind or self.default_id_kind or ("uscc" if on.lower() == "uscc" else "text")
        report = self.table.ids(on, kind)
        frame_id = self._new_name(name)
        if not names:
            order = np.sort(report.rows)
            infos: dict[str, MatchInfo] = {}
        else:
            order, infos = self._align(
                names, frame_id, on, kind, strategy, min_intersection, report
            )
        AlignedOrder(frame_id, on, order).save(self.store)
        match = [_platform_match(self.platform, report, len(order))]
        match += [_provider_match(name, info) for name, info in infos.items()]
        frame = FederatedFrame(
            self,
            frame_id=frame_id,
            key=on,
            order=order,
            providers=names,
            match=tuple(match),
            labels={name: info.labels for name, info in infos.items()},
            categorical={name: info.categorical for name, info in infos.items()},
        )
        save_frame(frame)
        return frame

    def _new_name(self, name: str | None) -> str:
        if name is None:
            return secrets.token_hex(8)
        if not _FRAME_NAME.fullmatch(name):
            raise InputError(
                "the name of the alignment is not made of lower-case letters, digits and '._-'.",
                step="align",
                fix="choose another name",
            )
        if name in stored_frames(self):
            # Frames and models of the earlier alignment would go on with the new one's rows.
            raise InputError(
                "an alignment of this name exists.",
                step="align",
                fix="choose another name, or use frame(name)",
            )
        return name

    def frame(self, name: str) -> FederatedFrame:
        """Return the frame of an earlier alignment, by its name.

        Raises
        ------
        InputError
            The platform keeps no alignment of this name.
        """
        return load_frame(self, name)

    def _align(
        self,
        names: Sequence[str],
        frame_id: str,
        on: str,
        kind: str,
        strategy: str,
        floor: int,
        report: IdReport,
    ) -> tuple[Any, dict[str, MatchInfo]]:
        async def role(peers: Peers) -> tuple[Any, dict[str, MatchInfo]]:
            salt = secrets.token_bytes(32)
            await peers.broadcast(
                AlignJob(frame_id, on, kind, strategy, max(1, floor), tuple(peers), salt)
            )
            positions = await align_platform(
                peers,
                report.ids,
                strategy=strategy,
                floor=max(1, floor),
                session=salt,
                on_progress=self.on_progress,
            )
            return report.rows[positions], await peers.gather(MatchInfo)

        return self.run(role, providers=names, job=f"align-{frame_id}", phase="align")

    # --------------------------------------------------------------- models in service

    def deploy(
        self,
        model: Any,
        target: str,
        *,
        purposes: Sequence[str] = ("credit_granting",),
        bands: Mapping[str, float] | None = None,
        fallback: str = "",
        own_features: Sequence[str] = (),
    ) -> ServedModel:
        """Serve a fitted model to institutions, under a name and a version.

        Every provider of the model holds its part to its catalog and keeps it; see
        :mod:`fedcredit.models.scoring.deploy`.

        Parameters
        ----------
        model : VerticalScorecard, VerticalLogisticRegression or boosted trees
            Fitted or loaded.
        target : str
            ``name@version``, for instance ``"sme-card@1"``. It never changes its meaning.
        purposes : sequence of str
            What it is served for; see :data:`fedcredit.governance.question.PURPOSES`.
        bands : mapping of str to float, optional
            Lowest score of each band, ascending.
        fallback : str
            A served model to use instead, flagged in the result, while a provider is away.
        own_features : sequence of str
            The platform's own characteristics of a scorecard whose values the institution
            supplies, encrypted.

        Returns
        -------
        ServedModel

        Raises
        ------
        InputError
            The name is taken or malformed, or the model cannot be served like that.
        Refusal
            A provider's catalog does not open a field of the model for scoring.
        """
        from fedcredit.models.scoring.deploy import deploy

        return deploy(
            self,
            model,
            target,
            purposes=purposes,
            bands=bands,
            fallback=fallback,
            own_features=own_features,
        )

    def withdraw(self, target: str) -> None:
        """Stop serving a model, at all parties.

        Raises
        ------
        Refusal
            ``model_unknown``.
        """
        from fedcredit.models.scoring.deploy import withdraw

        withdraw(self, target)

    def exchange_checkpoints(self, *, providers: Sequence[str] | None = None) -> Exchanged:
        """Let the platform and the providers witness each other's audit logs.

        See :mod:`fedcredit.protocols.checkpoints`. Sessions of institutions do the same.

        Parameters
        ----------
        providers : sequence of str, optional
            All by default.

        Returns
        -------
        Exchanged
            ``refused``, ``refused_by`` and ``reports`` tell whose logs were rewritten or forked,
            and who says so.

        Raises
        ------
        ConfigError
            The platform or a provider has no audit log.
        StorageError
            An own log is damaged.
        """
        from fedcredit.models.scoring.witnessing import exchange_of_federation

        return exchange_of_federation(self, providers)

    def served(self) -> list[ServedModel]:
        """Return the headers of the models in service."""
        from fedcredit.models.scoring.served import served_targets

        return served_targets(self.store)

    def open_service(
        self, *, budgets: BudgetRules | None = None, clock: Callable[[], float] = time.time
    ) -> SimulatedService:
        """Serve institutions in a simulation; with real nodes every party runs its own process.

        Parameters
        ----------
        budgets : BudgetRules, optional
            Of every party.
        clock : callable, optional
            Gives seconds since the epoch.

        Returns
        -------
        SimulatedService
            Its ``accede(name)`` returns an :class:`fedcredit.Institution`.

        Raises
        ------
        InputError
            The federation has real nodes.
        """
        from fedcredit.models.scoring.simulation import SimulatedService

        return SimulatedService(self, budgets=budgets, clock=clock)

    def phase_seconds(self) -> dict[str, float]:
        """Return the seconds spent per phase."""
        out: dict[str, float] = {}
        for phase in self.phases:
            out[phase.name] = out.get(phase.name, 0.0) + phase.seconds
        return out


def require_known(names: Iterable[str], known: Sequence[str], *, step: str) -> None:
    """Refuse names that are no providers (InputError)."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(
            f"unknown providers: {', '.join(unknown)}.",
            step=step,
            fix=f"name some of {', '.join(known)}" if known else "add a provider's table",
        )


def _platform_match(name: str, report: IdReport, matched: int) -> PartyMatch:
    return PartyMatch(
        party=name,
        rows=report.n_rows,
        blank=report.blank,
        duplicate=report.duplicate,
        invalid=report.invalid_check_digit,
        pre_standard=report.pre_standard,
        unusable=report.unusable,
        distinct=len(report),
        matched=matched,
    )


def _provider_match(name: str, info: MatchInfo) -> PartyMatch:
    return PartyMatch(
        party=name,
        rows=info.rows,
        blank=info.blank,
        duplicate=info.duplicate,
        invalid=info.invalid_check_digit,
        pre_standard=info.pre_standard,
        unusable=info.unusable,
        distinct=info.distinct,
        matched=info.matched,
    )
