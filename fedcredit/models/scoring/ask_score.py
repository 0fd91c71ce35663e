"""The institution's side of one request for scores: ask, check, decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import InputError, PeerProtocolError, Refusal
from fedcredit.governance.consent_rules import digest_of
from fedcredit.models.columns import ColumnCoder, to_pandas
from fedcredit.models.scoring.answering import MAX_REPEATS
from fedcredit.models.scoring.notes import PrivateNote
from fedcredit.models.scoring.receipts import PartStatement, Receipt, consents_digest
from fedcredit.models.scoring.results import ScoreBatch
from fedcredit.models.scoring.served import ServedModel
from fedcredit.models.scoring.service_messages import UsesReturned, VoidRequest
from fedcredit.protocols.scoring import (
    InstitutionSide,
    RoundAnswer,
    institution_round,
    new_request,
)
from fedcredit.protocols.scoring_messages import ScoreRequest, request_digest
from fedcredit.protocols.tree_words import read_words, unpack_rows
from fedcredit.stats.bin_rules import BinRule
from fedcredit.wire import Peers

__all__ = ["ask_scores", "give_back", "own_matrix"]

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
    table = pd.DataFrame(own) if isinstance(own, Mapping) else own
    frame = to_pandas(table, party="institution") if own is not None else None
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


async def give_back(
    peers: Peers, platform: str, participants: tuple[str, ...], request: bytes
) -> int:
    """Have consents given back that a request used without being answered.

    Parameters
    ----------
    peers : Peers
        The platform and the participants that are there.
    platform : str
    participants : tuple of str
        Of the request; those that are away keep what was used.
    request : bytes
        Its digest.

    Returns
    -------
    int
        Uses that were returned, over all participants; 0 if the platform did answer.
    """
    here = tuple(name for name in participants if name in peers)
    message = VoidRequest(request, here)
    for name in (*here, platform):
        await peers[name].send(message)
    return sum([(await peers[name].recv(UsesReturned)).consents for name in here])


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
    on_request: Callable[[bytes], None],
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
    digest = request_digest(request)
    on_request(digest)
    try:
        answer = await institution_round(peers, side, request, sent)
    except Refusal:
        await give_back(peers, header.platform, header.providers, digest)
        raise
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
    _check_statements(answer, header, receipt, request, digest, keys)
    values, ok = _values(header, answer, len(subjects))
    for attempt in range(1, MAX_REPEATS + 1):
        if ok.all():
            break
        # Once in some ten thousand rows a slot has a zero tag by chance.
        again = await institution_round(peers, side, request, attempt=attempt)
        more, readable = _values(header, again, len(subjects))
        values, ok = np.where(ok, values, more), ok | readable
    if not ok.all():
        raise PeerProtocolError(
            f"the parts of {int((~ok).sum())} scores do not belong together.",
            step=_STEP,
            fix="ask again; if it stays so, compare the receipts with the parties' logs",
        )
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


def _values(
    header: ServedModel, answer: RoundAnswer, n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the scores in fixed point, and which of a forest's could be read."""
    if header.kind != "trees":
        if answer.words.shape != (1, n):
            raise PeerProtocolError(
                "the answer has another shape.", party=header.platform, step=_STEP
            )
        return answer.values(), np.ones(n, np.bool_)
    words = unpack_rows(answer.words, n, header.trees, header.leaves)
    return read_words(words, header.trees, header.leaves)


def _check_statements(
    answer: RoundAnswer,
    header: ServedModel,
    receipt: Receipt,
    request: ScoreRequest,
    digest: bytes,
    keys: Mapping[str, Ed25519PublicKey],
) -> None:
    """Hold every statement to this request, this model and what its party really sent."""
    consents = consents_digest([digest_of(consent) for consent in request.consents])
    # Before the statements are held to each other, so that an error names who is wrong.
    for party, data in answer.receipts.items():
        PartStatement.read(data, party=party).expect(
            party,
            party=party,
            institution=request.institution,
            purpose=request.purpose,
            request=digest.hex(),
            subjects=len(request.subjects),
            consents=consents,
            payload=answer.payloads[party].hex(),
        )
    receipt.verify(keys)
    platform = header.platform
    seal = PartStatement.read(answer.seal, party=platform)
    seal.expect(platform, party=platform, result=answer.result.hex())
