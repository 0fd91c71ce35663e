"""An institution's link and its conversations with the parties that serve it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import (
    ConfigError,
    FedCreditError,
    InputError,
    PeerProtocolError,
    SessionLost,
)
from fedcredit.models.conversation import LockedConversation
from fedcredit.node.certs import Credentials, TlsMaterial
from fedcredit.node.channel import Channel, Timeouts
from fedcredit.node.connection import Backoff
from fedcredit.node.driver import open_message, run_session
from fedcredit.node.handshake import open_session
from fedcredit.node.link import Link
from fedcredit.wire import Abort, Goodbye, Peers, Session, Transcript, encode

if TYPE_CHECKING:
    from fedcredit.node.config import NodeConfig

__all__ = ["InstitutionConnection", "RemoteConversation", "connect_institution"]

R = TypeVar("R")
_JOB = "service"


class RemoteConversation(LockedConversation):
    """A conversation over an open session; made by :meth:`InstitutionConnection.open`.

    Nothing is sent while nobody runs a role. The session survives a restart of the hub; it does
    not survive that of a member.

    Parameters
    ----------
    channel : Channel
        Opened by the institution; the conversation closes it.
    transcript : Transcript, optional
        Counts what the institution sends and receives; a new one by default.
    """

    def __init__(self, channel: Channel, *, transcript: Transcript | None = None) -> None:
        super().__init__(channel.party, tuple(channel.peers), transcript)
        self._channel = channel

    @property
    def is_open(self) -> bool:
        """Whether nothing is known that would keep another run from working."""
        return super().is_open and self._end() is None

    @property
    def keys(self) -> dict[str, Ed25519PublicKey]:
        """The members' signing keys, as the session was opened with them."""
        return self._channel.keys

    @property
    def certificates(self) -> dict[str, bytes]:
        """The members' signing certificates (DER)."""
        return {name: peer.certificate for name, peer in self._channel.peers.items()}

    def _interrupt(self) -> None:
        self._channel.fail(
            SessionLost("the conversation was closed meanwhile.", party=self.institution)
        )

    def _run(self, role: Callable[[Peers], Coroutine[Any, Any, R]]) -> R:
        end = self._end()
        if end is not None:
            # Not everybody may know: a server waits for its institution without end.
            self._leave()
            raise SessionLost(
                end.reason, party=end.party, step="ask", fix="open another conversation"
            )
        session = Session(role(Peers(self._members, self.keys)), party=self.institution)
        run_session(self._channel, session, transcript=self._transcript)
        return session.result

    def _end(self) -> FedCreditError | None:
        """Return what has ended the session since the last run.

        Any other message that has arrived is left to the role, which knows its protocol.
        """
        first = self._channel.peek()
        if self._channel.failure is not None or first is None or first.kind != Abort.kind:
            return self._channel.failure
        try:
            message = open_message(first)
        except PeerProtocolError as error:
            return error
        return message.to_error(first.sender) if isinstance(message, Abort) else None

    def _leave(self) -> None:
        body = encode(Goodbye())
        for name in self._members:
            self._channel.send(name, Goodbye.kind, body, urgent=True)
        self._channel.close()

    def _drop(self) -> None:
        self._channel.close()


