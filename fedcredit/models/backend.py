"""How a federation reaches its providers: in this process, or over real nodes.

A *backend* runs jobs of the coordinator, one session each. A *conversation* is one session of an
institution that stays open: see :mod:`fedcredit.models.conversation`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.models.conversation import Conversation, InProcessConversation, ServiceServer
from fedcredit.wire import Peers, Transcript, run_in_process

__all__ = [
    "Backend",
    "Conversation",
    "InProcessBackend",
    "InProcessConversation",
    "Role",
    "Server",
    "ServiceServer",
]

R = TypeVar("R")
#: Makes the coordinator's role of one session, given its peers; called again for a retry.
Role = Callable[[Peers], Coroutine[Any, Any, R]]


class Server(Protocol):
    """What a provider's engine offers to whoever runs its sessions."""

    party: str

    def serve(self, peers: Peers, coordinator: str) -> Coroutine[Any, Any, str]:
        """Return the role of one session: wait for the coordinator's job and do it."""


class Backend(Protocol):
    """Runs sessions between the coordinator (this process) and providers."""

    coordinator: str
    providers: tuple[str, ...]

    def run(
        self,
        role: Role[R],
        *,
        providers: Sequence[str] | None = None,
        job: str,
        transcript: Transcript,
    ) -> R:
        """Run one session of ``job`` and return the coordinator's result.

        A provider or hub that vanishes for a while is waited for; when a provider has lost its
        memory, the session is opened anew with a fresh role, which resumes from the last
        checkpoint.
        """

    def close(self) -> None:
        """Disconnect."""


class InProcessBackend:
    """All parties in this process; every message still goes through the codec.

    Parameters
    ----------
    coordinator : str
    servers : mapping of str to Server

    Attributes
    ----------
    keys : dict of str to Ed25519PublicKey
        What the parties sign with, for roles that check signatures; nothing at first.
    """

    def __init__(self, coordinator: str, servers: Mapping[str, Server]) -> None:
        self.coordinator = coordinator
        self.providers = tuple(servers)
        self.keys: dict[str, Ed25519PublicKey] = {}
        self._servers = dict(servers)

    def run(
        self,
        role: Role[R],
        *,
        providers: Sequence[str] | None = None,
        job: str,
        transcript: Transcript,
    ) -> R:
        """Run one session of ``job`` and return the coordinator's result."""
        names = tuple(providers) if providers is not None else self.providers
        roles: dict[str, Coroutine[Any, Any, Any]] = {
            self.coordinator: role(Peers(names, self.keys))
        }
        for name in names:
            others = [self.coordinator, *(other for other in names if other != name)]
            roles[name] = self._servers[name].serve(Peers(others, self.keys), self.coordinator)
        result: R = run_in_process(roles, transcript=transcript)[self.coordinator]
        return result

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def __repr__(self) -> str:
        return f"InProcessBackend({self.coordinator!r}, {list(self.providers)!r})"
