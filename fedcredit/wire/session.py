"""Sans-I/O sessions: a role is a coroutine that awaits nothing but its peers.

A role is one ``async def`` that awaits :meth:`Peer.send` and :meth:`Peer.recv` (and the
many-peer forms of :class:`Peers`). It touches no socket, clock, file or event loop. A
:class:`Session` runs it: whoever owns the transport feeds messages in with
:meth:`Session.deliver` and takes messages out of :meth:`Session.outgoing`, one at a time, as
the role produces them, so that a block already sent is on its way while the next one is made.

States::

    running ──send──▶ running
    running ──recv, message there──▶ running
    running ──recv, none there──▶ waiting ──deliver──▶ running
    running ──return/raise──▶ done
    running ──recv, none there, that peer has said goodbye──▶ done, if it may
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Collection, Coroutine, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import FedCreditError, PeerProtocolError, ProtocolError, SessionStalled
from fedcredit.wire.abort import Abort
from fedcredit.wire.codec import decode, encode
from fedcredit.wire.goodbye import Goodbye
from fedcredit.wire.message import Message, payload_size
from fedcredit.wire.transcript import Transcript

__all__ = ["Peer", "Peers", "Session", "route", "run_in_process"]

M = TypeVar("M", bound=Message)
R = TypeVar("R")


@dataclass(frozen=True)
class _Send:
    to: str
    message: Message


@dataclass(frozen=True)
class _Recv:
    sender: str
    kinds: tuple[type[Message], ...]


@types.coroutine
def _operation(op: _Send | _Recv) -> Generator[_Send | _Recv, Any, Any]:
    return (yield op)


class Peer:
    """The other end of one pairwise channel, as a role sees it.

    Attributes
    ----------
    name : str
    key : Ed25519PublicKey or None
        What the peer signs with, as the session authenticated it, for roles that check or pass on
        signatures; None if whoever runs the role has no keys.
    """

    def __init__(self, name: str, key: Ed25519PublicKey | None = None) -> None:
        self.name = name
        self.key = key

    def __repr__(self) -> str:
        return f"Peer({self.name!r})"

    async def send(self, message: Message) -> None:
        """Send one message; returns as soon as the transport has it."""
        await _operation(_Send(self.name, message))

    async def recv(self, kind: type[M]) -> M:
        """Wait for the next message of this peer, which must be a ``kind``.

        Raises
        ------
        PeerProtocolError
            The peer sent something else.
        """
        message: M = await _operation(_Recv(self.name, (kind,)))
        return message

    async def recv_any(self, *kinds: type[Message]) -> Message:
        """Wait for the next message of this peer, which must be one of ``kinds``."""
        message: Message = await _operation(_Recv(self.name, kinds))
        return message


class Peers(Mapping[str, Peer]):
    """All peers of a role, in a fixed order.

    Parameters
    ----------
    names : iterable of str
    keys : mapping of str to Ed25519PublicKey or None, optional
        Their signing keys; may hold those of others too.
    """

    def __init__(
        self,
        names: Iterable[str],
        keys: Mapping[str, Ed25519PublicKey | None] | None = None,
    ) -> None:
        known = keys if keys is not None else {}
        self._peers = {name: Peer(name, known.get(name)) for name in names}

    def __getitem__(self, name: str) -> Peer:
        return self._peers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._peers)

    def __len__(self) -> int:
        return len(self._peers)

    async def broadcast(self, message: Message) -> None:
        """Send the same message to every peer."""
        for peer in self._peers.values():
            await peer.send(message)

    async def gather(self, kind: type[M]) -> dict[str, M]:
        """Receive one ``kind`` from every peer; they work at the same time."""
        return {name: await peer.recv(kind) for name, peer in self._peers.items()}


class Session(Generic[R]):
    """One role of one run.

    Parameters
    ----------
    role : coroutine
        Created but not started.
    party : str
        Who runs it (for error messages).
    max_queued : int
        Messages of one peer that may lie undelivered; a flood beyond it is refused.
    max_queued_bytes : int
        The same for their size; a peer's only undelivered message is never refused for it.
    may_leave : collection of str
        Clients that this role serves for as long as they stay. When it awaits one that has said
        :class:`Goodbye`, the role is closed (its ``finally`` blocks run) and the session is done,
        without a result and without an error. A goodbye of any other peer is an unexpected
        message.

    Attributes
    ----------
    done : bool
    result : object
        What the role returned, once ``done``.
    may_leave : frozenset of str
    left : str or None
        The client whose goodbye ended the session.
    waiting_for : str or None
        The peer whose message the role awaits.
    """

    def __init__(
        self,
        role: Coroutine[Any, Any, R],
        *,
        party: str = "",
        max_queued: int = 4096,
        max_queued_bytes: int = 2 << 30,
        may_leave: Collection[str] = (),
    ) -> None:
        self._role = role
        self._inbox: dict[str, deque[Message]] = {}
        self._queued_bytes: dict[str, int] = {}
        self._want: _Recv | None = None
        self._result: list[R] = []
        self._max_queued = max_queued
        self._max_queued_bytes = max_queued_bytes
        self._aborted: FedCreditError | None = None
        self._gone: set[str] = set()
        self.may_leave = frozenset(may_leave)
        self.left: str | None = None
        self.party = party
        self.done = False

    @property
    def result(self) -> R:
        """What the role returned."""
        if not self._result:
            state = "ended without a result" if self.done else "has not finished"
            raise ProtocolError(f"the role {state}.", party=self.party)
        return self._result[0]

    @property
    def waiting_for(self) -> str | None:
        """The peer whose message the role awaits, or None."""
        return self._want.sender if self._want is not None else None

    def deliver(self, sender: str, message: Message) -> None:
        """Queue a message of ``sender`` for the role.

        An :class:`Abort` ends the session: the next :meth:`outgoing` raises the peer's error.

        Raises
        ------
        PeerProtocolError
            The session is over, or the peer has flooded it.
        """
        if self.done:
            raise PeerProtocolError(
                f"{message.kind} from {sender} came after the end of the session.",
                found=message.kind,
                party=self.party,
            )
        if isinstance(message, Abort):
            self._aborted = message.to_error(sender)
            return
        if isinstance(message, Goodbye) and sender in self.may_leave:
            self._gone.add(sender)
            return
        queue = self._inbox.setdefault(sender, deque())
        size = self._queued_bytes.get(sender, 0) + payload_size(message)
        if len(queue) >= self._max_queued or (queue and size > self._max_queued_bytes):
            raise PeerProtocolError(
                f"{sender} sent more than {self._max_queued} messages or "
                f"{self._max_queued_bytes} bytes ahead.",
                party=self.party,
            )
        queue.append(message)
        self._queued_bytes[sender] = size

    def outgoing(self) -> Iterator[tuple[str, Message]]:
        """Run the role until it waits or ends; yield (recipient, message) as they are made.

        The role stands still while a message is out. A caller may drop the iterator there and
        go on with a new one later: what was yielded counts as sent.

        Raises
        ------
        FedCreditError
            What the role raised (with this party filled in), or what a peer aborted with.
        PeerProtocolError
            The next message of a peer is not of the awaited kind, or the role has returned and
            left a message unread: the peer runs another protocol.
        TypeError
            The role awaited something other than its peers.
        """
        while not self.done:
            if self._aborted is not None:
                self.close()
                raise self._aborted
            value: Message | None = None
            if self._want is not None:
                if not self._inbox.get(self._want.sender):
                    if self._want.sender in self._gone:
                        self.left = self._want.sender
                        self.close()
                    return
                value = self._take(self._want)
            op = self._step(value)
            if isinstance(op, _Send):
                yield op.to, op.message
            elif isinstance(op, _Recv):
                self._want = op
            elif not self.done:
                self.close()
                raise TypeError(
                    f"a role awaited something other than its peers: {type(op).__name__}"
                )

    def _step(self, value: Message | None) -> Any:
        """Run the role to its next operation, or to its end."""
        self._want = None
        try:
            return self._role.send(value)
        except StopIteration as stop:
            self.done = True
            self._check_all_read()
            self._result.append(stop.value)
            return None
        except FedCreditError as error:
            self.done = True
            error.at(party=self.party or None)
            raise
        except BaseException:
            self.done = True
            raise

    def _check_all_read(self) -> None:
        for sender, queue in self._inbox.items():
            if queue:
                raise PeerProtocolError(
                    f"{queue[0].kind} from {sender} was still unread when the role ended.",
                    found=queue[0].kind,
                    party=self.party,
                ) from None

    def _take(self, want: _Recv) -> Message:
        message = self._inbox[want.sender].popleft()
        self._queued_bytes[want.sender] -= payload_size(message)
        if type(message) not in want.kinds:
            self.close()
            raise PeerProtocolError(
                found=message.kind,
                expected=" or ".join(kind.kind for kind in want.kinds),
                party=self.party,
                step=f"receive from {want.sender}",
            )
        return message

    def close(self) -> None:
        """End the role without a result; idempotent."""
        self.done = True
        self._want = None
        self._role.close()


def run_in_process(
    roles: Mapping[str, Coroutine[Any, Any, Any]], *, transcript: Transcript | None = None
) -> dict[str, Any]:
    """Run all roles of a protocol in this process, every message through the codec.

    The roles take turns after every message, so a long stream of blocks is consumed while it
    is made, as it is over a network.

    Parameters
    ----------
    roles : mapping of party name to coroutine
        Peers are addressed by these names.
    transcript : Transcript, optional
        Records every message.

    Returns
    -------
    dict
        What each role returned.

    Raises
    ------
    SessionStalled
        Every unfinished role waits and no message is on its way.
    FedCreditError
        Whatever a role raised; the other roles are closed.
    """
    sessions = {name: Session(role, party=name) for name, role in roles.items()}
    try:
        while not all(session.done for session in sessions.values()):
            route(sessions, transcript=transcript, stall=True)
        return {name: session.result for name, session in sessions.items()}
    finally:
        for session in sessions.values():
            if not session.done:
                session.close()


def route(
    sessions: Mapping[str, Session[Any]],
    *,
    transcript: Transcript | None = None,
    stall: bool = False,
) -> bool:
    """Let every role of this process go on until it has sent one message, waits or ends.

    Parameters
    ----------
    sessions : mapping of party name to Session
    transcript : Transcript, optional
        Records every message.
    stall : bool
        Whether it is an error that nobody can go on.

    Returns
    -------
    bool
        Whether a message was passed on or a role has ended; if not, every role waits at an
        empty inbox.

    Raises
    ------
    SessionStalled
        Nobody could go on (with ``stall``).
    FedCreditError
        Whatever a role raised.
    """
    moved = False
    for name, session in sessions.items():
        if session.done:
            continue
        for recipient, message in session.outgoing():
            if recipient not in sessions:
                raise ProtocolError(f"there is no party {recipient}.", party=name)
            data = encode(message)
            if transcript is not None:
                transcript.record(name, recipient, message, data)
            sessions[recipient].deliver(name, decode(data))
            moved = True
            break
        moved = moved or session.done
    if stall and not moved:
        raise SessionStalled(f"every role waits: {_waits(sessions)}.")
    return moved


def _waits(sessions: Mapping[str, Session[Any]]) -> str:
    waits = []
    for name, session in sessions.items():
        if session.done:
            continue
        peer = session.waiting_for or ""
        if peer not in sessions:
            peer += " (no such party)"
        elif sessions[peer].done:
            peer += " (has ended)"
        waits.append(f"{name} for {peer}")
    return ", ".join(waits)
