"""The provider's side of :mod:`fedcredit.protocols.verification`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fedcredit.crypto import elgamal, group, sigma
from fedcredit.crypto.pedersen import MAX_VALUE, MIN_VALUE
from fedcredit.errors import CryptoError, InputError, Refusal
from fedcredit.protocols.verification_messages import (
    SealedChannel,
    VerifyAnswer,
    VerifyQuery,
    VerifyRequest,
    answer_label,
    invalid,
    pack,
    request_label,
    unpack,
)
from fedcredit.protocols.verification_statement import (
    SALT_BYTES,
    DeclaredPart,
    Statement,
    response_digest,
    sign_statement,
    subject_commitment,
)
from fedcredit.wire import Identity

__all__ = [
    "DeclaredFinding",
    "Finding",
    "MenuFinding",
    "answer_verification",
    "check_committed",
]

_STEP = "verify"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the provider's gate, catalog and record say about an admitted question.

    Attributes
    ----------
    text : str
        The predicate in words, arguments filled in; at most 1000 characters.
    consent : bytes
        Hash of the consent's id, 32 bytes.
    as_of : str
        Date of the data, ``YYYY-MM-DD``.
    time : int
        When it was admitted, in seconds since the epoch (UTC).
    entry : int
        Number of the entry in the audit log; nothing is answered that is not logged.
    """

    text: str
    consent: bytes = field(repr=False)
    as_of: str
    time: int
    entry: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.text) <= 1000 or len(self.consent) != 32 or len(self.as_of) > 32:
            raise InputError("a finding's text, consent or date is out of range.", step=_STEP)


@dataclass(frozen=True, kw_only=True)
class MenuFinding(Finding):
    """A predicate of the menu: whether it holds, or None if there is no record."""

    holds: bool | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DeclaredFinding(Finding):
    """A value to compare with the declared one.

    Attributes
    ----------
    value : int or None
        The record's, in steps of the predicate's resolution; None if there is no record.
    tolerance : int
        In steps, 0 to :data:`fedcredit.crypto.elgamal.MAX_TOLERANCE`.
    commitment : bytes
        Of the declaration, whose signature, subject, field, resolution and term the caller has
        checked; empty if the question came without one.
    declaration : str
        The declaration's id.
    typed_values : bool
        Whether the catalog allows values without a declaration for this predicate.
    """

    value: int | None = field(repr=False)
    tolerance: int
    commitment: bytes = field(default=b"", repr=False)
    declaration: str = field(default="", repr=False)
    typed_values: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.commitment) != bool(self.declaration):
            raise InputError("a declaration has an id and a commitment.", step=_STEP)
        value = self.value or 0
        if not 0 <= self.tolerance <= elgamal.MAX_TOLERANCE or not (
            MIN_VALUE <= value - self.tolerance <= value + self.tolerance <= MAX_VALUE
        ):
            raise InputError("a finding's value or tolerance is out of range.", step=_STEP)


def check_committed(query: VerifyQuery, commitment: bytes, *, typed_values: bool = False) -> None:
    """Refuse a declared value unless it is proven to be the committed one, or may be typed.

    The caller of a gate does this before the gate, so that no use of a consent and no budget is
    spent on a question that cannot be answered; :func:`answer_verification` does it again.

    Parameters
    ----------
    query : VerifyQuery
        With a declared value.
    commitment : bytes
        What the declaration, checked, commits to; not looked at if there is none.
    typed_values : bool
        Whether the catalog allows values without a declaration for this predicate.

    Raises
    ------
    Refusal
        ``declaration_invalid``.
    """
    ciphertext = _declared_ciphertext(query)
    if query.typed:
        if not typed_values:
            raise Refusal(
                "the value comes without the enterprise's signed declaration.",
                code="declaration_invalid",
                step=_STEP,
                fix="ask the enterprise to declare the value and hand over the declaration",
            )
        return
    if not sigma.verify_equal(query.key, ciphertext, commitment, query.proof, query.proof_context):
        raise Refusal(
            "the encrypted value is not proven to be the one that the enterprise declared.",
            code="declaration_invalid",
            step=_STEP,
            fix="ask with the declaration and opening that the enterprise handed over",
        )


