"""The institution's side of one request for scores: ask, check, decode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.models.columns import ColumnCoder, to_pandas
from fedcredit.models.scoring.notes import PrivateNote
from fedcredit.models.scoring.receipts import PartStatement, Receipt
from fedcredit.models.scoring.results import ScoreBatch
from fedcredit.models.scoring.served import ServedModel
from fedcredit.protocols.scoring import (
    InstitutionSide,
    RoundAnswer,
    institution_round,
    new_request,
)
from fedcredit.protocols.tree_words import read_words, unpack_rows
from fedcredit.stats.bin_rules import BinRule
from fedcredit.wire import Peers

__all__ = ["ask_scores", "own_matrix"]

_STEP = "score"


def own_matrix(header: ServedModel, own: Any, n: int) -> npt.NDArray[np.int64] | None:
    """Put the institution's own features into indicators of their bins.

    Parameters
    ----------
    header : ServedModel
    own : table or mapping of name to values, or None
    n : int
        Enterprises.

    Returns
    -------
    ndarray of int64, shape (n, bins of all own features), or None
        One indicator per bin; None if the model has no own features.

    Raises
    ------
    InputError
        Features are missing, or given though the model has none.
    """
    names = [feature.name for feature in header.own_features]
    if own is None and not names:
        return None
    frame = to_pandas(own, party="institution") if own is not None else None
    given = [] if frame is None else [str(column) for column in frame.columns]
    missing = sorted(set(names) - set(given))
    if missing or not names or frame is None or len(frame) != n:
        raise InputError(
            f"the model asks for the institution's own features {', '.join(names)}."
            if names
            else "the model has no features of the institution's own.",
            step=_STEP,
            fix="give a value per enterprise for each, or None where it is missing"
            if names
            else "leave own out",
        )
    parts = []
    for feature in header.own_features:
        rule = BinRule.from_dict(feature.rule)
        coder = ColumnCoder(feature.name, feature.categories)
        bins = rule.apply(coder.transform(frame, party="institution"))
        parts.append(np.eye(rule.n_bins, dtype=np.int64)[bins])
    return np.concatenate(parts, axis=1)


async def ask_scores(
    peers: Peers,
    side: InstitutionSide,
    header: ServedModel,
    *,
    subjects: tuple[str, ...],
    consents: tuple[str, ...],
    purpose: str,
    mode: str,
    reasons: int,
    own: npt.NDArray[np.int64] | None,
    now: float,
    keys: Mapping[str, Ed25519PublicKey],
    certificates: Mapping[str, bytes],
    missing: tuple[str, ...],
    fallback: bool,
) -> ScoreBatch:
    """Ask for scores in an open session and check everything that comes back.

    Raises
    ------
    Refusal
        A party declined.
    PeerProtocolError
        What came back does not fit the request.
    AuthenticationError
        A party's signature does not check.
    """
    request, sent = new_request(
        side,
        target=header.target,
        purpose=purpose,
        subjects=subjects,
        consents=consents,
        now=now,
        mode=mode,
        reasons=reasons,
        participants=header.providers,
        own=own,
    )
    answer = await institution_round(peers, side, request, sent)
    if answer.metadata != header.to_json().encode():
        raise PeerProtocolError(
            "the platform answers with another model than it announced.",
            party=header.platform,
            step=_STEP,
            fix="ask for the models again; report it to the platform",
        )
    receipt = Receipt(
        header,
        answer.receipts,
        answer.seal,
        {party: certificates[party] for party in header.parties if party in certificates},
    )
    _check_statements(answer, header, receipt, request.institution, purpose, keys, len(subjects))
    values = _values(header, answer, len(subjects))
    notes = {
        party: PrivateNote.unpack(note, len(subjects), party=party)
        for party, note in answer.notes.items()
    }
    return ScoreBatch(
        subjects,
        values / 2.0**header.scale_bits,
        header,
        notes,
        receipt,
        missing=missing,
        fallback=fallback,
    )


def _values(header: ServedModel, answer: RoundAnswer, n: int) -> npt.NDArray[np.int64]:
    if header.kind != "trees":
        if answer.words.shape != (1, n):
            raise PeerProtocolError(
                "the answer has another shape.", party=header.platform, step=_STEP
            )
        return answer.values()
    words = unpack_rows(answer.words, n, header.trees, header.leaves)
    values, ok = read_words(words, header.trees, header.leaves)
    if not ok.all():
        raise PeerProtocolError(
            f"the parts of {int((~ok).sum())} scores do not belong together.",
            step=_STEP,
            fix="ask again; if it stays so, compare the receipts with the parties' logs",
        )
    return values


def _check_statements(
    answer: RoundAnswer,
    header: ServedModel,
    receipt: Receipt,
    institution: str,
    purpose: str,
    keys: Mapping[str, Ed25519PublicKey],
    n: int,
) -> None:
    """Hold every statement to this request, this model and what its party really sent."""
    receipt.verify(keys)
    for party, data in answer.receipts.items():
        PartStatement.read(data, party=party).expect(
            party,
            party=party,
            institution=institution,
            purpose=purpose,
            request=answer.request.hex(),
            subjects=n,
            payload=answer.payloads[party].hex(),
        )
    platform = header.platform
    seal = PartStatement.read(answer.seal, party=platform)
    seal.expect(platform, party=platform, result=answer.result.hex())
