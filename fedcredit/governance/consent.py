"""The consents that one party has seen: checked before any computation, used up, withdrawn.

Every function takes part in a transaction of the caller, so that a use, the budget that it costs
and the log entry that it leaves stand or fall together. Transactions of one ledger are serialised;
beyond that the database itself holds a consent to its uses (a conditional update) and a request to
one answer (a primary key), whatever else writes to it.

Thousands of registered consents are held to the rules by one statement. Where that finds that not
all of them do, or where tokens come with the question, each is judged by itself, which also tells
the reason of a refusal.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from fedcredit.errors import Refusal
from fedcredit.governance.consent_rules import (
    CheckedConsents,
    ConsentRecord,
    Standing,
    State,
    check_signer,
    digest_of,
    digests_of,
    is_reference,
    judge,
    owns,
    record_of,
    repeated_request,
    row_of,
    standing_of,
)
from fedcredit.governance.consent_statements import (
    ADD_CONSENT,
    ADD_REQUEST,
    ADD_TOKEN,
    CAME_BEFORE,
    COVERING,
    DROP_REQUEST,
    GIVE_BACK,
    IDS,
    STANDINGS,
    USE,
    WITHDRAWN,
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
from fedcredit.governance.schema import CONSENTS, KEYS, REVOCATIONS
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
)

__all__ = ["CheckedConsents", "Consent", "ConsentBook", "ConsentRecord", "State", "parse_consent"]

#: Items of one list.
_BATCH: Final = 4096


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
            ``request_repeated`` (which :meth:`consume` finds as well).
        """
        if len(consents) != len(subjects):
            CONSENT.refuse("of a subject is missing", "consent_missing")
        needed = scope_needed(use, target, reasons)
        digests = digests_of(consents)
        ids = self._covered(
            tx, subjects, digests, sorted(needed), institution=institution, purpose=purpose, now=now
        )
        if len(ids) == len(digests):
            return CheckedConsents(ids, digests, institution, request, ())
        found = self._registered(tx, digests)
        fresh = {
            digest: text
            for digest, text in zip(digests, consents, strict=True)
            if digest not in found and not is_reference(text)
        }
        verified: tuple[tuple[Consent, str], ...] = ()
        if fresh:
            verified = self._verify(tx, fresh, now, digests)
            known = self._withdrawn(tx, [consent.id for consent, _ in verified])
            found.update(
                (consent.digest, standing_of(consent, known.get(consent.id)))
                for consent, _ in verified
            )
        again = CAME_BEFORE(tx, institution=institution, request=request).first() is not None
        judged = 0
        with self._placing(len(digests), lambda: judged):
            for subject, digest in zip(subjects, digests, strict=True):
                standing = found.get(digest)
                if standing is None:
                    CONSENT.refuse("is not registered here", "consent_missing", "send the token")
                judge(standing, subject, institution, purpose, needed, now, repeated=again)
                judged += 1
        registered = tuple(one.id for one in found.values() if one.id is not None)
        return CheckedConsents(registered, digests, institution, request, verified)

    def _covered(
        self,
        tx: sa.Connection,
        subjects: Sequence[str],
        digests: Sequence[bytes],
        needed: Sequence[str],
        **question: Any,
    ) -> tuple[int, ...]:
        """Return the ids of the registered consents that cover the question, all at once."""
        if len(needed) > 2 or not digests:
            return ()
        # A scope stands as a JSON list of words without quotes in them.
        words = [json.dumps(word) for word in (*needed, *needed)]
        rows = COVERING(
            tx,
            {"asked": {"digest": digests, "subject": subjects}},
            needed=words[0],
            needed_too=words[1],
            **question,
        ).all()
        return tuple([number for (number,) in rows if number is not None])

    def consume(self, tx: sa.Connection, checked: CheckedConsents, now: float) -> None:
        """Register what is new and use every consent once, for the request, or none.

        Raises
        ------
        Refusal
            ``consent_used`` or ``request_repeated``: another transaction came first. The caller's
            transaction must then be rolled back.
        """
        ids = list(checked.ids)
        if checked.fresh:
            self._register(tx, checked.fresh, now)
            new = {"asked": {"value": [consent.id for consent, _ in checked.fresh]}}
            ids += [number for (number,) in IDS(tx, new).all()]
        try:
            ADD_REQUEST(tx, institution=checked.institution, request=checked.request, time=now)
        except IntegrityError:
            raise repeated_request() from None
        # In the order of the rows. One that is used up meanwhile is missing in the count.
        if USE(tx, {"asked": {"value": sorted(ids)}}).rowcount != len(checked.digests):
            CONSENT.refuse("is used up", "consent_used")

    def was_used(self, tx: sa.Connection, institution: str, request: bytes) -> bool:
        """Whether consents were used for a request, and not given back."""
        return CAME_BEFORE(tx, institution=institution, request=request).first() is not None

    def give_back(
        self, tx: sa.Connection, institution: str, request: bytes, digests: Sequence[bytes]
    ) -> int:
        """Undo the uses of a request that was not answered and will not be.

        Parameters
        ----------
        tx : Connection
        institution : str
        request : bytes
        digests : sequence of bytes
            SHA-256 of the consents that it used.

        Returns
        -------
        int
            Uses that were given back; 0 if the request used none, or gave them back before.
        """
        gone = DROP_REQUEST(tx, institution=institution, request=request).rowcount
        if not gone or not digests:
            return 0
        GIVE_BACK(tx, {"asked": {"value": digests}})
        return len(digests)

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
        digests = tuple(digest_of(text, references=False) for text in tokens)
        for start in range(0, len(tokens), _BATCH):
            part = dict(zip(digests[start : start + _BATCH], tokens[start:], strict=False))
            for digest in self._registered(tx, list(part)):
                del part[digest]
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

    def _registered(self, tx: sa.Connection, digests: Sequence[bytes]) -> dict[bytes, Standing]:
        rows = STANDINGS(tx, {"asked": {"digest": digests}}).all()
        return {row.digest: row for row in map(Standing._make, rows)}

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
        return bool(ids) and IDS(tx, {"asked": {"value": ids}}).first() is not None

    def _withdrawn(self, tx: sa.Connection, ids: Sequence[str]) -> dict[str, float]:
        if not ids:
            return {}
        return {row.jti: row.time for row in WITHDRAWN(tx, {"asked": {"value": ids}})}

    def _register(
        self, tx: sa.Connection, verified: Sequence[tuple[Consent, str]], now: float
    ) -> None:
        if not verified:
            return
        try:
            ADD_CONSENT.many(tx, [row_of(consent, now) for consent, _ in verified])
        except IntegrityError:
            CONSENT.refuse("has the id of another one")
        texts = [{"digest": consent.digest, "token": text} for consent, text in verified]
        ADD_TOKEN.many(tx, texts)

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
