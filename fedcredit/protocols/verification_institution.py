"""The institution's side of :mod:`fedcredit.protocols.verification`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import Certificate

from fedcredit.crypto import elgamal, pedersen, sigma
from fedcredit.errors import CiphertextError, InputError, PeerProtocolError, ProtocolError, Refusal
from fedcredit.protocols.verification_messages import (
    NONCE_BYTES,
    SealedChannel,
    VerifyAnswer,
    VerifyQuery,
    VerifyRequest,
    answer_label,
    blame,
    canonical_arguments,
    pack,
    request_label,
    unpack,
)
from fedcredit.protocols.verification_statement import (
    SALT_BYTES,
    Outcome,
    Statement,
    prove_opening,
    response_digest,
    subject_commitment,
    verify_statement,
)

__all__ = ["DeclaredValue", "PendingVerification", "VerificationAnswer", "VerifyQuestion"]

_STEP = "verify"
_PARTS = 4  # statement, signature, salt, response
_NO_PROOF_YET = bytes(sigma.EQUAL_PROOF_BYTES)


@dataclass(frozen=True, repr=False)
class DeclaredValue:
    """A value that the enterprise declared to the institution.

    Attributes
    ----------
    value : int
        In steps of the predicate's resolution.
    declaration : str
        The enterprise's signed credit commitment; empty for a value that the institution types,
        which most providers refuse.
    blinding : bytes
        With the value it opens the commitment, 32 bytes; empty without a declaration.
    """

    value: int
    declaration: str = ""
    blinding: bytes = b""

    def __post_init__(self) -> None:
        if bool(self.declaration) != bool(self.blinding):
            raise InputError(
                "a declaration and its opening go together.",
                step=_STEP,
                fix="hand over both parts of what the enterprise declared",
            )

    def __repr__(self) -> str:
        return "DeclaredValue()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("the opening of a commitment is never pickled")


@dataclass(frozen=True)
class VerifyQuestion:
    """What the institution wants to know.

    Attributes
    ----------
    target : str
        The predicate as ``provider.id``.
    arguments : mapping
        E.g. ``{"threshold": 500000}``, or ``{"tolerance": 5}`` for a declared value.
    purpose : str
        One of the purposes of :mod:`fedcredit.governance.question`.
    subject : str
        Normalised USCC.
    consent : str
        A compact token, or ``sha256:<hex>`` of one that was presented before.
    time : int
        Seconds since the epoch (UTC).
    declared : DeclaredValue or None
    """

    target: str
    arguments: Mapping[str, Any]
    purpose: str
    subject: str = field(repr=False)
    consent: str = field(repr=False)
    time: int
    declared: DeclaredValue | None = field(default=None, repr=False)


@dataclass(frozen=True)
class VerificationAnswer:
    """What the institution keeps of one question.

    Attributes
    ----------
    outcome : {"yes", "no", "no_record"}
        Of the predicate, or whether the declared value matches.
    statement, signature : bytes
        What the provider signed; for :func:`.verification_statement.open_statement`.
    salt : bytes
        Opens the statement's commitment to the enterprise, 32 bytes.
    response, opening : bytes
        Of a declared value: ciphertexts and the proof of how they decrypt; otherwise empty.
    digest : bytes
        Of the request, 32 bytes.
    """

    outcome: Outcome = field(repr=False)
    statement: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    response: bytes = field(repr=False)
    opening: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @property
    def stated(self) -> Statement:
        """The statement, read; its signature was checked when it came."""
        return Statement.from_bytes(self.statement)


class PendingVerification:
    """A question on its way; holds the key of a declared value until the answer is read.

    Parameters
    ----------
    question : VerifyQuestion
    institution, provider : str
        Who asks whom.
    channel : SealedChannel
        Between the two.

    Attributes
    ----------
    provider : str
    request : VerifyRequest
        To be sent once.

    Raises
    ------
    Refusal
        ``request_invalid``: the question is malformed.
    InputError
        The declared value and blinding do not fit, or the consent is too long.
    """

    def __init__(
        self, question: VerifyQuestion, *, institution: str, provider: str, channel: SealedChannel
    ) -> None:
        self.provider = provider
        self._channel = channel
        self._key: elgamal.DecryptionKey | None = None
        self._query = self._ask(question, institution, provider)
        digest = self._query.digest
        sealed = channel.seal(pack([self._query.to_bytes()]), request_label(digest))
        self.request = VerifyRequest(question.target, question.purpose, digest, sealed)

    def __repr__(self) -> str:
        return f"PendingVerification({self._query.target!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pending question holds a key and is never pickled")

    def _ask(self, question: VerifyQuestion, institution: str, provider: str) -> VerifyQuery:
        common: dict[str, Any] = {
            "institution": institution,
            "provider": provider,
            "target": question.target,
            "arguments": canonical_arguments(question.arguments),
            "purpose": question.purpose,
            "subject": question.subject,
            "consent": question.consent,
            "nonce": os.urandom(NONCE_BYTES),
            "time": question.time,
        }
        declared = question.declared
        if declared is None:
            return VerifyQuery(**common)
        self._key = key = elgamal.DecryptionKey.generate()
        ciphertext, randomness = elgamal.encrypt(key.public, declared.value)
        query = VerifyQuery(
            **common,
            declaration=declared.declaration,
            key=key.public,
            ciphertext=ciphertext.to_bytes(),
            proof=_NO_PROOF_YET if declared.declaration else b"",
        )
        if not declared.declaration:
            return query
        commitment = pedersen.commit(declared.value, declared.blinding)
        return query.with_proof(
            sigma.prove_equal(
                key.public,
                ciphertext,
                randomness,
                commitment,
                declared.value,
                declared.blinding,
                query.proof_context,
            )
        )

    def read(
        self, answer: VerifyAnswer, provider_key: Ed25519PublicKey | Certificate
    ) -> VerificationAnswer:
        """Open the answer, check that it is one to this question, and forget the key.

        Parameters
        ----------
        answer : VerifyAnswer
        provider_key : Ed25519PublicKey or Certificate

        Raises
        ------
        PeerProtocolError
            The answer is malformed or belongs to another question, enterprise or institution.
        AuthenticationError
            The provider's signature does not check.
        ProtocolError
            The answer to a declared value was read before.
        """
        query, key = self._query, self._key
        if query.declared and key is None:
            raise ProtocolError("the answer was read before, and the key is gone.", step=_STEP)
        if answer.digest != query.digest:
            raise _foreign("is to another question", query)
        plain = self._channel.open(answer.sealed, answer_label(query.digest))
        try:
            statement, signature, salt, response = unpack(plain, _PARTS)
        except Refusal as refusal:
            raise blame(refusal, query.provider) from None
        stated = verify_statement(statement, signature, provider_key)
        self._check(stated, salt, response)
        self._key = None
        outcome: Outcome = stated.answer or "no_record"
        opening = b""
        if key is not None and stated.declared is not None and not stated.declared.no_record:
            try:
                outcome = "yes" if key.finds_zero(elgamal.split(response)) else "no"
                opening = prove_opening(key, statement, response)
            except CiphertextError:
                raise _foreign("holds what is no ciphertext", query) from None
        return VerificationAnswer(
            outcome, statement, signature, salt, response, opening, query.digest
        )

    def _check(self, stated: Statement, salt: bytes, response: bytes) -> None:
        query = self._query
        if (stated.provider, stated.institution) != (query.provider, query.institution):
            raise _foreign("is another provider's or for another institution", query)
        if stated.request != query.digest.hex():
            raise _foreign("is to another question", query)
        asked = (query.purpose, query.target, query.arguments)
        if (stated.purpose, stated.predicate, stated.arguments) != asked:
            raise _foreign("states another predicate, arguments or purpose", query)
        if len(salt) != SALT_BYTES or subject_commitment(query.subject, salt) != stated.subject:
            raise _foreign("is about another enterprise", query)
        declared = stated.declared
        if (declared is not None) != query.declared:
            raise _foreign("is of another kind than the question", query)
        if declared is None:
            if response:
                raise _foreign("holds a response that was not asked for", query)
            return
        size = (2 * declared.tolerance + 1) * elgamal.CIPHERTEXT_BYTES
        if (
            declared.key != query.key.hex()
            or bool(declared.declaration) != bool(query.declaration)
            or declared.tolerance != query.parsed_arguments.get("tolerance", declared.tolerance)
            or declared.response != response_digest(response)
            or len(response) != size
        ):
            raise _foreign("compares something else than what was asked", query)


def _foreign(why: str, query: VerifyQuery) -> PeerProtocolError:
    return PeerProtocolError(
        f"the answer {why}.",
        party=query.provider,
        step=_STEP,
        fix="drop the answer and report it to the provider",
    )