class InstitutionConnection:
    """An institution's connection to the hub, from which conversations are opened.

    Parameters
    ----------
    credentials : Credentials
    tls : TlsMaterial
    uri : str
    hub_name : str
        The platform: runs the hub and is a member like others.
    timeouts : Timeouts
    backoff : Backoff
    max_attempts : int
        How often one call of :meth:`open` tries, if a member vanishes meanwhile.
    on_event : callable, optional
        See :class:`~fedcredit.node.link.Link`.

    Attributes
    ----------
    institution, platform : str
    identity : Identity
        Signs for the institution.
    link : Link
    """

    def __init__(
        self,
        credentials: Credentials,
        tls: TlsMaterial,
        uri: str,
        *,
        hub_name: str = "platform",
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        max_attempts: int = 5,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        self.institution, self.platform = credentials.party, hub_name
        self.identity = credentials.identity
        self._max_attempts = max_attempts
        self._lock = threading.Lock()
        self._opened: list[RemoteConversation] = []
        self.link = Link(
            credentials,
            tls,
            uri,
            hub_name=hub_name,
            timeouts=timeouts,
            backoff=backoff,
            on_event=on_event,
        ).start()

    def __repr__(self) -> str:
        return f"InstitutionConnection({self.institution!r}, {self.link.uri!r})"

    def __enter__(self) -> InstitutionConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def present(self, timeout: float | None = None) -> tuple[str, ...]:
        """Return the parties that serve and are connected now, by name.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the hub; ``[session] absence_timeout`` by default.

        Raises
        ------
        TransportError
            The hub is away, or does not admit the institution.
        """
        self.link.wait_connected(timeout)
        return self.link.serving()

    def open(
        self,
        members: Sequence[str],
        *,
        timeout: float | None = None,
        transcript: Transcript | None = None,
    ) -> RemoteConversation:
        """Open a conversation with these parties.

        Parameters
        ----------
        members : sequence of str
        timeout : float, optional
            Seconds to wait for members that are not connected; ``[session] absence_timeout`` by
            default.
        transcript : Transcript, optional
            Counts the conversation's messages.

        Raises
        ------
        InputError
            No member is named, or one twice.
        PeerUnavailable
            A member or the hub is away, or serves as many sessions as it may.
        PolicyError
            A member does not serve this institution.
        AuthenticationError
            A certificate does not check.
        """
        names = tuple(members)
        if not names or len(set(names)) != len(names) or self.institution in names:
            raise InputError(
                "a conversation needs members other than the institution, each once.",
                party=self.institution,
                step="open a session",
            )
        conversation = RemoteConversation(self._open(names, timeout), transcript=transcript)
        with self._lock:
            self._opened = [*(old for old in self._opened if old.is_open), conversation]
        return conversation

    def _open(self, names: tuple[str, ...], timeout: float | None) -> Channel:
        attempt, gone = 1, dict[str, bytes]()
        while True:
            boots = self.link.wait_for(names, timeout, lost=gone)
            try:
                return open_session(self.link, _JOB, boots, service=True)
            except SessionLost as error:
                if attempt >= self._max_attempts:
                    raise
                attempt += 1
                gone = {name: boot for name, boot in boots.items() if name == error.party}

    def keys(self, conversation: RemoteConversation) -> dict[str, Ed25519PublicKey]:
        """Return the signing keys of a conversation's members, as it authenticated them."""
        return conversation.keys

    def certificates(self, conversation: RemoteConversation) -> dict[str, bytes]:
        """Return the signing certificates (DER) of a conversation's members."""
        return conversation.certificates

    def close(self) -> None:
        """Take leave of all conversations and disconnect; runs of other threads are ended."""
        with self._lock:
            conversations, self._opened = self._opened, []
        for conversation in conversations:
            conversation.close()
        self.link.close()


def connect_institution(
    config: NodeConfig, *, on_event: Callable[[str, str], None] | None = None
) -> InstitutionConnection:
    """Connect as an institution's configuration says.

    Parameters
    ----------
    config : NodeConfig
        With ``role = "institution"``.
    on_event : callable, optional
        Told what happens to the link; see :class:`~fedcredit.node.link.Link`.

    Raises
    ------
    ConfigError
        It is another role's configuration, or a certificate cannot be used.
    """
    if config.role != "institution":
        raise ConfigError(
            f"{config.path.name} is the configuration of a {config.role}.",
            party=config.party,
            step="connect",
            fix="name the institution's file",
        )
    session = config.session
    return InstitutionConnection(
        config.load_signing(),
        config.load_tls(),
        config.hub.uri,
        hub_name=config.hub.name,
        timeouts=Timeouts(session.idle_timeout, session.absence_timeout),
        max_attempts=session.max_attempts,
        on_event=on_event,
    )
