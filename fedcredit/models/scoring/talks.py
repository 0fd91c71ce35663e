"""An institution's open sessions: opened when they are needed, opened again when they are lost."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import InputError, Refusal, SessionLost
from fedcredit.models.conversation import Conversation
from fedcredit.models.scoring.service_messages import ServiceStart
from fedcredit.models.scoring.witnessing import Watch
from fedcredit.protocols.scoring import InstitutionSide, start_institution
from fedcredit.wire import Identity, Peers

__all__ = ["WITNESS_EVERY", "ServiceConnection", "Talk", "Talks", "run"]

R = TypeVar("R")
Role = Callable[[Peers], Coroutine[Any, Any, R]]
_STEP = "ask"
#: Questions of a session after which its members exchange checkpoints again.
WITNESS_EVERY = 256
#: A session that is found lost before anything was asked is opened again this often.
_ATTEMPTS = 3


class ServiceConnection(Protocol):
    """How an institution reaches the parties that serve it."""

    institution: str
    platform: str
    identity: Identity

    def present(self) -> tuple[str, ...]:
        """Return the parties that serve and are connected now."""

    def open(self, members: Sequence[str]) -> Conversation:
        """Open a conversation with these parties."""

    def keys(self, conversation: Any) -> Mapping[str, Ed25519PublicKey]:
        """Return the signing keys of the members of a conversation, as it authenticated them."""

    def certificates(self, conversation: Any) -> Mapping[str, bytes]:
        """Return their signing certificates (DER); empty where keys have none."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, eq=False)
class Talk:
    """An open conversation with what was agreed in it."""

    conversation: Conversation
    side: InstitutionSide
    keys: Mapping[str, Ed25519PublicKey]
    certificates: Mapping[str, bytes]
    turns: Iterator[int] = field(default_factory=itertools.count)


class Talks:
    """Sessions by their members; questions of several threads take turns.

    Parameters
    ----------
    connection : ServiceConnection
    watch : Watch
        Witnesses the members' audit logs when a session starts and every ``witness_every``
        questions.
    witness_every : int
    """

    def __init__(
        self, connection: ServiceConnection, watch: Watch, *, witness_every: int = WITNESS_EVERY
    ) -> None:
        self._connection = connection
        self._watch, self._witness_every = watch, witness_every
        self._lock = threading.RLock()
        self._open: dict[frozenset[str], Talk] = {}

    def __repr__(self) -> str:
        return f"Talks({len(self._open)} open)"

    def close(self) -> None:
        """Take leave of all parties."""
        with self._lock:
            for talk in self._open.values():
                talk.conversation.close()
            self._open.clear()

    def ask(self, parties: Collection[str], question: Callable[[Talk], R]) -> R:
        """Ask in a session with these parties.

        Raises
        ------
        SessionLost
            A party was lost while it was asked.
        FedCreditError
            What the question raises.
        """
        with self._lock:
            for _ in range(_ATTEMPTS):
                talk = self._talk(frozenset(parties))
                try:
                    turn = next(talk.turns)
                    if turn and turn % self._witness_every == 0:
                        talk.conversation.run(self._watch.ask_again)
                    return question(talk)
                except SessionLost as error:
                    self._drop(talk)
                    lost = error
                    # The conversation says so before anything of the question was sent.
                    if error.step != _STEP:
                        raise
            raise lost

    def _talk(self, needed: frozenset[str]) -> Talk:
        for members, talk in list(self._open.items()):
            if not _is_open(talk.conversation):
                self._drop(talk)
            elif needed <= members:
                return talk
        platform = self._connection.platform
        if platform not in needed:
            raise InputError("every session has the platform in it.", step=_STEP)
        conversation = self._connection.open(tuple(sorted(needed)))
        providers = tuple(sorted(needed - {platform}))
        session = secrets.token_bytes(32)

        async def begin(peers: Peers) -> InstitutionSide:
            await peers.broadcast(ServiceStart(platform, providers, session))
            side = await start_institution(
                peers,
                self._connection.institution,
                platform=platform,
                providers=providers,
                session=session,
                own_features=True,
            )
            await self._watch.exchange(peers)
            return side

        talk = Talk(
            conversation,
            conversation.run(begin),
            self._connection.keys(conversation),
            self._connection.certificates(conversation),
        )
        self._open[needed] = talk
        return talk

    def _drop(self, talk: Talk) -> None:
        self._open = {members: kept for members, kept in self._open.items() if kept is not talk}
        talk.conversation.close()


def run(talk: Talk, role: Role[R]) -> R:
    """Run a role; a refusal is an answer like others and leaves the session open.

    Raises
    ------
    Refusal
        Of the role.
    """

    async def guarded(peers: Peers) -> tuple[R | None, Refusal | None]:
        try:
            return await role(peers), None
        except Refusal as refusal:
            return None, refusal

    result, refusal = talk.conversation.run(guarded)
    if refusal is not None:
        raise refusal
    return result  # type: ignore[return-value]


def _is_open(conversation: Any) -> bool:
    return bool(getattr(conversation, "is_open", True))
