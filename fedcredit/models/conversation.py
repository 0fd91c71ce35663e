"""Long-lived sessions of an institution with the parties that serve it.

A conversation is one session in which the institution asks again and again. Every request is a
coroutine of the institution, run to its end; the servers' roles go on in between, so that what
they agreed on at the start (keys, shares of zero) holds for all requests::

    institution   open ── run(role 1) ── run(role 2) ── … ── close: Goodbye
    each server   serve_institution(peers, institution): for ever: await a request, answer it

A server's role needs no end of its own: once it awaits an institution that has left, it is closed.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import SessionLost
from fedcredit.wire import Goodbye, Peers, Session, Transcript, route

__all__ = ["Conversation", "InProcessConversation", "LockedConversation", "ServiceServer"]

R = TypeVar("R")


class ServiceServer(Protocol):
    """What a party offers that answers institutions."""

    party: str

    def serve_institution(self, peers: Peers, institution: str) -> Coroutine[Any, Any, str]:
        """Return the role of one session with an institution.

        ``peers`` are the institution first, then the other servers. The role may run for ever:
        it is closed (``GeneratorExit`` where it awaits the institution) when the institution has
        left, and its ``finally`` blocks run.
        """


class Conversation(Protocol):
    """One open session of an institution."""

    @property
    def members(self) -> tuple[str, ...]:
        """The parties that serve it."""

    @property
    def transcript(self) -> Transcript:
        """Counts the messages of all requests so far."""

    def run(self, role: Callable[[Peers], Coroutine[Any, Any, R]]) -> R:
        """Run one role of the institution and return its result; the session stays open.

        Calls from several threads wait for each other.

        Raises
        ------
        SessionLost
            The session is over: closed, or lost since the last call. Open another one.
        FedCreditError
            What the role raised, or what a server ended the session with. It is over now.
        """

    def close(self) -> None:
        """Take leave of the servers; idempotent."""


class LockedConversation(ABC):
    """What every conversation does alike: one run at a time, and none after a failure.

    Parameters
    ----------
    institution : str
    members : sequence of str
    transcript : Transcript, optional
        Counts the messages; a new one by default.
    """

    def __init__(
        self, institution: str, members: Sequence[str], transcript: Transcript | None = None
    ) -> None:
        self.institution = institution
        self._members = tuple(members)
        self._transcript = transcript if transcript is not None else Transcript()
        self._lock = threading.Lock()
        self._over = False

    def __repr__(self) -> str:
        state = "over" if self._over else "open"
        return f"{type(self).__name__}({self.institution!r}, {list(self._members)!r}, {state})"

    def __enter__(self) -> LockedConversation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def members(self) -> tuple[str, ...]:
        """The parties that serve it."""
        return self._members

    @property
    def transcript(self) -> Transcript:
        """Counts the messages of all requests so far."""
        return self._transcript

    @property
    def is_open(self) -> bool:
        """Whether nothing is known that would keep another run from working."""
        return not self._over

    def run(self, role: Callable[[Peers], Coroutine[Any, Any, R]]) -> R:
        """Run one role of the institution; see :meth:`Conversation.run`."""
        with self._lock:
            if self._over:
                raise SessionLost(
                    "the conversation is over.",
                    party=self.institution,
                    step="ask",
                    fix="open another one",
                )
            try:
                return self._run(role)
            except BaseException:
                self._over = True
                self._drop()
                raise

    def close(self) -> None:
        """Take leave of the servers; idempotent. A run of another thread ends first."""
        if self._lock.locked():
            self._interrupt()
        with self._lock:
            if not self._over:
                self._over = True
                self._leave()

    @abstractmethod
    def _run(self, role: Callable[[Peers], Coroutine[Any, Any, R]]) -> R:
        """Run a role in the open session."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Hurry the run of another thread, if that is possible."""

    @abstractmethod
    def _leave(self) -> None:
        """End the open session in good order."""

    @abstractmethod
    def _drop(self) -> None:
        """Release what is left of a session that has failed; its parties know already."""


class InProcessConversation(LockedConversation):
    """All parties in this process; every message still goes through the codec.

    Parameters
    ----------
    institution : str
    servers : mapping of party name to ServiceServer
        Their roles take turns in the thread that calls :meth:`run`.
    transcript : Transcript, optional
        Counts the messages between all parties; a new one by default.
    keys : mapping of str to Ed25519PublicKey, optional
        The signing keys of all members and the institution.
    """

    def __init__(
        self,
        institution: str,
        servers: Mapping[str, ServiceServer],
        *,
        transcript: Transcript | None = None,
        keys: Mapping[str, Ed25519PublicKey] | None = None,
    ) -> None:
        super().__init__(institution, list(servers), transcript)
        self._keys = dict(keys or {})
        self._sessions = {
            name: Session(
                server.serve_institution(
                    Peers(
                        [institution, *(other for other in servers if other != name)], self._keys
                    ),
                    institution,
                ),
                party=name,
                may_leave=[institution],
            )
            for name, server in servers.items()
        }

    def _run(self, role: Callable[[Peers], Coroutine[Any, Any, R]]) -> R:
        own = Session(role(Peers(self._members, self._keys)), party=self.institution)
        sessions: dict[str, Session[Any]] = {self.institution: own, **self._sessions}
        try:
            while not own.done:
                route(sessions, transcript=self._transcript, stall=True)
            # What the servers still have to do after the last answer.
            while route(sessions, transcript=self._transcript):
                pass
        finally:
            if not own.done:
                own.close()
        return own.result

    def _interrupt(self) -> None:
        pass

    def _leave(self) -> None:
        for session in self._sessions.values():
            if not session.done:
                session.deliver(self.institution, Goodbye())
        try:
            while route(self._sessions, transcript=self._transcript):
                pass
        finally:
            self._drop()

    def _drop(self) -> None:
        with contextlib.ExitStack() as closing:
            for session in self._sessions.values():
                if not session.done:
                    closing.callback(session.close)
