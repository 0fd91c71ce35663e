"""Scores for an institution: encrypted for it alone, from parts that no party shows another.

A session serves many requests; a request is one round::

    institution I                    platform L                          provider P (each)
      ServiceKey{X25519 key}  <---------------- every two members --------------->  once per session
      ServiceHello{public keys} --> every party                                     once per session
                                       ServiceSeed{sealed seed} ------------------> once per session

      ScoreRequest{model, purpose, enterprises, consents, nonce}  --> L and every participant
      OwnFeatures{encrypted} ------->  (only if I has some)
                                                                          asks its own gate
                                                                          words + share of zero
                                          <----- ScoreShare{Enc_I(words), sealed note, receipt} or
                                                 Declined{code, reason, fix}
                                       if none declined: its own gate,
                                       words + share of zero
          <-- ScoreAnswer{sum of all Enc_I(words), sealed notes, receipts, metadata} or
              Declined{party, code, reason, fix}

The shares of zero of one request cancel among its participants modulo ``2^59``
(:mod:`fedcredit.protocols.scoring_keys`), so the words of all parties add up to the score, and
those of all parties but one are uniform. In mode ``masked`` a party seals its masked words to the
institution instead of encrypting them, and the institution adds them itself.

Whether a request may be answered is every party's own decision: the callback ``answer`` of a round
decides and computes. A :class:`~fedcredit.errors.Refusal` that it raises declines the one request;
the session goes on.

===============  ================================================================================
role             learns
===============  ================================================================================
institution      the sum of all words, which is the score (with a tag that is zero), and from the
                 noise of the ciphertext or from the masked words of single parties nothing else;
                 the notes and receipts that the parties make for it; which party declined by
                 which rule. Whoever asks about one enterprise with different models or different
                 participants learns differences of scores: what the gates count
platform         who is asked about, for what purpose, and that every participant agreed or
                 declined; of the words nothing (ciphertexts under the institution's key, or
                 sealed bytes)
each provider    who is asked about, for what purpose, with which other participants; not whether
                 the others agreed, and nothing of words or score
===============  ================================================================================

With features of its own the institution learns, besides, what they add: the sum then contains the
product of its features with weights of the platform. It chooses the features, so every answer is
one linear equation in the weights: whoever asks about one enterprise with other features each time
reads the weights off, as many as questions, and features that are no indicators of bins (large
powers of two) pack several weights into one answer. The weights of the institution's own features
are therefore as good as known to it; nothing about other parties' features follows from them.

The parties are semi-honest; what protects messages on their way is the signature on every
envelope. The institution with all parties but one learns that one's words: with a single provider
the institution and the platform together learn its part. In mode ``homomorphic`` two things hide
the words of one party from the institution: the masks, and that the platform passes on no single
ciphertext. In mode ``masked`` it is the masks alone, for less work and fewer bytes. A party that
alters its words alters the score: by a small number unnoticed (its signed receipt remains), by
anything else so that the tag is not zero but for a chance of ``2^-28``, and the answer is refused.

Sources: BFV as in :mod:`fedcredit.crypto.encscore`; K. Bonawitz et al., "Practical Secure
Aggregation", CCS 2017 (pairwise masks that cancel).
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encscore import WORD_MASK
from fedcredit.errors import CryptoError, FedCreditError, InputError, PeerProtocolError, Refusal
from fedcredit.protocols.scoring_messages import (
    Declined,
    OwnFeatures,
    ScoreAnswer,
    ScoreRepeat,
    ScoreRequest,
    ScoreShare,
    own_digest,
    repeat_digest,
    request_digest,
)
from fedcredit.protocols.scoring_session import (
    InstitutionSide,
    PartySide,
    start_institution,
    start_party,
)
from fedcredit.protocols.scoring_shares import (
    RoundAnswer,
    WordsAndNotes,
    combine,
    open_answer,
    party_share,
    result_digest,
)
from fedcredit.wire import Peers

__all__ = [
    "Answer",
    "InstitutionSide",
    "PartySide",
    "RoundAnswer",
    "WordsAndNotes",
    "combine",
    "institution_round",
    "new_request",
    "open_answer",
    "party_share",
    "platform_answer",
    "provider_answer",
    "request_digest",
    "start_institution",
    "start_party",
]

_STEP = "score"
I64 = NDArray[np.int64]
Answer = Callable[[ScoreRequest, bytes], WordsAndNotes | Awaitable[WordsAndNotes]]
"""Decides about a request, given it and its digest, and computes this party's words.

