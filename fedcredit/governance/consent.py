"""The consents that one party has seen: checked before any computation, used up, withdrawn.

Every function takes part in a transaction of the caller, so that a use, the budget that it costs
and the log entry that it leaves stand or fall together. Transactions of one ledger are serialised;
beyond that the database itself holds a consent to its uses (a conditional update) and a request to
one use of it (a primary key), whatever else writes to it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from fedcredit.errors import Refusal
from fedcredit.governance.consent_rules import (
    ConsentRecord,
    Standing,
    State,
    check_signer,
    judge,
    owns,
    record_of,
    repeated,
    row_of,
    standing_of,
)
from fedcredit.governance.consent_token import (
    MAX_VALIDITY_DAYS,
    Consent,
    check_times,
    consent_of,
    parse_consent,
    scope_needed,
)
from fedcredit.governance.keys import KeyRegistry
from fedcredit.governance.question import Question
from fedcredit.governance.schema import CONSENT_USES, CONSENTS, KEYS, REVOCATIONS
from fedcredit.governance.tokens import (
    CLOCK_SKEW,
    CONSENT,
    REVOCATION,
    SignedToken,
    check_id,
    check_signature,
    check_subject,
    check_time,
    read_token,
    token_digest,
)

__all__ = ["CheckedConsents", "Consent", "ConsentBook", "ConsentRecord", "State", "parse_consent"]

_REFERENCE: Final = re.compile(r"sha256:[0-9a-f]{64}")
#: Items of one IN list: SQLite takes 32,766 variables, PostgreSQL 65,535.
_BATCH: Final = 4096


#: Registered consents by digest, in the order of :class:`Standing`; built once, as it is long.
_STANDINGS: Final = (
    sa.select(
        *(CONSENTS.c[name] for name in Standing._fields[:10]),
        *(KEYS.c.status, REVOCATIONS.c.time, CONSENT_USES.c.time),
    )
    .select_from(
        CONSENTS.outerjoin(KEYS, KEYS.c.kid == CONSENTS.c.kid)
        .outerjoin(REVOCATIONS, REVOCATIONS.c.jti == CONSENTS.c.jti)
        .outerjoin(
            CONSENT_USES,
            sa.and_(
                CONSENT_USES.c.jti == CONSENTS.c.jti,
                CONSENT_USES.c.request == sa.bindparam("request"),
            ),
        )
    )
    .where(CONSENTS.c.digest.in_(sa.bindparam("digests", expanding=True)))
)


@dataclass(frozen=True)
class CheckedConsents:
    """Consents that cover a question, in the order of its subjects, not used yet.

    Attributes
    ----------
    ids : tuple of str
    digests : tuple of bytes
        SHA-256 of each token.
    request : bytes
    """

    ids: tuple[str, ...] = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)
    request: bytes = field(repr=False)
    fresh: tuple[tuple[Consent, str], ...] = field(repr=False)


class ConsentBook:
    """Checks, uses and withdraws consents at one party.

    Parameters
    ----------
    keys : KeyRegistry
    party : str
        Named in errors.
    max_validity_days : float
        Longest time from signing to expiry that is accepted.
    """

    def __init__(
        self, keys: KeyRegistry, party: str, *, max_validity_days: float = MAX_VALIDITY_DAYS
    ) -> None:
        self._keys, self._party, self._max_days = keys, party, max_validity_days

    def __repr__(self) -> str:
        return f"ConsentBook(party={self._party!r})"

    def admit(self, tx: sa.Connection, question: Question, now: float) -> tuple[bytes, ...]:
        """Check and use the consents of a question.

        Returns
        -------
        tuple of bytes
            SHA-256 of each token, in the order of the subjects.

        Raises
        ------
        Refusal
            As :meth:`check` and :meth:`consume`.
        """
        checked = self.check(
            tx,
            institution=question.institution,
            purpose=question.purpose,
            use=question.use,
            target=question.target,
            subjects=question.subjects,
            consents=question.consents,
            reasons=question.reasons,
            request=question.request,
            now=now,
        )
        self.consume(tx, checked, now)
        return checked.digests

    def check(
        self,
        tx: sa.Connection,
        *,
        institution: str,
        purpose: str,
        use: str,
        target: str,
        subjects: Sequence[str],
        consents: Sequence[str],
        request: bytes,
        now: float,
        reasons: bool = False,
    ) -> CheckedConsents:
        """Check that every subject consents to a question; nothing is written.

        Parameters
        ----------
        tx : Connection
        institution, purpose, use, target : str
            What is asked, as in :class:`~fedcredit.governance.question.Question`.
        subjects : sequence of str
            Normalised USCCs.
        consents : sequence of str
            Of each subject the token, or ``sha256:<hex>`` of a registered one.
        request : bytes
        now : float
        reasons : bool

        Returns
        -------
        CheckedConsents

        Raises
        ------
        Refusal
            With the code of the first consent that does not do: ``consent_missing``,
            ``_malformed``, ``_signature``, ``_key``, ``_subject``, ``_audience``, ``_revoked``,
            ``_expired``, ``_not_yet``, ``_purpose``, ``_scope``, ``_used``; or
            ``request_repeated``.
        """
        if len(consents) != len(subjects):
            CONSENT.refuse("of a subject is missing", "consent_missing")
        digests = [_digest(consent) for consent in consents]
        found = self._registered(tx, digests, request)
        fresh = {
            digest: text
            for digest, text in zip(digests, consents, strict=True)
            if digest not in found and not _REFERENCE.fullmatch(text)
        }
        verified: tuple[tuple[Consent, str], ...] = ()
        if fresh:
            verified = self._verify(tx, fresh, now, digests)
            known = self._withdrawn(tx, [consent.id for consent, _ in verified])
            found.update(
                (consent.digest, standing_of(consent, known.get(consent.id)))
                for consent, _ in verified
            )
        needed = scope_needed(use, target, reasons)
        ids: list[str] = []
        with self._placing(len(digests), lambda: len(ids)):
            for subject, digest in zip(subjects, digests, strict=True):
                standing = found.get(digest)
                if standing is None:
                    CONSENT.refuse("is not registered here", "consent_missing", "send the token")
                judge(standing, subject, institution, purpose, needed, now)
                ids.append(standing.jti)
        return CheckedConsents(tuple(ids), tuple(digests), request, verified)

    def consume(self, tx: sa.Connection, checked: CheckedConsents, now: float) -> None:
        """Register what is new and use every consent once, for the request, or none.

        Raises
        ------
        Refusal
            ``consent_used`` or ``request_repeated``: another transaction came first. The caller's
            transaction must then be rolled back.
        """
        if checked.fresh:
            self._register(tx, checked.fresh, now)
        # In the order of the index, which makes the insertion cheaper.
        ids = sorted(checked.ids)
        try:
            tx.execute(
                sa.insert(CONSENT_USES),
                [{"jti": one, "request": checked.request, "time": now} for one in ids],
            )
        except IntegrityError:
            raise repeated() from None
        done = tx.execute(
            sa.update(CONSENTS)
            .where(CONSENTS.c.jti.in_(ids), CONSENTS.c.used < CONSENTS.c.max_uses)
            .values(used=CONSENTS.c.used + 1)
        ).rowcount
        if done != len(ids):
            CONSENT.refuse("is used up", "consent_used")

    def present(self, tx: sa.Connection, tokens: Sequence[str], now: float) -> tuple[bytes, ...]:
        """Check consents and register them for questions to come; also ones that start later.

        Parameters
        ----------
        tx : Connection
        tokens : sequence of str
            Presenting one again changes nothing.
        now : float

        Returns
        -------
        tuple of bytes
            SHA-256 of each token: a question refers to it as ``sha256:<hex>``.

        Raises
        ------
        Refusal
            The first one that does not check; the caller's transaction must then be rolled back.
        """
        digests = tuple(_digest(text, references=False) for text in tokens)
        for start in range(0, len(tokens), _BATCH):
            part = dict(zip(digests[start : start + _BATCH], tokens[start:], strict=False))
            query = sa.select(CONSENTS.c.digest).where(CONSENTS.c.digest.in_(list(part)))
            for row in tx.execute(query):
                del part[bytes(row.digest)]
            verified = self._verify(tx, part, now, digests, started=False)
            if self._withdrawn(tx, [consent.id for consent, _ in verified]):
                CONSENT.refuse("was withdrawn by its subject", "consent_revoked")
            self._register(tx, verified, now)
        return digests

    def revoke(self, tx: sa.Connection, token: str, now: float) -> str:
        """Withdraw a consent on its subject's signed word, effective at once.

        Consents that were never presented here can be withdrawn as well. Repeating a revocation
        changes nothing.

        Parameters
        ----------
        tx : Connection
        token : str
            A revocation token, from any key of the subject that is not revoked.
        now : float

        Returns
        -------
        str
            The id (``jti``) of the consent.

        Raises
        ------
        Refusal
            ``consent_malformed``, ``consent_signature``, ``consent_key`` or ``consent_not_yet``.
        """
        signed = read_token(token, REVOCATION)
        subject, jti = check_subject(signed), check_id(signed)
        issued = check_time(signed, "iat")
        key = self._keys.find(signed.kid, tx)
        if key is None or key.status == "revoked" or not owns(key, subject):
            REVOCATION.refuse("is not signed by a key of its subject", REVOCATION.key)
        check_signature(signed, key.public_key)
        if now < issued - CLOCK_SKEW:
            REVOCATION.refuse("is dated in the future", "consent_not_yet", "set the clock")
        one = f"{subject}.{jti}"
        if not self._withdrawn(tx, [one]):
            row = {"jti": one, "subject": subject, "time": now, "token": token}
            tx.execute(sa.insert(REVOCATIONS), [row])
        return jti

    def listing(
        self,
        tx: sa.Connection,
        now: float,
        *,
        subject: str | None = None,
        institution: str | None = None,
        jti: str | None = None,
    ) -> tuple[ConsentRecord, ...]:
        """Return the registered consents of a subject, an institution or all, oldest first."""
        query = sa.select(
            CONSENTS, KEYS.c.status.label("key_status"), REVOCATIONS.c.time
        ).select_from(
            CONSENTS.outerjoin(KEYS, KEYS.c.kid == CONSENTS.c.kid).outerjoin(
                REVOCATIONS, REVOCATIONS.c.jti == CONSENTS.c.jti
            )
        )
        if subject is not None:
            query = query.where(CONSENTS.c.subject == subject)
        if institution is not None:
            query = query.where(CONSENTS.c.institution == institution)
        rows = tx.execute(query.order_by(CONSENTS.c.registered, CONSENTS.c.jti))
        records = (record_of(row, now) for row in rows)
        return tuple(record for record in records if jti is None or record.jti == jti)

    def withdrawn(self, tx: sa.Connection, subject: str, jti: str) -> float | None:
        """Return when a consent's withdrawal arrived, be the consent known or not, or None."""
        one = f"{subject}.{jti}"
        return self._withdrawn(tx, [one]).get(one)

    def _registered(
        self, tx: sa.Connection, digests: Iterable[bytes], request: bytes
    ) -> dict[bytes, Standing]:
        wanted = list(set(digests))
        found: dict[bytes, Standing] = {}
        for start in range(0, len(wanted), _BATCH):
            part = {"digests": wanted[start : start + _BATCH], "request": request}
            found.update(
                (row[1], Standing._make(row)) for row in tx.execute(_STANDINGS, part).all()
            )
        return found

    def _verify(
        self,
        tx: sa.Connection,
        tokens: Mapping[bytes, str],
        now: float,
        order: Sequence[bytes],
        *,
        started: bool = True,
    ) -> tuple[tuple[Consent, str], ...]:
        """Check new consents: form, claims, key, signature and times; ``order`` is for errors."""
        read: list[tuple[SignedToken, Consent]] = []
        digests, signers = list(tokens), 0
        with self._placing(len(order), lambda: order.index(digests[len(read)])):
            for text in tokens.values():
                signed = read_token(text, CONSENT)
                read.append((signed, consent_of(signed, max_validity_days=self._max_days)))
        keys = self._keys.find_many([signed.kid for signed, _ in read], tx)
        with self._placing(len(order), lambda: order.index(digests[signers])):
            for signed, consent in read:
                check_signer(signed, consent, keys.get(signed.kid), now)
                check_times(consent, now, started=started)
                signers += 1
        ids = [consent.id for _, consent in read]
        if len(set(ids)) != len(ids) or self._occupied(tx, ids):
            CONSENT.refuse("has the id of another one")
        return tuple((consent, signed.text) for signed, consent in read)

    def _occupied(self, tx: sa.Connection, ids: Sequence[str]) -> bool:
        query = sa.select(CONSENTS.c.jti).where(CONSENTS.c.jti.in_(ids)).limit(1)
        return tx.execute(query).first() is not None

    def _withdrawn(self, tx: sa.Connection, ids: Sequence[str]) -> dict[str, float]:
        query = sa.select(REVOCATIONS.c.jti, REVOCATIONS.c.time).where(REVOCATIONS.c.jti.in_(ids))
        return {row.jti: row.time for row in tx.execute(query)}

    def _register(
        self, tx: sa.Connection, verified: Sequence[tuple[Consent, str]], now: float
    ) -> None:
        if not verified:
            return
        rows = [row_of(consent, text, now) for consent, text in verified]
        try:
            tx.execute(sa.insert(CONSENTS), rows)
        except IntegrityError:
            CONSENT.refuse("has the id of another one")

    @contextlib.contextmanager
    def _placing(self, total: int, place: Callable[[], int]) -> Iterator[None]:
        """Say in a refusal which consent it is, by its place: ids and subjects stay out."""
        try:
            yield
        except Refusal as refusal:
            if total > 1:
                refusal.reason = f"{refusal.reason[:-1]} (number {place() + 1} of {total})."
            refusal.at(party=self._party)
            raise


def _digest(consent: str, *, references: bool = True) -> bytes:
    if not isinstance(consent, str) or not consent:
        CONSENT.refuse("is missing", "consent_missing")
    if references and _REFERENCE.fullmatch(consent):
        return bytes.fromhex(consent[7:])
    return token_digest(consent)
