"""What a party does with a question that was asked of it: gate, look-up, own part, statement.

One desk serves all sessions of a party. The order is fixed: what the request names is looked up
and checked in form, then the gate decides and logs, and only then anything of an enterprise is
computed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedcredit.errors import FedCreditError, Refusal
from fedcredit.governance.gate import Admitted, Gate
from fedcredit.governance.question import Question
from fedcredit.models.scoring.notes import PrivateNote
from fedcredit.models.scoring.receipts import consents_digest, sign_statement
from fedcredit.models.scoring.served import (
    LinearPart,
    Part,
    ServedModel,
    load_part,
    read_served,
)
from fedcredit.models.scoring.subjects import SubjectIndex, check_normalised
from fedcredit.models.scoring.trees import ServedTrees
from fedcredit.protocols.reasons import add_up
from fedcredit.protocols.scoring_messages import ScoreRequest
from fedcredit.wire import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcredit.models.store import Store

__all__ = ["MAX_SERVICE_REASONS", "Desk", "Prepared"]

#: Reasons per enterprise, as adverse-action notices name them.
MAX_SERVICE_REASONS = 4
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A party's share of an answer before it is masked and encrypted.

    Attributes
    ----------
    header : ServedModel
    values : ndarray of int64, shape (n,), or None
        Addends in fixed point, of a linear model.
    reach : ndarray of bool, shape (n, T, L), or None
        Leaves that the own splits leave reachable, of a forest.
    part : Part
    note : PrivateNote
        For the institution alone.
    """

    header: ServedModel
    part: Part = field(repr=False)
    admitted: Admitted
    note: PrivateNote = field(repr=False)
    values: Integers | None = field(default=None, repr=False)
    reach: npt.NDArray[np.bool_] | None = field(default=None, repr=False)


def _by_label(names: Sequence[str], labels: Sequence[str]) -> Sequence[str]:
    return labels