It raises :class:`~fedcredit.errors.Refusal` to decline. What it awaits may only be peers.
"""


# ----------------------------------------------------------------------------- the institution


def new_request(
    side: InstitutionSide,
    *,
    target: str,
    purpose: str,
    subjects: Sequence[str],
    consents: Sequence[str],
    now: float,
    mode: str = "homomorphic",
    reasons: int = 0,
    participants: Sequence[str] | None = None,
    own: I64 | None = None,
    detail: str = "",
) -> tuple[ScoreRequest, OwnFeatures | None]:
    """Make a request with a fresh nonce.

    Parameters
    ----------
    side : InstitutionSide
        Of the session in which it will be asked.
    target, purpose, mode, reasons, detail : str or int
        See :class:`~fedcredit.protocols.scoring_messages.ScoreRequest`.
    subjects, consents : sequence of str
        The enterprises and their consents.
    now : float
        Unix seconds UTC.
    participants : sequence of str, optional
        The providers that take part. Default: all of the session.
    own : ndarray of int64, shape (n, F), optional
        Features of the institution's own; see :mod:`fedcredit.crypto.encscore_features`.

    Returns
    -------
    request : ScoreRequest
    own : OwnFeatures or None
        What goes to the platform behind it.

    Raises
    ------
    Refusal
        ``request_invalid``.
    InputError
        If participants or features do not fit the session.
    """
    names = side.keys.providers if participants is None else tuple(participants)
    if not set(names) <= set(side.keys.providers):
        raise InputError(
            "a participant is no provider of this session.",
            step=_STEP,
            fix=f"use some of {', '.join(side.keys.providers)}",
        )
    ciphertexts: tuple[bytes, ...] = ()
    if own is not None:
        if side.own is None or own.ndim != 2 or len(own) != len(subjects):
            raise InputError(
                "own features need a session that was started for them, and a row per enterprise.",
                step=_STEP,
                fix="start the session with own_features=True",
            )
        ciphertexts = side.own.encrypt(own)
    request = ScoreRequest(
        institution=side.keys.me,
        target=target,
        purpose=purpose,
        mode=mode,
        subjects=tuple(subjects),
        consents=tuple(consents),
        reasons=reasons,
        participants=names,
        key_id=side.holder.key_id,
        nonce=secrets.token_bytes(32),
        time=now,
        own=own_digest(ciphertexts, own.shape[1]) if own is not None else b"",
        detail=detail,
    )
    request.check()
    if own is None:
        return request, None
    return request, OwnFeatures(request_digest(request), own.shape[1], ciphertexts)


async def institution_round(
    peers: Peers,
    side: InstitutionSide,
    request: ScoreRequest,
    own: OwnFeatures | None = None,
    *,
    attempt: int = 0,
) -> RoundAnswer:
    """Ask and read the answer.

    Parameters
    ----------
    peers : Peers
        The platform and every provider.
    side : InstitutionSide
        Of the session.
    request, own : ScoreRequest, OwnFeatures or None
        From :func:`new_request`.
    attempt : int
        From 1 on: ask for the last request again, under fresh masks, because words of its answer
        could not be told apart, which happens by chance.

    Raises
    ------
    Refusal
        With the party and code of whoever declined; the session goes on.
    PeerProtocolError
        If the answer does not belong to the request or was altered.
    """
    digest = request_digest(request)
    asked: ScoreRequest | ScoreRepeat = request
    if attempt:
        asked, digest = ScoreRepeat(digest, attempt), repeat_digest(digest, attempt)
    side.keys.admit(digest)
    platform = peers[side.keys.platform]
    for name in request.participants:
        await peers[name].send(asked)
    await platform.send(asked)
    if own is not None:
        await platform.send(own)
    answer = await platform.recv_any(ScoreAnswer, Declined)
    if isinstance(answer, Declined):
        if answer.request != digest:
            raise _malformed(platform.name, "the platform declines another request.")
        raise answer.to_error(platform.name)
    assert isinstance(answer, ScoreAnswer)
    opened = open_answer(side.keys, side.holder, request, digest, answer)
    if own is None or side.own is None:
        return opened
    try:
        products = side.own.decrypt(answer.own, len(request.subjects), own.count)
    except CryptoError as error:
        raise _malformed(platform.name, error.reason) from None
    if opened.words.shape != (1, products.size):
        raise _malformed(platform.name, "own features go with one row of words.")
    return replace(opened, words=(opened.words + products[None, :]) & WORD_MASK)


def _malformed(party: str, reason: str) -> PeerProtocolError:
    return PeerProtocolError(
        reason,
        party=party,
        step=_STEP,
        fix=f"ask again; if it stays so, let {party} check its node",
    )


# -------------------------------------------------------------------------- platform, providers


def _named(request: ScoreRequest, attempt: int) -> bytes:
    digest = request_digest(request)
    return repeat_digest(digest, attempt) if attempt else digest


async def _part(
    side: PartySide,
    request: ScoreRequest,
    answer: Answer,
    own: OwnFeatures | None,
    attempt: int,
) -> tuple[ScoreShare | Declined, tuple[bytes, ...], bytes]:
    """Give this party's part or why not, products of own features, and metadata."""
    keys, digest = side.keys, b""
    try:
        digest = _named(request, attempt)
        keys.admit(digest)
        request.check()
        if request.institution != keys.institution or request.key_id != side.encryptor.key_id:
            raise _invalid("the request names another institution or key than the session's.")
        if not set(request.participants) <= set(keys.providers) or (
            keys.me not in (keys.platform, *request.participants)
        ):
            raise _invalid("the request's participants are not providers of the session.")
        if own is not None and (
            own.request != digest or own_digest(own.ciphertexts, own.count) != request.own
        ):
            raise _invalid("the encrypted features are not those of the request.")
        found = answer(request, digest)
        given = await found if inspect.isawaitable(found) else found
        products: tuple[bytes, ...] = ()
        if own is not None:
            given, products = _with_own(side, request, given, own)
        share = party_share(keys, side.encryptor, request, digest, given)
        return share, products, given.metadata
    except FedCreditError as error:
        # A refusal, or a party's own trouble: it ends the request, never the session.
        keys.drop(digest)
        return Declined.of(digest, keys.me, error), (), b""


