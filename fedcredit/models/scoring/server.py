"""A party's role in a session with an institution: the same loop at the platform and a provider.

::

    institution                                 every party
      ServiceStart{platform, providers}  ---->
      keys, see fedcredit.protocols.scoring  <---->
      then, as often as it likes:
        ScoreRequest           -> platform and participants   (fedcredit.protocols.scoring)
        VerifyRequest          -> one party                   (fedcredit.protocols.verification)
        ModelQuery             -> platform      <- ModelHeader
        ConsentsPresented      -> every party   <- ConsentsAccepted
        RevocationPresented    -> every party   <- RevocationAccepted

Every question passes the party's own gate. A refusal is an answer; the session goes on.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from fedcredit.crypto.encscore import encode_parts, encode_values
from fedcredit.errors import PeerProtocolError, Refusal
from fedcredit.models.scoring.desk import Desk, Prepared
from fedcredit.models.scoring.served import LinearPart, served_targets
from fedcredit.models.scoring.service_messages import (
    ConsentsAccepted,
    ConsentsPresented,
    ModelHeader,
    ModelQuery,
    RevocationAccepted,
    RevocationPresented,
    ServiceStart,
)
from fedcredit.models.scoring.trees import ServedTrees
from fedcredit.models.scoring.verification import finding_of
from fedcredit.protocols.scoring import (
    PartySide,
    WordsAndNotes,
    platform_answer,
    provider_answer,
    start_party,
)
from fedcredit.protocols.scoring_messages import ScoreRequest
from fedcredit.protocols.tree_words import pack_rows, party_words, platform_words
from fedcredit.protocols.verification import PairChannel, reply_to
from fedcredit.protocols.verification_messages import VerifyRequest
from fedcredit.wire import Peers

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
    is_platform = desk.party == start.platform
    answering = _Answering(desk, side, is_platform=is_platform)
    while True:
        message = await peers[institution].recv_any(
            ScoreRequest, VerifyRequest, ModelQuery, ConsentsPresented, RevocationPresented
        )
        if isinstance(message, ScoreRequest):
            if is_platform:
                await platform_answer(peers, side, message, answering.words, desk.seal_sums)
            else:
                await provider_answer(peers, side, message, answering.words)
        elif isinstance(message, VerifyRequest):
            await peers[institution].send(
                reply_to(
                    message,
                    institution=institution,
                    identity=desk.signer,
                    channel=PairChannel(side.keys, institution),
                    answer=lambda query: finding_of(desk, query),
                )
            )
        elif isinstance(message, ModelQuery):
            await peers[institution].send(_headers(desk, message.target))
        elif isinstance(message, ConsentsPresented):
            await peers[institution].send(_present(desk, message))
        elif isinstance(message, RevocationPresented):
            await peers[institution].send(_withdraw(desk, message))


class _Answering:
    """Turns requests of one session into words."""

    def __init__(self, desk: Desk, side: PartySide, *, is_platform: bool) -> None:
        self._desk, self._side, self._is_platform = desk, side, is_platform

    def words(self, request: ScoreRequest, digest: bytes) -> WordsAndNotes:
        desk, n = self._desk, len(request.subjects)
        prepared = desk.score(
            institution=request.institution,
            target=request.target,
            purpose=request.purpose,
            subjects=request.subjects,
            consents=request.consents,
            request=digest,
            reasons=request.reasons,
            participants=request.participants,
            platform=self._side.keys.platform,
            own_features=bool(request.own),
        )

        def receipt(payload: bytes) -> bytes:
            return desk.statement(
                prepared,
                institution=request.institution,
                purpose=request.purpose,
                request=digest,
                n=n,
                payload=payload.hex(),
            )

        weights = None
        if self._is_platform and request.own:
            assert isinstance(prepared.part, LinearPart)
            weights = prepared.part.supplied_weights()
        return WordsAndNotes(
            words=self._encoded(prepared, digest),
            note=prepared.note.pack(n),
            receipt=receipt,
            metadata=prepared.header.to_json().encode() if self._is_platform else b"",
            own_weights=weights,
        )

    def _encoded(self, prepared: Prepared, digest: bytes) -> np.ndarray:
        if prepared.reach is None:
            assert prepared.values is not None
            encode = encode_values if self._is_platform else encode_parts
            return encode(prepared.values)[None, :]
        seed = self._side.keys.request_seed(digest)
        if self._is_platform:
            assert isinstance(prepared.part, ServedTrees)
            words = platform_words(prepared.reach, prepared.part.leaves, seed)
        else:
            words = party_words(prepared.reach, seed)
        return pack_rows(words, prepared.header.trees, prepared.header.leaves)


def _headers(desk: Desk, target: str) -> ModelHeader:
    models = served_targets(desk.store)
    return ModelHeader(tuple(model.to_json() for model in models if target in ("", model.target)))


def _present(desk: Desk, message: ConsentsPresented) -> ConsentsAccepted:
    try:
        desk.gate.present(message.tokens)
    except Refusal as refusal:
        return ConsentsAccepted(refusal.code, refusal.reason, refusal.fix or "")
    return ConsentsAccepted("", "", "")


def _withdraw(desk: Desk, message: RevocationPresented) -> RevocationAccepted:
    try:
        desk.gate.withdraw(message.token)
    except Refusal as refusal:
        return RevocationAccepted(refusal.code, refusal.reason, refusal.fix or "")
    return RevocationAccepted("", "", "")