class Desk:
    """Answers for one party; safe to share between the threads of its sessions.

    Parameters
    ----------
    party : str
    store : Store
        Holds the served models.
    index : SubjectIndex
    gate : Gate
    signer : Identity
        Signs statements with the party's node key.
    as_of : str
        Date of the data, ISO 8601.
    call : callable, optional
        Given columns and their labels, what each is called in reasons; the label by default.
    """

    def __init__(
        self,
        party: str,
        store: Store,
        index: SubjectIndex,
        gate: Gate,
        signer: Identity,
        *,
        as_of: str = "",
        call: Callable[[Sequence[str], Sequence[str]], Sequence[str]] | None = None,
    ) -> None:
        self.party, self.gate, self.signer, self.index = party, gate, signer, index
        self.as_of = as_of
        self._call = call if call is not None else _by_label
        self.store = store
        self._lock = threading.Lock()
        self._void: set[tuple[str, bytes]] = set()
        self._parts: dict[str, Part] = {}
        self._rows: dict[str, npt.NDArray[Any]] = {}

    def __repr__(self) -> str:
        return f"Desk({self.party!r})"

    # ----------------------------------------------------------------------------- scores

    def score(
        self,
        *,
        institution: str,
        target: str,
        purpose: str,
        subjects: Sequence[str],
        consents: Sequence[str],
        request: bytes,
        reasons: int,
        participants: Sequence[str],
        platform: str,
        own_features: bool,
    ) -> Prepared:
        """Pass a request for scores through the gate and compute this party's part.

        Raises
        ------
        Refusal
            A rule does not allow it.
        """
        asked = {
            "institution": institution,
            "purpose": purpose,
            "use": "score",
            "target": target,
            "subjects": tuple(subjects),
            "consents": tuple(consents),
            "request": request,
            "reasons": reasons > 0,
        }
        try:
            check_normalised(subjects, id_kind=self.index.id_kind, party=self.party)
            header = read_served(self.store, target, party=self.party)
            # Fewer parties, or more, would give differences of scores: one party's part.
            if (platform, *participants) != header.parties:
                raise Refusal(
                    "a model is scored by all of its parties, and by no others.",
                    code="request_invalid",
                    step="served model",
                    fix=f"ask {', '.join(header.parties)}",
                )
            if own_features != bool(header.own_features):
                raise Refusal(
                    "the request and the model differ in features of the institution's own.",
                    code="request_invalid",
                    step="served model",
                    fix="see own_features of the model's header",
                )
            if purpose not in header.purposes:
                raise Refusal(
                    "the model is not served for this purpose.",
                    code="purpose_denied",
                    step="served model",
                    fix=f"it is served for {', '.join(header.purposes)}",
                )
            if not 0 <= reasons <= MAX_SERVICE_REASONS or (reasons and header.kind != "card"):
                raise Refusal(
                    f"reasons are given for scorecards, at most {MAX_SERVICE_REASONS}.",
                    code="request_invalid",
                    step="reason codes",
                    fix="ask for fewer reasons, or for none",
                )
            part = self._part(header)
            self.index.require(part.fields)
        except FedCreditError as error:
            raise self.refused(asked, error) from None
        question = Question(fields=part.fields, **asked)  # type: ignore[arg-type]
        admitted = self._admit(question)
        rows = self.index.rows(subjects)
        self.gate.unknown(institution, int((rows < 0).sum()))
        note = PrivateNote(
            self.as_of, np.flatnonzero(rows < 0), self._reasons(part, rows, reasons, header)
        )
        mine = self._everybody(header, part)[rows]
        if isinstance(part, ServedTrees):
            return Prepared(header, part, admitted, note, reach=part.reach_of(mine))
        return Prepared(header, part, admitted, note, values=mine)

    def _admit(self, question: Question) -> Admitted:
        # One lock with void(): a request is either admitted or void, never both.
        with self._lock:
            if (question.institution, question.request) not in self._void:
                return self.gate.admit(question)
        refusal = Refusal(
            "the request was called void.", code="request_repeated", party=self.party, step="score"
        )
        self.gate.refuse(question, refusal)
        raise refusal

    def refused(self, asked: Mapping[str, Any], error: FedCreditError) -> Refusal:
        """Log a refusal that no rule of the gate decided, and return it."""
        error.at(party=self.party)
        refusal = (
            error
            if isinstance(error, Refusal)
            else Refusal(
                error.reason,
                code="request_invalid",
                party=error.party,
                step=error.step,
                fix=error.fix,
            )
        )
        try:
            question = Question(fields=(), **asked)
        except Refusal as malformed:
            # Nothing in it can be trusted to be what it says; that it came is logged.
            self.gate.note(
                "refusal", {"outcome": malformed.code, "institution": str(asked["institution"])}
            )
            return malformed.at(party=self.party)  # type: ignore[return-value]
        self.gate.refuse(question, refusal)
        return refusal

    def _part(self, header: ServedModel) -> Part:
        """Return this party's part of a model; kept by digest."""
        with self._lock:
            if header.digest not in self._parts:
                self._parts[header.digest] = load_part(self.store, header, party=self.party)
            return self._parts[header.digest]

    def _everybody(self, header: ServedModel, part: Part) -> npt.NDArray[Any]:
        """Return what a part needs of all rows of the table, made at the first admitted request.

        Addends of a sum, bins of a forest. The last row is that of an enterprise without a
        record, which has number -1.
        """
        with self._lock:
            if header.digest not in self._rows:
                frame = self.index.everybody(part.fields)
                self._rows[header.digest] = (
                    part.values(frame) if isinstance(part, LinearPart) else part.binned(frame)
                )
            return self._rows[header.digest]

    def _reasons(
        self, part: Part, rows: Integers, n: int, header: ServedModel
    ) -> tuple[tuple[tuple[str, int], ...], ...]:
        if not n or not isinstance(part, LinearPart):
            return ()
        losses = part.losses(self.index.frame(rows, part.fields))
        labels, losses = add_up(losses, self._call(part.fields, part.labels))
        step = header.points["pdo"] / 2.0
        out = []
        for row in losses:
            order = np.argsort(-row, kind="stable")[:n]
            out.append(
                tuple((labels[j], int(min(3, np.ceil(row[j] / step)))) for j in order if row[j] > 0)
            )
        return tuple(out)

    # ----------------------------------------------------------- answers that were not given

    def declined_elsewhere(self, request: ScoreRequest, digest: bytes) -> None:
        """Log, at the platform, a request that a participant declined."""
        refusal = Refusal(
            "a participant declined.", code="declined_elsewhere", party=self.party, step="score"
        )
        asked = {
            "institution": request.institution,
            "purpose": request.purpose,
            "use": "score",
            "target": request.target,
            "subjects": request.subjects,
            "consents": request.consents,
            "request": digest,
        }
        with contextlib.suppress(Refusal):
            self.refused(asked, refusal)

    def void(self, institution: str, request: bytes) -> bool:
        """Say, at the platform, that a request was not answered; it will not be any more.

        Returns
        -------
        bool
            False if it was answered.
        """
        with self._lock:
            if self.gate.was_admitted(institution, request):
                return False
            self._void.add((institution, request))
            return True

    # ------------------------------------------------------------------------- statements

    def seal_sums(self, request: bytes, result: bytes) -> bytes:
        """Sign, at the platform, which sums went out as the answer to a request."""
        return sign_statement(
            self.signer,
            {"party": self.party, "request": request.hex(), "result": result.hex()},
        )

    def statement(
        self,
        prepared: Prepared,
        *,
        institution: str,
        purpose: str,
        request: bytes,
        n: int,
        **more: Any,
    ) -> bytes:
        """Sign what this party did; ``more`` has the digests of what it gave."""
        return sign_statement(
            self.signer,
            {
                "party": self.party,
                "institution": institution,
                "purpose": purpose,
                "target": prepared.header.target,
                "model": prepared.header.digest,
                "request": request.hex(),
                "subjects": n,
                "consents": consents_digest(prepared.admitted.consents),
                "as_of": self.as_of,
                "entry": prepared.admitted.entry,
                "time": int(prepared.admitted.time),
                "header": prepared.header.header_digest,
                **more,
            },
        )
