"""A party's role in a session with an institution: the same loop at the platform and a provider.

::

    institution                                 every party
      ServiceStart{platform, providers}  ---->
      keys, see fedcredit.protocols.scoring  <---->
      checkpoints of the audit logs          <---->            (fedcredit.protocols.checkpoints)
      then, as often as it likes:
        ScoreRequest           -> platform and participants   (fedcredit.protocols.scoring)
        ScoreRepeat            -> the same, if a tag was zero by chance
        VerifyRequest          -> one party                   (fedcredit.protocols.verification)
        ModelQuery             -> platform      <- ModelHeader
        ConsentsPresented      -> every party   <- TokensChecked
        RevocationPresented    -> every party   <- TokensChecked
        VoidRequest            -> platform and participants; platform -> VoidWord -> participants
                                                <- UsesReturned
        CheckpointRound        -> every party, which exchange checkpoints again

Every question passes the party's own gate. A refusal is an answer; the session goes on. A request
that was declined or lost on the way has used consents at the parties that had admitted it. They
give the uses back on the platform's word that it has not answered: the platform admits a request
last, just before it answers, and does not admit one that it has called void.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from fedcredit.errors import PeerProtocolError, Refusal
from fedcredit.governance.gate import Gate
from fedcredit.models.scoring.answering import Answering
from fedcredit.models.scoring.desk import Desk
from fedcredit.models.scoring.served import served_targets
from fedcredit.models.scoring.service_messages import (
    ConsentsPresented,
    ModelHeader,
    ModelQuery,
    RevocationPresented,
    ServiceStart,
    TokensChecked,
    UsesReturned,
    VoidRequest,
    VoidWord,
)
from fedcredit.models.scoring.verification import finding_of
from fedcredit.models.scoring.witnessing import exchange_at_desk
from fedcredit.protocols.checkpoints import CheckpointRound
from fedcredit.protocols.scoring import (
    Answer,
    PartySide,
    platform_answer,
    provider_answer,
    start_party,
)
from fedcredit.protocols.scoring_messages import (
    Declined,
    ScoreRepeat,
    ScoreRequest,
    repeat_digest,
)
from fedcredit.protocols.verification import PairChannel, reply_to
from fedcredit.protocols.verification_messages import VerifyRequest
from fedcredit.wire import Message, Peers

__all__ = ["serve_session"]

_STEP = "serve"


async def serve_session(desk: Desk, peers: Peers, institution: str) -> NoReturn:
    """Serve an institution until it leaves.

    Parameters
    ----------
    desk : Desk
        Of this party.
    peers : Peers
        The institution and the other parties of the session.
    institution : str

    Raises
    ------
    PeerProtocolError
        A peer does not follow the protocol.
    StorageError
        The own audit log cannot be signed or written: nothing is answered.
    """
    start = await peers[institution].recv(ServiceStart)
    members = {start.platform, *start.providers}
    if members != ({desk.party, *peers} - {institution}) or len(start.session) != 32:
        raise PeerProtocolError(
            "the session's roles do not fit its members.", party=institution, step=_STEP
        )
    side = await start_party(
        peers,
        desk.party,
        institution=institution,
        platform=start.platform,
        providers=start.providers,
        session=start.session,
    )
    await exchange_at_desk(desk, peers, institution)
    served = _Session(desk, peers, institution, side, is_platform=desk.party == start.platform)
    while True:
        message = await peers[institution].recv_any(*served.handlers)
        await served.handlers[type(message)](message)


class _Session:
    """What one session needs between messages."""

    def __init__(
        self,
        desk: Desk,
        peers: Peers,
        institution: str,
        side: PartySide,
        *,
        is_platform: bool,
    ) -> None:
        self._desk, self._peers, self._side = desk, peers, side
        self._institution = peers[institution]
        self._is_platform = is_platform
        self._answering = Answering(desk, side, is_platform=is_platform)
        self.handlers: dict[type[Message], Callable[[Any], Awaitable[None]]] = {
            ScoreRequest: self._score,
            ScoreRepeat: self._repeat,
            VerifyRequest: self._verify,
            ModelQuery: self._models,
            ConsentsPresented: self._present,
            RevocationPresented: self._withdraw,
            VoidRequest: self._void,
            CheckpointRound: self._witness,
        }

    async def _score(self, request: ScoreRequest) -> None:
        await self._answer(request, self._answering.words)

    async def _repeat(self, message: ScoreRepeat) -> None:
        request = self._answering.repeated(message)
        if request is not None:
            await self._answer(request, self._answering.words_again, attempt=message.attempt)
        elif self._is_platform:
            refusal = Refusal(
                "only the last request for a forest's scores is answered again, and not often.",
                code="request_invalid",
                step="score",
                fix="ask anew",
            )
            digest = repeat_digest(message.request, message.attempt % 2**32)
            await self._institution.send(Declined.of(digest, self._desk.party, refusal))

    async def _answer(self, request: ScoreRequest, words: Answer, *, attempt: int = 0) -> None:
        if not self._is_platform:
            await provider_answer(self._peers, self._side, request, words, attempt=attempt)
            return
        await platform_answer(
            self._peers,
            self._side,
            request,
            words,
            self._desk.seal_sums,
            on_declined=self._desk.declined_elsewhere,
            attempt=attempt,
        )

    async def _verify(self, message: VerifyRequest) -> None:
        await self._institution.send(
            reply_to(
                message,
                institution=self._institution.name,
                identity=self._desk.signer,
                channel=PairChannel(self._side.keys, self._institution.name),
                answer=lambda query: finding_of(self._desk, query),
            )
        )

    async def _models(self, message: ModelQuery) -> None:
        found = served_targets(self._desk.store)
        await self._institution.send(
            ModelHeader(tuple(m.to_json() for m in found if message.target in ("", m.target)))
        )

    async def _present(self, message: ConsentsPresented) -> None:
        await self._check(lambda gate: gate.present(message.tokens))

    async def _withdraw(self, message: RevocationPresented) -> None:
        await self._check(lambda gate: gate.withdraw(message.token))

    async def _check(self, step: Callable[[Gate], object]) -> None:
        reply = TokensChecked("", "", "")
        try:
            step(self._desk.gate)
        except Refusal as refusal:
            reply = TokensChecked(refusal.code, refusal.reason, refusal.fix or "")
        await self._institution.send(reply)

    async def _witness(self, message: CheckpointRound) -> None:
        await exchange_at_desk(self._desk, self._peers, self._institution.name)

    async def _void(self, message: VoidRequest) -> None:
        """Give uses of consents back if the platform has not answered, and never will."""
        desk, institution = self._desk, self._institution.name
        if self._is_platform:
            void = desk.void(institution, message.request)
            for name in message.participants:
                if name in self._peers and name != institution:
                    await self._peers[name].send(VoidWord(message.request, void))
            return
        word = await self._peers[self._side.keys.platform].recv(VoidWord)
        returned = 0
        if word.void and word.request == message.request:
            returned = desk.gate.give_back(institution, message.request)
        await self._institution.send(UsesReturned(message.request, returned))
