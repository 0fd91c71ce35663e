"""Verification: an institution asks one provider one yes-or-no question about one enterprise.

The question is a predicate of the provider's menu ("tax paid in 2025 is at least 500,000 CNY"), or
whether a value that the enterprise declared is the provider's within a tolerance. Institution and
provider share a sealed channel from the start of the session; the platform relays::

    institution                        platform                        provider
      VerifyRequest{target, purpose,   -------------------->
        digest, sealed query}                                 callback: declaration; gate (consent,
                                                              catalog, budgets, log); record
                                       <--------------------    VerifyAnswer{digest, sealed
                                                                  statement, signature, salt,
                                                                  response}
                                                                or Declined{why}

A declared value ``v`` goes as an ElGamal ciphertext under a key of this question alone::

      key y, Enc(v), the enterprise's signed commitment C,
      proof: Enc(v) holds what C commits to     ------>   checks the proof against C
      finds a zero or none              <------------   for every c of x - w … x + w, shuffled:
      proves at once how they decrypt,                    Enc(s·(v - c)), s fresh, re-randomised
      forgets y

================  ==============================================================================
role              learns
================  ==============================================================================
institution       menu: yes, no or no record. Declared: match, no match or no record; nothing of
                  how far off the value is, nor which candidate matched. Besides, the date of the
                  data and the number of the entry in the provider's log; why it was declined
provider          who asks, about whom, which predicate and arguments, the consent. Of a declared
                  value nothing but that the enterprise committed to it, and not whether it matched
platform, hub     who asks whom which predicate, for which purpose and when; that and by which rule
                  it was declined; how long the provider took, which for a declared value
                  grows with the tolerance. Not: the enterprise, the arguments, the consent, the
                  declared value, the answer, whether there is a record
auditor, court    what the institution shows: a signed statement, the enterprise by opening a salted
                  commitment, the outcome of a comparison by a proof
================  ==============================================================================

Each answer tells one bit, so many of them search a value. Against that stand the menu and budgets
at the provider's gate, and for declared values that only what the enterprise signed can be
compared: without it, an institution that is free to choose the values finds the record's in
``range / (2w + 1) + log2(2w + 1)`` questions. Typing values without a commitment is therefore
refused unless the provider's catalog allows it for the predicate.

Parties are semi-honest towards the truth of a record: a provider can state what is false, but has
signed it. Towards everything else both sides may be malicious: what the institution sees does not
depend on its choice of key and ciphertext (:mod:`fedcredit.crypto.elgamal`), and an answer fits one
request of one institution about one enterprise. A record that does not match is hidden whatever
the institution can compute; a declared value is hidden under the decisional Diffie-Hellman
assumption; the proofs hold in the random-oracle model. Whoever signs a declaration can sign
several: that an enterprise lends itself to a search for its own record is left to the budgets.

Sources: M. Jakobsson and A. Juels, "Mix and Match", ASIACRYPT 2000; M. Freedman, K. Nissim and
B. Pinkas, "Efficient Private Matching and Set Intersection", EUROCRYPT 2004; proofs as in
:mod:`fedcredit.crypto.sigma`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import Certificate

from fedcredit.errors import FedCreditError, PeerProtocolError
from fedcredit.protocols.blame import blamed_on
from fedcredit.protocols.scoring_messages import Declined
from fedcredit.protocols.verification_institution import (
    DeclaredValue,
    PendingVerification,
    VerificationAnswer,
    VerifyQuestion,
)
from fedcredit.protocols.verification_messages import (
    PairChannel,
    SealedChannel,
    VerifyAnswer,
    VerifyQuery,
    VerifyRequest,
)
from fedcredit.protocols.verification_provider import (
    DeclaredFinding,
    Finding,
    MenuFinding,
    answer_verification,
    check_committed,
)
from fedcredit.wire import Identity, Peer

__all__ = [
    "DeclaredFinding",
    "DeclaredValue",
    "Finding",
    "MenuFinding",
    "PairChannel",
    "PendingVerification",
    "Served",
    "VerificationAnswer",
    "VerifyQuestion",
    "answer_verification",
    "check_committed",
    "institution_verify",
    "provider_verify",
    "read_reply",
    "reply_to",
]

_STEP = "verify"


@dataclass(frozen=True)
class Served:
    """What a provider did with one question.

    Attributes
    ----------
    digest : bytes
        Of the request, as it stood outside.
    outcome : str
        ``"answered"``, or the code with which it was declined.
    """

    digest: bytes = field(repr=False)
    outcome: str


async def institution_verify(
    peer: Peer,
    channel: SealedChannel,
    question: VerifyQuestion,
    *,
    institution: str,
    provider_key: Ed25519PublicKey | Certificate,
) -> VerificationAnswer:
    """Ask one question; once or many times in a session.

    Parameters
    ----------
    peer : Peer
        The provider, as whom it signs.
    channel : SealedChannel
        To the provider.
    question : VerifyQuestion
    institution : str
        This party's name.
    provider_key : Ed25519PublicKey or Certificate
        Of the provider's node.

    Returns
    -------
    VerificationAnswer

    Raises
    ------
    Refusal
        The provider declined, or the question is malformed; the session goes on.
    PeerProtocolError
        The answer is malformed or belongs to another question, enterprise or institution.
    AuthenticationError
        The provider's signature does not check.
    """
    pending = PendingVerification(
        question, institution=institution, provider=peer.name, channel=channel
    )
    await peer.send(pending.request)
    reply = await peer.recv_any(VerifyAnswer, Declined)
    with blamed_on(peer, _STEP):
        return read_reply(pending, reply, provider_key)


def read_reply(
    pending: PendingVerification, reply: object, provider_key: Ed25519PublicKey | Certificate
) -> VerificationAnswer:
    """Read what came back to a question, where the caller received it.

    Raises
    ------
    Refusal, PeerProtocolError, AuthenticationError
        See :func:`institution_verify`.
    """
    if isinstance(reply, VerifyAnswer):
        return pending.read(reply, provider_key)
    if not isinstance(reply, Declined) or reply.request != pending.request.digest:
        raise PeerProtocolError(
            "the reply is to another question.", party=pending.provider, step=_STEP
        )
    refusal = reply.to_error(pending.provider)
    refusal.party, refusal.step = pending.provider, _STEP
    raise refusal


async def provider_verify(
    peer: Peer,
    channel: SealedChannel,
    identity: Identity,
    answer: Callable[[VerifyQuery], Finding],
) -> Served:
    """Receive one question and answer or decline it.

    Parameters
    ----------
    peer : Peer
        The institution, as the session authenticated it.
    channel : SealedChannel
        To the institution.
    identity : Identity
        This provider's name and signing key.
    answer : callable
        See :func:`answer_verification`; what it raises of our errors is declined.

    Returns
    -------
    Served

    Raises
    ------
    PeerProtocolError
        The request does not open.
    """
    request = await peer.recv(VerifyRequest)
    reply = reply_to(
        request, institution=peer.name, identity=identity, channel=channel, answer=answer
    )
    await peer.send(reply)
    return Served(request.digest, reply.codes[0] if isinstance(reply, Declined) else "answered")


def reply_to(
    request: VerifyRequest,
    *,
    institution: str,
    identity: Identity,
    channel: SealedChannel,
    answer: Callable[[VerifyQuery], Finding],
) -> VerifyAnswer | Declined:
    """Give the reply to a question, where the caller received it; see :func:`provider_verify`."""
    try:
        return answer_verification(
            request, institution=institution, identity=identity, channel=channel, answer=answer
        )
    except PeerProtocolError:
        raise
    except FedCreditError as error:
        return Declined.of(request.digest, identity.name, error)
