"""The long-lived process of a provider: answers proposals and serves sessions.

Features, keys and model shares stay in this process and its storage directory. Every session
runs in a thread of its own; a refused one costs its proposer an error and this process nothing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fedcredit.errors import (
    FedCreditError,
    PeerUnavailable,
    PolicyError,
    SessionLost,
    TransportError,
)
from fedcredit.node.certs import Credentials, TlsMaterial
from fedcredit.node.channel import Channel, Timeouts
from fedcredit.node.connection import Backoff
from fedcredit.node.driver import drive, run_session
from fedcredit.node.frames import Frame
from fedcredit.node.handshake import answer_proposal, decline, read_proposal
from fedcredit.node.link import Link
from fedcredit.node.opening import Propose
from fedcredit.node.pki import write_private
from fedcredit.wire import Peers, Session, Transcript

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fedcredit.models.backend import Server, ServiceServer
    from fedcredit.node.config import NodeConfig

__all__ = ["STATUS_FILE", "Job", "PartyNode"]

log = logging.getLogger(__name__)

#: Name of the status file in a party's storage directory.
STATUS_FILE = "status.json"
_KEPT_JOBS = 50


@dataclass
class Job:
    """One session as the party's status shows it.

    ``coordinator`` is who opened it; ``service`` tells an institution's session from a job.
    ``state`` is ``opening``, ``running``, ``done`` or ``failed``; times are seconds since the
    epoch; ``outcome`` is what the engine returned, or the error's class.
    """

    id: str
    name: str
    coordinator: str
    members: tuple[str, ...]
    started: float
    state: str = "opening"
    ended: float | None = None
    bytes: int = 0
    outcome: str = ""
    service: bool = False


class PartyNode:
    """Serves one engine over one link.

    Parameters
    ----------
    credentials : Credentials
    tls : TlsMaterial
    uri : str
    engine : Server or ServiceServer
        Its ``serve(peers, coordinator)`` makes the role of one job, its
        ``serve_institution(peers, institution)`` that of one institution's session; called in
        the session's thread, several at a time.
    coordinators, institutions : sequence of str
        Who may open sessions for jobs; for the service. One right does not include the other.
    hub_name : str
    max_sessions, max_service_sessions : int
        Jobs, and sessions of institutions, at a time; neither can take the other's places.
    timeouts : Timeouts
    backoff : Backoff
    status_file : Path, optional
        Rewritten (JSON) whenever a job starts or ends.
    on_event : callable, optional
        See :class:`~fedcredit.node.link.Link`.
    """

    def __init__(
        self,
        credentials: Credentials,
        tls: TlsMaterial,
        uri: str,
        engine: Server | ServiceServer,
        *,
        coordinators: Sequence[str] = (),
        institutions: Sequence[str] = (),
        hub_name: str = "platform",
        max_sessions: int = 8,
        max_service_sessions: int = 32,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        status_file: Path | None = None,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        self._engine: Any = engine
        self._admitted = {False: frozenset(coordinators), True: frozenset(institutions)}
        self._limits = {False: max_sessions, True: max_service_sessions}
        self._status_file = status_file
        self._status_lock = threading.Lock()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._jobs: list[Job] = []
        self._open: dict[int, tuple[Job, Channel]] = {}
        self._stopping = False
        self.link = Link(
            credentials,
            tls,
            uri,
            hub_name=hub_name,
            on_proposal=self._on_proposal,
            timeouts=timeouts,
            backoff=backoff,
            on_event=on_event,
        )

    @classmethod
    def from_config(
        cls,
        config: NodeConfig,
        engine: Server | ServiceServer,
        *,
        on_event: Callable[[str, str], None] | None = None,
    ) -> PartyNode:
        """Make the node that a provider's or the platform's configuration describes.

        Raises
        ------
        ConfigError
            A certificate cannot be used.
        """
        session = config.session
        return cls(
            config.load_signing(),
            config.load_tls(),
            config.hub.uri,
            engine,
            coordinators=config.coordinators,
            institutions=config.service.institutions,
            hub_name=config.hub.name,
            max_sessions=session.max_sessions,
            max_service_sessions=config.service.max_sessions,
            timeouts=Timeouts(session.idle_timeout, session.absence_timeout),
            status_file=config.storage / STATUS_FILE,
            on_event=on_event,
        )

    def __repr__(self) -> str:
        return f"PartyNode({self.link.party!r}, {self.link.uri!r})"

    def start(self) -> PartyNode:
        """Connect and serve in the background; return self."""
        self._write_status()
        self.link.start()
        return self

    def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises
        ------
        TransportError
            The hub does not admit this party, refused its certificate repeatedly, or another
            process serves for it now.
        """
        error: TransportError | None = self.link.wait_fatal()
        if error is not None:
            raise error

    def stop(self, grace: float = 10.0) -> None:
        """End every session with an abort and disconnect.

        Parameters
        ----------
        grace : float
            Seconds to wait for sessions that are computing.
        """
        leaving = SessionLost(
            f"{self.link.party} is shutting down.",
            party=self.link.party,
            fix=f"wait until {self.link.party} is back; the session is then opened again",
        )
        with self._idle:
            self._stopping = True
            for _, channel in self._open.values():
                channel.fail(leaving)
            self._idle.wait_for(lambda: not self._open, grace)
        self.link.close()
        self._write_status()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no session is open; False if that takes longer than ``timeout`` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._open, timeout)

    @property
    def jobs(self) -> list[Job]:
        """Running and recent jobs, the newest last."""
        with self._lock:
            return list(self._jobs)

    # --- sessions ----------------------------------------------------------------------------

    def _on_proposal(self, frame: Frame, batch: pa.RecordBatch) -> None:
        setup, proposal = read_proposal(self.link, frame, batch)
        refusal = self._refusal(proposal)
        if refusal is not None:
            log.warning("%s: %s", proposal.coordinator, refusal.reason)
            decline(self.link, setup, refusal)
            return
        members = (proposal.coordinator, *proposal.participants)
        job = Job(
            setup.session.hex()[:12],
            proposal.job,
            proposal.coordinator,
            members,
            time.time(),
            service=proposal.service,
        )
        with self._lock:
            self._jobs = [*self._jobs[-_KEPT_JOBS:], job]
            self._open[id(job)] = job, setup
        threading.Thread(
            target=self._serve, args=(job, setup, proposal), name=f"session-{job.id}", daemon=True
        ).start()

    def _refusal(self, proposal: Propose) -> FedCreditError | None:
        party = self.link.party
        if proposal.coordinator not in self._admitted[proposal.service]:
            what, where = (
                ("use the service of", "[service] institutions")
                if proposal.service
                else ("open sessions with", "[policy] coordinators")
            )
            return PolicyError(
                f"{proposal.coordinator} may not {what} {party}.",
                party=party,
                fix=f"have {party} add it to {where}",
            )
        with self._lock:
            running = list(self._open.values())
            if self._stopping:
                return SessionLost(f"{party} is shutting down.", party=party)
        for _, channel in running:
            # Its process is gone for good if the same coordinator proposes from another one.
            peer = channel.peers.get(proposal.coordinator)
            if peer is not None and not self.link.is_present(proposal.coordinator, peer.boot):
                channel.fail(
                    SessionLost(f"{proposal.coordinator} restarted.", party=proposal.coordinator)
                )
                running = [entry for entry in running if entry[1] is not channel]
        count = sum(job.service == proposal.service for job, _ in running)
        if count >= self._limits[proposal.service]:
            table = "service" if proposal.service else "session"
            return PeerUnavailable(
                f"{party} serves {count} sessions already.",
                party=party,
                fix=f"wait for one to end, or raise [{table}] max_sessions there",
            )
        return None

    def _serve(self, job: Job, setup: Channel, proposal: Propose) -> None:
        transcript = Transcript()
        try:
            channel = answer_proposal(self.link, setup, proposal)
            with self._lock:
                self._open[id(job)] = job, channel
                job.state = "running"
                if self._stopping:
                    channel.fail(SessionLost(f"{self.link.party} is shutting down."))
            self._write_status()
            log.info("job %s (%s) for %s runs", job.id, job.name, job.coordinator)
            job.outcome = self._run(channel, proposal, transcript)[:200]
            job.state = "done"
            log.info("job %s is done", job.id)
        except FedCreditError as error:
            job.state, job.outcome = "failed", type(error).__name__
            log.warning("job %s ended: %s", job.id, error)
        except BaseException as error:
            # The traceback may quote data: only where it happened goes to the log.
            job.state, job.outcome = "failed", type(error).__name__
            log.error("job %s failed: %s", job.id, _where(error))
        finally:
            job.ended, job.bytes = time.time(), transcript.total_bytes
            with self._idle:
                self._open.pop(id(job), None)
                self._idle.notify_all()
            self._write_status()

    def _run(self, channel: Channel, proposal: Propose, transcript: Transcript) -> str:
        opener, peers = proposal.coordinator, Peers(channel.peers, channel.keys)
        if not proposal.service:
            return str(drive(channel, self._engine.serve(peers, opener), transcript=transcript))
        try:
            role: Coroutine[Any, Any, str] = self._engine.serve_institution(peers, opener)
            session = Session(role, party=self.link.party, may_leave=[opener])
            run_session(channel, session, transcript=transcript)
            return f"{opener} left" if session.left is not None else str(session.result)
        finally:
            channel.close()

    def _write_status(self) -> None:
        if self._status_file is None:
            return
        with self._status_lock:
            with self._lock:
                jobs = [asdict(job) for job in self._jobs]
            status = {"party": self.link.party, "written": time.time(), "jobs": jobs}
            try:
                write_private(self._status_file, json.dumps(status, indent=1).encode())
            except OSError as error:
                log.warning("the status file cannot be written (%s)", error.strerror)


def _where(error: BaseException) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return type(error).__name__
    code = frame.tb_frame.f_code
    return f"{type(error).__name__} at {Path(code.co_filename).name}:{frame.tb_lineno}"
