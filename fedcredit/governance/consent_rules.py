"""When a consent covers a question, and how it stands in a party's database."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from fedcredit.errors import Refusal
from fedcredit.governance.consent_token import Consent, scope_of
from fedcredit.governance.keys import RegisteredKey
from fedcredit.governance.tokens import (
    CLOCK_SKEW,
    CONSENT,
    SignedToken,
    check_signature,
    token_digest,
)

__all__ = [
    "CheckedConsents",
    "ConsentRecord",
    "Standing",
    "State",
    "check_signer",
    "digest_of",
    "digests_of",
    "is_reference",
    "judge",
    "owns",
    "record_of",
    "repeated_request",
    "row_of",
    "standing_of",
]

_REFERENCE: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MARK: Final = "sha256:"
_DIGEST_BYTES: Final = 32

State = Literal["valid", "not yet", "expired", "used", "revoked", "key revoked"]


class Standing(NamedTuple):
    """A consent as the rules see it, whether it is registered or comes with the question."""

    id: int | None
    jti: str
    digest: bytes
    subject: str
    institution: str
    purpose: str
    scope: frozenset[str] | str
    not_before: float
    expires: float
    max_uses: int
    used: int
    key_status: str | None
    revoked: float | None


@dataclass(frozen=True)
class ConsentRecord:
    """A registered consent and what became of it.

    Attributes
    ----------
    subject, institution, purpose : str
    scope : tuple of str
    jti, kid : str
    digest : bytes
    not_before, expires, registered : float
    max_uses, used : int
    revoked : float or None
        When its withdrawal arrived.
    state : {"valid", "not yet", "expired", "used", "revoked", "key revoked"}
    """

    subject: str = field(repr=False)
    institution: str
    purpose: str
    scope: tuple[str, ...]
    jti: str
    kid: str
    digest: bytes
    not_before: float
    expires: float
    registered: float
    max_uses: int
    used: int
    revoked: float | None
    state: State


@dataclass(frozen=True)
class CheckedConsents:
    """Consents that cover a question, in the order of its subjects, not used yet.

    Attributes
    ----------
    ids : tuple of int
        Of those that are registered, in any order.
    digests : tuple of bytes
        SHA-256 of each token.
    institution : str
    request : bytes
    fresh : tuple
        Those that are to be registered.
    """

    ids: tuple[int, ...] = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)
    institution: str
    request: bytes = field(repr=False)
    fresh: tuple[tuple[Consent, str], ...] = field(repr=False)


def standing_of(consent: Consent, revoked: float | None) -> Standing:
    """Return how a consent stands that comes with the question."""
    return Standing(
        id=None,
        jti=consent.id,
        digest=consent.digest,
        subject=consent.subject,
        institution=consent.institution,
        purpose=consent.purpose,
        scope=frozenset(consent.scope),
        not_before=consent.not_before,
        expires=consent.expires,
        max_uses=consent.max_uses,
        used=0,
        key_status="active",
        revoked=revoked,
    )


def judge(
    standing: Standing,
    subject: str,
    institution: str,
    purpose: str,
    needed: frozenset[str],
    now: float,
    *,
    repeated: bool,
) -> None:
    """Hold one consent to the question; whose it is comes first, so that others learn no more.

    ``consent_statements.COVERING`` says the same in SQL for thousands at once: what is added
    here belongs there.
    """
    if standing.subject != subject:
        CONSENT.refuse("is another enterprise's", "consent_subject")
    if standing.institution != institution:
        CONSENT.refuse("is given to another institution", "consent_audience")
    if standing.key_status is None or standing.key_status == "revoked":
        CONSENT.refuse("is signed by a key that was revoked", "consent_key")
    if standing.revoked is not None:
        CONSENT.refuse("was withdrawn by its subject", "consent_revoked")
    if now >= standing.expires + CLOCK_SKEW:
        CONSENT.refuse("has expired", "consent_expired")
    if now < standing.not_before - CLOCK_SKEW:
        CONSENT.refuse("is not valid yet", "consent_not_yet", "wait, or set the clock")
    if standing.purpose != purpose:
        CONSENT.refuse("is for another purpose", "consent_purpose")
    scope = standing.scope if isinstance(standing.scope, frozenset) else scope_of(standing.scope)
    if not needed <= scope:
        CONSENT.refuse("does not cover what is asked", "consent_scope")
    if repeated:
        raise repeated_request()
    if standing.used >= standing.max_uses:
        CONSENT.refuse("is used up", "consent_used")


def repeated_request() -> Refusal:
    """Make the refusal of a request that came before."""
    return Refusal(
        "the same request came before.",
        code="request_repeated",
        step="consent",
        fix="ask anew; every request carries a nonce of its own",
    )


def check_signer(
    signed: SignedToken, consent: Consent, key: RegisteredKey | None, now: float
) -> None:
    """Check that a key of the subject signed, and that it still counts (see keys)."""
    if key is None or not owns(key, consent.subject) or not key.accepts(consent.issued, now):
        CONSENT.refuse(
            "is not signed by a key that counts for its subject",
            CONSENT.key,
            "register the enterprise's key, or let it sign with the present one",
        )
    check_signature(signed, key.public_key)


def owns(key: RegisteredKey, subject: str) -> bool:
    """Tell whether a key is an enterprise's."""
    return key.owner_kind == "subject" and key.owner == subject


