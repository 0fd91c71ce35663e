"""A provider's part in verifications: what its gate, its catalog and its record say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcredit.errors import FedCreditError, Refusal
from fedcredit.governance.declaration import verify_declaration
from fedcredit.governance.question import Question
from fedcredit.models.scoring.subjects import check_normalised
from fedcredit.protocols.verification import (
    DeclaredFinding,
    Finding,
    MenuFinding,
    check_committed,
)

if TYPE_CHECKING:
    from fedcredit.governance.predicates import Predicate
    from fedcredit.models.scoring.desk import Desk
    from fedcredit.protocols.verification_messages import VerifyQuery

__all__ = ["finding_of"]

_STEP = "verify"
_ARGUMENTS = {"threshold", "tolerance"}


def finding_of(desk: Desk, query: VerifyQuery) -> Finding:
    """Pass a question through the gate and look the record up.

    Parameters
    ----------
    desk : Desk
        Of the provider.
    query : VerifyQuery
        As its protocol opened it.

    Returns
    -------
    Finding

    Raises
    ------
    Refusal
        A rule does not allow it; logged.
    """
    asked: dict[str, Any] = {
        "institution": query.institution,
        "purpose": query.purpose,
        "use": "verify",
        "target": query.target,
        "subjects": (query.subject,),
        "consents": (query.consent,),
        "request": query.digest,
    }
    try:
        check_normalised([query.subject], id_kind=desk.index.id_kind, party=desk.party)
        predicate = _predicate(desk, query)
        commitment, declaration = _declaration(desk, query, predicate)
    except FedCreditError as error:
        raise desk.refused(asked, error) from None
    detail = predicate.detail
    if query.declared:
        # Another declaration is another value to compare with, so it counts as another question.
        detail = f"{detail},declaration={declaration or query.digest.hex()[:32]}"
    question = Question(fields=predicate.fields, detail=detail, **asked)
    admitted = desk.gate.admit(question)
    rows = desk.index.rows([query.subject])
    desk.gate.unknown(query.institution, int((rows < 0).sum()))
    frame = desk.index.frame(rows, predicate.fields)
    common: dict[str, Any] = {
        "text": predicate.describe(),
        "consent": admitted.consents[0],
        "as_of": desk.as_of,
        "time": int(admitted.time),
        "entry": admitted.entry,
    }
    if query.declared:
        steps, known = predicate.steps(frame)
        return DeclaredFinding(
            value=int(steps[0]) if known[0] else None,
            tolerance=predicate.tolerance or 0,
            commitment=commitment,
            declaration=declaration,
            typed_values=False,
            **common,
        )
    return MenuFinding(holds=predicate.evaluate(frame)[0], **common)


def _predicate(desk: Desk, query: VerifyQuery) -> Predicate:
    arguments = query.parsed_arguments
    if not set(arguments) <= _ARGUMENTS:
        raise Refusal(
            "the question has arguments that no predicate has.",
            code="request_invalid",
            step=_STEP,
            fix=f"give {' or '.join(sorted(_ARGUMENTS))}",
        )
    found = desk.gate.catalog.predicate(
        query.target.partition(".")[2], purpose=query.purpose, **arguments
    )
    if (found.operator == "declared") != query.declared:
        raise Refusal(
            "the predicate compares with a declared value."
            if found.operator == "declared"
            else "the predicate does not compare with a declared value.",
            code="request_invalid",
            step=_STEP,
            fix="see the provider's menu",
        )
    return found


def _declaration(desk: Desk, query: VerifyQuery, predicate: Predicate) -> tuple[bytes, str]:
    """Return commitment and id of the declaration of a question, checked; empty without one."""
    if not query.declared:
        return b"", ""
    if query.typed:
        raise Refusal(
            "the value comes without the enterprise's signed declaration.",
            code="declaration_invalid",
            step=_STEP,
            fix="ask the enterprise to declare the value and hand over the declaration",
        )
    declared = verify_declaration(query.declaration, desk.gate.keys, desk.gate.now())
    item = declared.item(predicate.field)
    if declared.subject != query.subject or float(item.resolution) != predicate.resolution:
        raise Refusal(
            "the declaration is another enterprise's, or counts in other steps.",
            code="declaration_invalid",
            step=_STEP,
            fix=f"declare in steps of {predicate.resolution:g}",
        )
    check_committed(query, item.commitment)
    return item.commitment, declared.jti