def _with_own(
    side: PartySide, request: ScoreRequest, given: WordsAndNotes, own: OwnFeatures
) -> tuple[WordsAndNotes, tuple[bytes, ...]]:
    """Multiply the institution's features by the weights; take the blinds off the own words."""
    n, weights = len(request.subjects), given.own_weights
    if side.own is None or weights is None or given.words.shape != (1, n):
        raise _invalid("the model has no features of the institution's own.")
    if weights.shape != (own.count,):
        raise _invalid("the model has another number of features of the institution's own.")
    try:
        products, blinds = side.own.products(own.ciphertexts, n, weights)
    except CryptoError as error:
        raise _invalid(error.reason) from None
    words = (given.words - blinds[None, :]) & WORD_MASK
    return replace(given, words=words), products


def _invalid(reason: str) -> Refusal:
    return Refusal(
        reason,
        code="request_invalid",
        step=_STEP,
        fix="ask through fedcredit.Institution or the command line of the same release",
    )


async def provider_answer(
    peers: Peers, side: PartySide, request: ScoreRequest, answer: Answer, *, attempt: int = 0
) -> None:
    """Answer, at a provider, a request that the caller received.

    Parameters
    ----------
    peers : Peers
        Every other member.
    side : PartySide
        Of the session.
    request : ScoreRequest
    answer : callable
        Decides and computes.
    attempt : int
        From 1 on: the caller has received a
        :class:`~fedcredit.protocols.scoring_messages.ScoreRepeat` of this request.
    """
    part, _, _ = await _part(side, request, answer, None, attempt)
    await peers[side.keys.platform].send(part)


async def platform_answer(
    peers: Peers,
    side: PartySide,
    request: ScoreRequest,
    answer: Answer,
    seal: Callable[[bytes, bytes], bytes] | None = None,
    *,
    on_declined: Callable[[ScoreRequest, bytes], None] | None = None,
    attempt: int = 0,
) -> None:
    """Answer, at the platform, a request that the caller received: add up all parts.

    If this party or any participant declines, or a part does not check, the institution gets
    :class:`~fedcredit.protocols.scoring_messages.Declined` with parties and codes.

    Parameters
    ----------
    peers, side, request, answer
        See :func:`provider_answer`.
    on_declined : callable, optional
        Told the request and its digest if a participant declined, so that this party was not
        asked any more.
    attempt : int
        See :func:`provider_answer`.
    seal : callable, optional
        Given the digests of the request and of the sums (32 bytes each), what the platform signs
        of them.
    """
    keys = side.keys
    institution = peers[keys.institution]
    own = await institution.recv(OwnFeatures) if request.own and not attempt else None
    digest = _named(request, attempt)
    declined: list[tuple[str, Declined]] = []
    shares: dict[str, ScoreShare] = {}
    for name in dict.fromkeys(n for n in request.participants if n in keys.providers):
        part = await peers[name].recv_any(ScoreShare, Declined)
        if isinstance(part, Declined):
            declined.append((name, part))
        else:
            assert isinstance(part, ScoreShare)
            shares[name] = part
    mine: ScoreShare | Declined | None = None
    products: tuple[bytes, ...] = ()
    if not declined:
        # Last, so that what this party has admitted is what was answered.
        mine, products, metadata = await _part(side, request, answer, own, attempt)
        if isinstance(mine, Declined):
            declined.append((keys.me, mine))
    elif on_declined is not None:
        on_declined(request, digest)
    if not declined:
        assert isinstance(mine, ScoreShare)
        try:
            key_id = side.encryptor.key_id
            sums = combine(mine, shares, key_id, own=products, metadata=metadata)
            if seal is not None:
                sums = replace(sums, seal=seal(digest, result_digest(sums)))
            await institution.send(sums)
            return
        except Refusal as error:
            declined.append((error.party or keys.me, Declined.of(digest, keys.me, error)))
    await institution.send(Declined.joined(digest, declined))
