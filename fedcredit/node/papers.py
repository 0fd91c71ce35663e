"""Offline checks of what institutions keep: receipts of scores and signed answers."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from fedcredit.errors import InputError
from fedcredit.models.scoring.receipts import PartStatement, Receipt
from fedcredit.node.certs import Trust
from fedcredit.protocols.verification_statement import Statement, open_statement

__all__ = ["check_paper"]

_STEP = "check"
_PARTS = ("statement", "signature", "response", "opening", "certificate")


def check_paper(text: bytes, ca_pem: bytes) -> dict[str, Any]:
    """Check a receipt or a signed answer against the CA of its federation.

    Parameters
    ----------
    text : bytes
        What :meth:`.Receipt.to_json` or :meth:`.VerificationResult.to_json` wrote.
    ca_pem : bytes

    Returns
    -------
    dict
        ``kind`` ("receipt" or "answer") and ``statements``: what each party has signed.

    Raises
    ------
    InputError
        It is neither.
    AuthenticationError
        A signature or certificate does not check, or was not valid when it was made.
    ConfigError
        The CA certificates cannot be read.
    """
    trust = Trust(ca_pem)
    try:
        data = json.loads(text)
        evidence = data.get("evidence")
    except (ValueError, AttributeError, RecursionError):
        raise _neither() from None
    if evidence is None:
        return _receipt(text, trust)
    try:
        parts = {name: base64.b64decode(evidence[name], validate=True) for name in _PARTS}
    except (ValueError, TypeError, KeyError):
        raise _neither() from None
    stated = Statement.from_bytes(parts["statement"])
    key = trust.verify_signing(stated.provider, parts["certificate"], now=_at(stated.time))
    statement, outcome = open_statement(
        parts["statement"],
        parts["signature"],
        key,
        response=parts["response"],
        opening=parts["opening"],
    )
    shown = {
        "institution": statement.institution,
        "predicate": statement.predicate,
        "text": statement.text,
        "outcome": outcome,
        "as_of": statement.as_of,
        "time": _at(statement.time).isoformat(),
        "entry": statement.entry,
        "request": statement.request,
        "consent": statement.consent,
    }
    return {"kind": "answer", "statements": {statement.provider: shown}}


def _receipt(text: bytes, trust: Trust) -> dict[str, Any]:
    receipt = Receipt.from_json(text)
    keys = {}
    for party, data in receipt.statements.items():
        time = PartStatement.read(data, party=party).values.get("time")
        moment = _at(time) if isinstance(time, int) else None
        certificate = receipt.certificates.get(party, b"")
        keys[party] = trust.verify_signing(party, certificate, now=moment)
    return {"kind": "receipt", "statements": receipt.verify(keys)}


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _neither() -> InputError:
    return InputError(
        "the file is neither a receipt nor a signed answer.",
        step=_STEP,
        fix="use what `fedcredit score request --receipt` or `fedcredit verify --out` wrote",
    )