def row_of(consent: Consent, now: float) -> dict[str, Any]:
    """Return the row in which a consent is registered."""
    return {
        "jti": consent.id,
        "digest": consent.digest,
        "subject": consent.subject,
        "institution": consent.institution,
        "purpose": consent.purpose,
        "scope": json.dumps(sorted(consent.scope), separators=(",", ":")),
        "kid": consent.kid,
        # One number decides from when on it may be used.
        "not_before": max(consent.issued, consent.not_before),
        "expires": consent.expires,
        "max_uses": consent.max_uses,
        "used": 0,
        "registered": now,
    }


def record_of(row: Any, now: float) -> ConsentRecord:
    """Read a row of the listing."""
    state: State = "valid"
    if row.key_status is None or row.key_status == "revoked":
        state = "key revoked"
    elif row.time is not None:
        state = "revoked"
    elif now >= row.expires + CLOCK_SKEW:
        state = "expired"
    elif row.used >= row.max_uses:
        state = "used"
    elif now < row.not_before - CLOCK_SKEW:
        state = "not yet"
    return ConsentRecord(
        subject=row.subject,
        institution=row.institution,
        purpose=row.purpose,
        scope=tuple(json.loads(row.scope)),
        jti=row.jti.partition(".")[2],
        kid=row.kid,
        digest=bytes(row.digest),
        not_before=row.not_before,
        expires=row.expires,
        registered=row.registered,
        max_uses=row.max_uses,
        used=row.used,
        revoked=row.time,
        state=state,
    )


def is_reference(consent: str) -> bool:
    """Tell whether a text refers to a registered consent."""
    return _REFERENCE.fullmatch(consent) is not None


def digests_of(consents: Sequence[str]) -> tuple[bytes, ...]:
    """Return the digests of consents, each a token or a reference to a registered one.

    Raises
    ------
    Refusal
        ``consent_missing``.
    """
    # References alone are thousands: they are read as one text, and have to be its one spelling.
    if consents and all(isinstance(text, str) and text.startswith(_MARK) for text in consents):
        joined = "\n".join(consents)
        try:
            data = bytes.fromhex(joined.replace(_MARK, ""))
        except ValueError:
            data = b""
        places = range(0, len(data), _DIGEST_BYTES)
        spelled = _MARK + data.hex("\n", _DIGEST_BYTES).replace("\n", f"\n{_MARK}")
        # Two references could stand in one text, on two lines.
        if spelled == joined and len(places) == len(consents):
            return tuple([data[at : at + _DIGEST_BYTES] for at in places])
    return tuple(digest_of(consent) for consent in consents)


def digest_of(consent: str, *, references: bool = True) -> bytes:
    """Return the digest of one consent; without ``references`` it is a token in any case."""
    if not isinstance(consent, str) or not consent:
        CONSENT.refuse("is missing", "consent_missing")
    if references and _REFERENCE.fullmatch(consent):
        return bytes.fromhex(consent[7:])
    return token_digest(consent)
