"""What an enterprise's consent says: the claims of a consent token.

A consent is a JWT with ``typ`` ``fedcredit-consent+jwt`` (see :mod:`fedcredit.governance.tokens`
for its form) and exactly these claims:

========== =======================================================================================
iss, sub   the enterprise's USCC, twice the same: only it can consent
aud        the institution that may ask
iat        when it was signed
nbf, exp   from when until when it may be used; ``exp - iat`` is limited by every party
jti        128 random bits in hexadecimal
purpose    one of :data:`~fedcredit.governance.question.PURPOSES`
scope      list of ``score:<model>@<version>``, ``verify:<provider>.<predicate>`` and ``reasons``
max_uses   for how many requests it may be used, at each party
========== =======================================================================================
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from fedcredit.governance.question import PURPOSES
from fedcredit.governance.tokens import (
    CLOCK_SKEW,
    CONSENT,
    SignedToken,
    check_id,
    check_subject,
    check_time,
    read_token,
)

__all__ = [
    "MAX_USES",
    "MAX_VALIDITY_DAYS",
    "Consent",
    "check_times",
    "consent_of",
    "parse_consent",
    "scope_needed",
    "scope_of",
]

MAX_VALIDITY_DAYS: Final = 400
MAX_USES: Final = 1_000_000
MAX_SCOPE: Final = 32
_DAY: Final = 86_400

_INSTITUTION: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_SCOPE: Final = re.compile(
    r"reasons"
    r"|score:[a-z0-9][a-z0-9_.-]{0,99}@[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}"
    r"|verify:[a-z0-9][a-z0-9_-]{0,62}\.[a-z0-9][a-z0-9_.-]{0,99}"
)


@dataclass(frozen=True)
class Consent:
    """A consent whose claims have been checked; its signature is checked where it is presented.

    Attributes
    ----------
    subject : str
        USCC.
    institution, purpose : str
    scope : tuple of str
    jti : str
        The enterprise's id of it.
    issued, not_before, expires : int
        Seconds since the epoch.
    max_uses : int
    kid : str
        The key that signed.
    digest : bytes
        SHA-256 of the token.
    """

    subject: str = field(repr=False)
    institution: str
    purpose: str
    scope: tuple[str, ...]
    jti: str
    issued: int
    not_before: int
    expires: int
    max_uses: int
    kid: str
    digest: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The id by which parties keep it: nobody can occupy another enterprise's ids."""
        return f"{self.subject}.{self.jti}"

    @property
    def reference(self) -> str:
        """What stands in a question instead of the token, once it is registered."""
        return f"sha256:{self.digest.hex()}"


def parse_consent(text: str, *, max_validity_days: float = MAX_VALIDITY_DAYS) -> Consent:
    """Read a consent without checking its signature, as its holder may.

    Raises
    ------
    Refusal
        ``consent_malformed``.
    """
    return consent_of(read_token(text, CONSENT), max_validity_days=max_validity_days)


def consent_of(token: SignedToken, *, max_validity_days: float = MAX_VALIDITY_DAYS) -> Consent:
    """Check the claims of a consent token: types, forms, lengths and times that contradict.

    Parameters
    ----------
    token : SignedToken
    max_validity_days : float
        Longest time from signing to expiry.

    Returns
    -------
    Consent

    Raises
    ------
    Refusal
        ``consent_malformed``.
    """
    claims = token.claims
    issued, start, end = (check_time(token, name) for name in ("iat", "nbf", "exp"))
    if end <= start or start < issued - CLOCK_SKEW:
        CONSENT.refuse("expires before it starts, or starts before it is signed")
    if end - issued > max_validity_days * _DAY:
        CONSENT.refuse(
            "is valid for too long", fix=f"grant it for at most {max_validity_days:g} days"
        )
    institution, purpose, uses = claims["aud"], claims["purpose"], claims["max_uses"]
    if not isinstance(institution, str) or not _INSTITUTION.fullmatch(institution):
        CONSENT.refuse("is not for one institution")
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        CONSENT.refuse("names no purpose that the service is for")
    if type(uses) is not int or not 1 <= uses <= MAX_USES:
        CONSENT.refuse("has a number of uses out of range")
    return Consent(
        subject=check_subject(token),
        institution=institution,
        purpose=purpose,
        scope=_check_scope(claims["scope"]),
        jti=check_id(token),
        issued=issued,
        not_before=start,
        expires=end,
        max_uses=uses,
        kid=token.kid,
        digest=token.digest,
    )


def check_times(consent: Consent, now: float, *, started: bool = True) -> None:
    """Check a consent's times against the clock, with a tolerance of :data:`CLOCK_SKEW`.

    Parameters
    ----------
    consent : Consent
    now : float
    started : bool
        Whether it must be usable already, or may be registered ahead.

    Raises
    ------
    Refusal
        ``consent_expired`` or ``consent_not_yet``.
    """
    if now >= consent.expires + CLOCK_SKEW:
        CONSENT.refuse("has expired", "consent_expired")
    if now < (max(consent.issued, consent.not_before) if started else consent.issued) - CLOCK_SKEW:
        CONSENT.refuse("is not valid yet", "consent_not_yet", "wait, or set the clock")


def scope_needed(use: str, target: str, reasons: bool) -> frozenset[str]:
    """Return what a consent's scope must hold for a question.

    Parameters
    ----------
    use : {"score", "verify"}
    target : str
        ``name@version`` or ``provider.predicate``.
    reasons : bool
    """
    needed = {f"{use}:{target}"}
    return frozenset(needed | {"reasons"} if reasons else needed)


@functools.lru_cache(maxsize=4096)
def scope_of(stored: str) -> frozenset[str]:
    """Read a scope as it stands in the database: a JSON list."""
    return frozenset(json.loads(stored))


def _check_scope(scope: Any) -> tuple[str, ...]:
    if not isinstance(scope, list) or not 1 <= len(scope) <= MAX_SCOPE:
        CONSENT.refuse("has no scope, or too long a one")
    for item in scope:
        if not isinstance(item, str) or not _SCOPE.fullmatch(item):
            CONSENT.refuse("has something else than models, predicates or reasons in its scope")
    if len(set(scope)) != len(scope):
        CONSENT.refuse("repeats itself in its scope")
    return tuple(scope)
