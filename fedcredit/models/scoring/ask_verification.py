"""The institution's side of one verification, and what it keeps of it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import InputError
from fedcredit.governance.declaration import Declaration
from fedcredit.protocols.scoring_keys import ServiceKeys
from fedcredit.protocols.verification import (
    DeclaredValue,
    PairChannel,
    VerificationAnswer,
    VerifyQuestion,
    institution_verify,
)
from fedcredit.wire import Peer

__all__ = ["VerificationResult", "ask_verification"]

_STEP = "verify"


@dataclass(frozen=True)
class VerificationResult:
    """A provider's signed answer to a yes-or-no question about one enterprise.

    Attributes
    ----------
    subject : str
    provider : str
    predicate : str
        ``provider.id``.
    text : str
        The question in words, as the provider's catalog puts it.
    outcome : {"yes", "no", "no_record"}
    as_of : str
        Date of the provider's data.
    answer : VerificationAnswer
        With the signed statement, and what opens it for an auditor.
    certificate : bytes
        Of the provider's signing key (DER); empty in simulations.
    """

    subject: str = field(repr=False)
    provider: str
    predicate: str
    text: str
    outcome: str = field(repr=False)
    as_of: str
    answer: VerificationAnswer = field(repr=False)
    certificate: bytes = field(default=b"", repr=False)

    def __bool__(self) -> bool:
        return self.outcome == "yes"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with everything that an auditor needs to check them."""
        answer = self.answer

        def text(data: bytes) -> str:
            return base64.b64encode(data).decode("ascii")

        return {
            "subject": self.subject,
            "provider": self.provider,
            "predicate": self.predicate,
            "text": self.text,
            "outcome": self.outcome,
            "as_of": self.as_of,
            "evidence": {
                "statement": text(answer.statement),
                "signature": text(answer.signature),
                "salt": text(answer.salt),
                "response": text(answer.response),
                "opening": text(answer.opening),
                "certificate": text(self.certificate),
            },
        }

    def to_json(self) -> str:
        """Return :meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)


async def ask_verification(
    peer: Peer,
    keys: ServiceKeys,
    *,
    institution: str,
    subject: str,
    consent: str,
    predicate: str,
    threshold: float | str | None,
    declared: Any,
    field: str,
    tolerance: int | None,
    purpose: str,
    now: float,
    key: Ed25519PublicKey,
    certificate: bytes,
) -> VerificationResult:
    """Ask a provider one question in an open session; see :meth:`.Institution.verify`."""
    target = f"{peer.name}.{predicate}"
    arguments: dict[str, Any] = {}
    if threshold is not None:
        arguments["threshold"] = threshold
    if tolerance is not None:
        arguments["tolerance"] = tolerance
    answer = await institution_verify(
        peer,
        PairChannel(keys, peer.name),
        VerifyQuestion(
            target=target,
            arguments=arguments,
            purpose=purpose,
            subject=subject,
            consent=consent,
            time=int(now),
            declared=_declared(declared, field),
        ),
        institution=institution,
        provider_key=key,
    )
    stated = answer.stated
    return VerificationResult(
        subject=subject,
        provider=peer.name,
        predicate=target,
        text=stated.text,
        outcome=answer.outcome,
        as_of=stated.as_of,
        answer=answer,
        certificate=certificate,
    )


def _declared(value: Any, field: str) -> DeclaredValue | None:
    if value is None or isinstance(value, DeclaredValue):
        return value
    if isinstance(value, Declaration):
        opening = value.opening(field or value.openings[0].field)
        return DeclaredValue(opening.steps, value.token, opening.blinding)
    if isinstance(value, int) and not isinstance(value, bool):
        return DeclaredValue(value)
    raise InputError(
        "a declared value is a Declaration, a DeclaredValue or a whole number of steps.",
        step=_STEP,
        fix="hand over what Enterprise.declare returned",
    )