def _declared_ciphertext(query: VerifyQuery) -> elgamal.Ciphertext:
    try:
        group.check_point(query.key)
        return elgamal.Ciphertext.from_bytes(query.ciphertext)
    except CryptoError:
        invalid("the key or the encrypted value is no element of the group.")


def answer_verification(
    request: VerifyRequest,
    *,
    institution: str,
    identity: Identity,
    channel: SealedChannel,
    answer: Callable[[VerifyQuery], Finding],
) -> VerifyAnswer:
    """Answer one question, or refuse it.

    Parameters
    ----------
    request : VerifyRequest
    institution : str
        From whom it came, as the session authenticated it.
    identity : Identity
        The provider's name and signing key.
    channel : SealedChannel
        Between the two.
    answer : callable
        Admits the question and looks the record up: :class:`MenuFinding` for a predicate of the
        menu, :class:`DeclaredFinding` if ``query.declared``; raises a :class:`Refusal` otherwise.

    Returns
    -------
    VerifyAnswer

    Raises
    ------
    Refusal
        Of ``answer``, or because the request is malformed.
    PeerProtocolError
        The request does not open.
    """
    query = _opened(request, institution, identity.name, channel)
    if query.declared:
        _declared_ciphertext(query)
    finding = answer(query)
    outcome: dict[str, Any]
    response = b""
    if isinstance(finding, DeclaredFinding) and query.declared:
        response = _compared(query, finding)
        outcome = {
            "declared": DeclaredPart(
                finding.declaration,
                finding.tolerance,
                query.key.hex(),
                response_digest(response),
                finding.value is None,
            )
        }
    elif isinstance(finding, MenuFinding) and not query.declared:
        holds = finding.holds
        outcome = {"answer": "no_record" if holds is None else "yes" if holds else "no"}
    else:
        invalid("a declared value and a predicate of the menu do not go together.")
    salt = os.urandom(SALT_BYTES)
    statement, signature = sign_statement(
        identity,
        Statement(
            provider=identity.name,
            institution=institution,
            request=query.digest.hex(),
            purpose=query.purpose,
            predicate=query.target,
            text=finding.text,
            arguments=query.arguments,
            consent=finding.consent.hex(),
            subject=subject_commitment(query.subject, salt),
            as_of=finding.as_of,
            time=finding.time,
            entry=finding.entry,
            **outcome,
        ),
    )
    plain = pack([statement, signature, salt, response])
    return VerifyAnswer(query.digest, channel.seal(plain, answer_label(query.digest)))


def _opened(
    request: VerifyRequest, institution: str, provider: str, channel: SealedChannel
) -> VerifyQuery:
    # The label has the digest, so what opens was sealed for this very request.
    plain = channel.open(request.sealed, request_label(request.digest))
    (data,) = unpack(plain, 1)
    query = VerifyQuery.from_bytes(data)
    outside = (query.digest, query.target, query.purpose, query.institution, query.provider)
    if outside != (request.digest, request.target, request.purpose, institution, provider):
        invalid("what is sealed is not what stands outside, or it is for another party.")
    return query


def _compared(query: VerifyQuery, finding: DeclaredFinding) -> bytes:
    """Make the response to a declared value."""
    check_committed(query, finding.commitment, typed_values=finding.typed_values)
    asked = query.parsed_arguments.get("tolerance", finding.tolerance)
    if asked != finding.tolerance:
        invalid("its tolerance is another one.")
    ciphertext = _declared_ciphertext(query)
    try:
        if finding.value is None:
            made = elgamal.blinded_nothing(query.key, ciphertext, finding.tolerance)
        else:
            made = elgamal.blinded_candidates(
                query.key, ciphertext, finding.value, finding.tolerance
            )
    except CryptoError:
        # The ciphertext of a value below all records, as no honest institution makes one.
        invalid("the encrypted value is out of range.")
    return elgamal.join(made)
