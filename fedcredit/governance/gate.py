"""The one gate in front of every answer about an enterprise.

A question passes all rules or none::

    one transaction   1 institution   onboarded, assessed, not suspended, open for the purpose
                      2 catalog       every field, for this use and purpose
                      3 consents      signature, claims, key, scope, not withdrawn; one use taken
                      4 budgets       per institution, subject, field, model; search patterns
                      5 audit log     one entry with salted commitments
                      6 usage         one row for the reports
    commit            durable before anything is computed

What is refused is rolled back as a whole, and the refusal is logged in a transaction of its own,
with the alarm and the suspension that its pattern calls for. If nothing can be logged, nothing is
answered (``log_failed``).

The rules are this party's own; every other party of the question applies its own as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from fedcredit.errors import FedCreditError, Refusal, StorageError
from fedcredit.governance import institutions, usage
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.budgets import BudgetRules, charge
from fedcredit.governance.catalog import Catalog
from fedcredit.governance.consent import ConsentBook
from fedcredit.governance.keys import KeyRegistry
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.patterns import after_refusal, note_unknown
from fedcredit.governance.question import Question

__all__ = ["Admitted", "Gate"]

_STEP = "governance"
_ADMITTED = "admitted"


@dataclass(frozen=True)
class Admitted:
    """A question that passed.

    Attributes
    ----------
    entry : int
        Its number in the audit log.
    consents : tuple of bytes
        SHA-256 of every consent, in the order of the subjects.
    time : float
        When, in seconds since the epoch.
    """

    entry: int
    consents: tuple[bytes, ...] = field(repr=False)
    time: float = 0.0


class Gate:
    """One party's rules in front of its answers; safe to share between threads.

    Parameters
    ----------
    ledger : Ledger
        The party's governance database.
    catalog : Catalog
    log : AuditLog
    budgets : BudgetRules
    party : str
    clock : callable
        Gives seconds since the epoch (UTC).

    Attributes
    ----------
    keys : KeyRegistry
    consents : ConsentBook
    """

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        log: AuditLog,
        *,
        party: str,
        clock: Callable[[], float],
        budgets: BudgetRules | None = None,
    ) -> None:
        self.ledger, self.catalog, self.log, self.party = ledger, catalog, log, party
        self.budgets = budgets if budgets is not None else BudgetRules()
        self.keys = KeyRegistry(ledger, party=party)
        self.consents = ConsentBook(self.keys, party=party)
        self._clock = clock

    def __repr__(self) -> str:
        return f"Gate({self.party!r})"

    def now(self) -> float:
        """Return the time by this gate's clock."""
        return self._clock()

    def admit(self, question: Question) -> Admitted:
        """Hold a question to every rule, and log it.

        Raises
        ------
        Refusal
            A rule does not allow it; the refusal is logged. ``log_failed`` if that, or the entry
            of the answer, cannot be written.
        """
        now = self._clock()
        try:
            with self.ledger.transaction() as tx:
                return self._admit(tx, question, now)
        except Refusal as refusal:
            refusal.at(party=self.party)
            self._refused(question, refusal, now)
            raise
        except StorageError as error:
            raise self._unlogged(error) from None

    def _admit(self, tx: sa.Connection, question: Question, now: float) -> Admitted:
        institutions.standing(tx, question.institution, question.purpose, now)
        use = "scoring" if question.use == "score" else "verification"
        self.catalog.require(use, question.fields, purpose=question.purpose)
        consents = self.consents.admit(tx, question, now)
        charge(tx, self.budgets, question, now)
        entry = self.log.append(
            tx,
            question.use,
            self._entry(question, _ADMITTED),
            subjects=question.subjects,
            consents=consents,
            now=now,
        )
        usage.record(tx, question, _ADMITTED, entry, now)
        return Admitted(entry, consents, now)

    def _entry(self, question: Question, outcome: str) -> dict[str, object]:
        return {
            "outcome": outcome,
            "institution": question.institution,
            "purpose": question.purpose,
            "target": question.target,
            "detail": question.detail,
            "fields": list(question.fields),
            "request": question.request.hex(),
            "reasons": question.reasons,
        }

    def _refused(self, question: Question, refusal: Refusal, now: float) -> None:
        try:
            with self.ledger.transaction() as tx:
                entry = self.log.append(
                    tx,
                    "refusal",
                    self._entry(question, refusal.code),
                    subjects=question.subjects,
                    now=now,
                )
                usage.record(tx, question, refusal.code, entry, now)
                after_refusal(
                    tx,
                    self.budgets,
                    question.institution,
                    refusal.code,
                    now,
                    detail=f"{question.use} {question.target}",
                )
        except StorageError as error:
            raise self._unlogged(error) from None

    def unknown(self, institution: str, number: int) -> None:
        """Count enterprises of an admitted question that this party has no record of.

        Raises
        ------
        Refusal
            ``log_failed``.
        """
        if number:
            try:
                with self.ledger.transaction() as tx:
                    note_unknown(tx, self.budgets, institution, number, self._clock())
            except StorageError as error:
                raise self._unlogged(error) from None

    def was_admitted(self, institution: str, request: bytes) -> bool:
        """Whether a request was admitted here, and its consents were not given back."""
        with self.ledger.reading() as tx:
            return self.consents.was_used(tx, institution, request)

    def give_back(self, institution: str, request: bytes) -> int:
        """Give back the consents that a request used which was not answered; logged.

        Returns
        -------
        int
            Uses that were given back.

        Raises
        ------
        Refusal
            ``log_failed``.
        """
        try:
            with self.ledger.transaction() as tx:
                digests = self.log.consents_of(tx, request.hex())
                returned = self.consents.give_back(tx, institution, request, digests)
                if returned:
                    self.log.append(
                        tx,
                        "return",
                        {
                            "outcome": "accepted",
                            "institution": institution,
                            "request": request.hex(),
                            "consents": returned,
                        },
                        now=self._clock(),
                    )
                return returned
        except StorageError as error:
            raise self._unlogged(error) from None

    def refuse(self, question: Question, refusal: Refusal) -> None:
        """Log a refusal that was decided elsewhere (an unknown model, a malformed request)."""
        refusal.at(party=self.party)
        self._refused(question, refusal, self._clock())

    def note(
        self,
        kind: str,
        facts: dict[str, object],
        *,
        subjects: Sequence[str] = (),
        record: Callable[[sa.Connection, int, float], None] | None = None,
    ) -> int:
        """Log something that is no question: a deployment, a job of the platform.

        Parameters
        ----------
        kind, facts, subjects
            See :meth:`.audit.AuditLog.append`.
        record : callable, optional
            Writes more in the same transaction, given that, the entry's number and the time.

        Returns
        -------
        int
            The entry's number.

        Raises
        ------
        Refusal
            ``log_failed``.
        """
        try:
            with self.ledger.transaction() as tx:
                now = self._clock()
                entry = self.log.append(tx, kind, facts, subjects=subjects, now=now)
                if record is not None:
                    record(tx, entry, now)
                return entry
        except StorageError as error:
            raise self._unlogged(error) from None

    def present(self, tokens: Sequence[str]) -> tuple[bytes, ...]:
        """Check and register consents ahead of the questions that will refer to them.

        Returns
        -------
        tuple of bytes
            SHA-256 of each token.

        Raises
        ------
        Refusal
            A consent does not check; none of them is registered then.
        """
        with self._logged("consents", {"consents": len(tokens)}) as (tx, now):
            return self.consents.present(tx, tokens, now)

    def withdraw(self, token: str) -> None:
        """Withdraw a consent, effective at once, on its subject's signed word.

        Raises
        ------
        Refusal
            The revocation does not check.
        """
        with self._logged("revocation", {}) as (tx, now):
            self.consents.revoke(tx, token, now)

    @contextlib.contextmanager
    def _logged(self, kind: str, facts: dict[str, object]) -> Iterator[tuple[sa.Connection, float]]:
        now = self._clock()
        try:
            with self.ledger.transaction() as tx:
                yield tx, now
                self.log.append(tx, kind, {**facts, "outcome": "accepted"}, now=now)
        except Refusal as refusal:
            refusal.at(party=self.party)
            self.note(kind, {**facts, "outcome": refusal.code})
            raise
        except StorageError as error:
            raise self._unlogged(error) from None

    def _unlogged(self, error: FedCreditError) -> Refusal:
        return Refusal(
            f"nothing is answered that cannot be logged: {error.reason}",
            code="log_failed",
            party=self.party,
            step=_STEP,
            fix=error.fix,
        )
