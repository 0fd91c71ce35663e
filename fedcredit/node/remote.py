"""The coordinator's side: runs sessions with providers at other nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fedcredit.errors import InputError, PeerUnavailable, SessionLost
from fedcredit.node.certs import Credentials, TlsMaterial
from fedcredit.node.channel import Timeouts
from fedcredit.node.connection import Backoff, hub_status
from fedcredit.node.driver import drive
from fedcredit.node.handshake import open_session
from fedcredit.node.link import Link
from fedcredit.wire import Peers, Transcript

if TYPE_CHECKING:
    from fedcredit.models.backend import Role
    from fedcredit.node.config import NodeConfig

__all__ = ["Event", "RemoteBackend"]

log = logging.getLogger(__name__)
R = TypeVar("R")


@dataclass(frozen=True)
class Event:
    """What happens to a job's session besides its messages.

    ``kind`` is ``connected``, ``disconnected``, ``refused`` (the link), ``waiting`` (for
    providers), ``opened``, ``lost``, ``reopening`` or ``finished`` (a session).
    """

    kind: str
    job: str | None
    party: str | None
    text: str


class RemoteBackend:
    """Implements :class:`fedcredit.models.backend.Backend` over a link to a hub.

    Parameters
    ----------
    credentials : Credentials
        The coordinator's signing key and trust.
    tls : TlsMaterial
    uri : str
    providers : sequence of str
    hub_name : str
    timeouts : Timeouts
    backoff : Backoff
    max_attempts : int
        How often a session is opened in one run.
    on_event : callable, optional
        Told every :class:`Event`, in whichever thread it happens.
    on_message : callable, optional
        Called after every message of a session (progress displays).

    Attributes
    ----------
    coordinator : str
    providers : tuple of str
    link : Link
    """

    def __init__(
        self,
        credentials: Credentials,
        tls: TlsMaterial,
        uri: str,
        providers: Sequence[str],
        *,
        hub_name: str = "platform",
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        max_attempts: int = 5,
        on_event: Callable[[Event], None] | None = None,
        on_message: Callable[[], None] | None = None,
    ) -> None:
        self.coordinator = credentials.party
        self.providers = tuple(providers)
        self.on_event = on_event
        self.on_message = on_message
        self._max_attempts = max_attempts
        self.link = Link(
            credentials,
            tls,
            uri,
            hub_name=hub_name,
            timeouts=timeouts,
            backoff=backoff,
            on_event=lambda kind, text: self._tell(kind, None, None, text),
        ).start()

    @classmethod
    def from_config(
        cls,
        config: NodeConfig,
        *,
        on_event: Callable[[Event], None] | None = None,
        on_message: Callable[[], None] | None = None,
    ) -> RemoteBackend:
        """Connect as a configuration file says.

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
            config.hub.parties,
            hub_name=config.hub.name,
            timeouts=Timeouts(session.idle_timeout, session.absence_timeout),
            max_attempts=session.max_attempts,
            on_event=on_event,
            on_message=on_message,
        )

    def __repr__(self) -> str:
        return f"RemoteBackend({self.coordinator!r}, {list(self.providers)!r}, {self.link.uri!r})"

    def __enter__(self) -> RemoteBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, once what was sent has arrived."""
        self.link.close()

    def run(
        self,
        role: Role[R],
        *,
        providers: Sequence[str] | None = None,
        job: str,
        transcript: Transcript,
    ) -> R:
        """Run one session of ``job`` and return the coordinator's result.

        Parameters
        ----------
        role : callable
            Makes the coordinator's role, given its peers; called again for every attempt.
        providers : sequence of str, optional
            All by default.
        job : str
            Shown to the providers; no data.
        transcript : Transcript
            Counts what the coordinator sent and received, over all attempts.

        Raises
        ------
        InputError
            A provider is unknown.
        PeerUnavailable
            A provider or the hub stayed away, or was lost more than ``max_attempts`` times.
        FedCreditError
            Whatever ended the session, at whichever party.
        """
        names = tuple(providers) if providers is not None else self.providers
        for name in names:
            if name not in self.providers:
                raise InputError(f"there is no provider {name!r}.", step=job)
        gone: dict[str, bytes] = {}
        for attempt in range(1, self._max_attempts + 1):
            self._tell("waiting", job, None, "for " + ", ".join(names))
            boots = self.link.wait_for(names, lost=gone)
            try:
                return self._attempt(role, boots, job, transcript)
            except SessionLost as error:
                lost = error
                gone = {name: boot for name, boot in boots.items() if name == error.party}
                self._tell("lost", job, error.party, error.reason)
                if attempt < self._max_attempts:
                    self._tell("reopening", job, error.party, f"attempt {attempt + 1}")
        raise PeerUnavailable(
            f"the session was lost {self._max_attempts} times; at last: {lost.reason}",
            party=lost.party,
            step=job,
            fix="see that party's log, then repeat the call: it resumes from the last checkpoint",
        )

    def _attempt(
        self, role: Role[R], boots: Mapping[str, bytes], job: str, transcript: Transcript
    ) -> R:
        channel = open_session(self.link, job, boots)
        self._tell("opened", job, None, channel.session.hex()[:12])
        peers = Peers(boots, channel.keys)
        result = drive(channel, role(peers), transcript=transcript, on_message=self._message)
        self._tell("finished", job, None, repr(transcript))
        return result

    def _message(self) -> None:
        if self.on_message is not None:
            self.on_message()

    def status(self) -> dict[str, Any]:
        """Ask the hub who is connected."""
        return hub_status(self.link.uri, self.link.tls, self.link.hub_name)

    def _tell(self, kind: str, job: str | None, party: str | None, text: str) -> None:
        log.info("%s%s: %s", f"{job}: " if job else "", kind, text)
        if self.on_event is not None:
            self.on_event(Event(kind, job, party, text))
