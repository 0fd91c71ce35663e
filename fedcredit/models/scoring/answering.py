"""One party's answers to the requests for scores of one session: from a request to words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encscore import encode_parts, encode_values
from fedcredit.models.scoring.desk import Desk, Prepared
from fedcredit.models.scoring.served import LinearPart
from fedcredit.models.scoring.trees import ServedTrees
from fedcredit.protocols.scoring import PartySide, WordsAndNotes
from fedcredit.protocols.scoring_messages import ScoreRepeat, ScoreRequest, request_digest
from fedcredit.protocols.tree_words import pack_rows, party_words, platform_words

__all__ = ["MAX_REPEATS", "Answering"]

#: How often a forest's answer may be asked for again, because a tag was zero by chance.
MAX_REPEATS = 3


@dataclass
class _Last:
    """The last request for a forest's scores that was admitted, and how often it was repeated."""

    request: ScoreRequest
    digest: bytes
    prepared: Prepared
    repeats: int = 0


class Answering:
    """Turns requests of one session into words.

    Parameters
    ----------
    desk : Desk
    side : PartySide
        Of the session.
    is_platform : bool
    """

    def __init__(self, desk: Desk, side: PartySide, *, is_platform: bool) -> None:
        self._desk, self._side, self._is_platform = desk, side, is_platform
        self._last: _Last | None = None

    def __repr__(self) -> str:
        return f"Answering({self._desk.party!r})"

    def words(self, request: ScoreRequest, digest: bytes) -> WordsAndNotes:
        """Pass a request through the gate and compute this party's words.

        Raises
        ------
        Refusal
            A rule does not allow it.
        """
        self._last = None
        prepared = self._desk.score(
            institution=request.institution,
            target=request.target,
            purpose=request.purpose,
            subjects=request.subjects,
            consents=request.consents,
            request=digest,
            reasons=request.reasons,
            participants=request.participants,
            platform=self._side.keys.platform,
            own_features=bool(request.own),
        )
        if prepared.reach is not None:
            self._last = _Last(request, digest, prepared)
        return self._given(request, digest, digest, prepared)

    def repeated(self, message: ScoreRepeat) -> ScoreRequest | None:
        """Return the request that shall be masked again; None if that is not to be had.

        The question was admitted and logged; its answer is the same sum under other masks.
        """
        last = self._last
        if last is None or message.request != last.digest:
            return None
        if message.attempt != last.repeats + 1 or message.attempt > MAX_REPEATS:
            return None
        last.repeats += 1
        return last.request

    def words_again(self, request: ScoreRequest, digest: bytes) -> WordsAndNotes:
        """Compute the words of the last request under the digest of a repetition."""
        assert self._last is not None
        return self._given(request, request_digest(request), digest, self._last.prepared)

    def _given(
        self, request: ScoreRequest, named: bytes, digest: bytes, prepared: Prepared
    ) -> WordsAndNotes:
        desk, n = self._desk, len(request.subjects)

        def receipt(payload: bytes) -> bytes:
            return desk.statement(
                prepared,
                institution=request.institution,
                purpose=request.purpose,
                request=named,
                n=n,
                payload=payload.hex(),
            )

        weights = None
        if self._is_platform and request.own:
            assert isinstance(prepared.part, LinearPart)
            weights = prepared.part.supplied_weights()
        return WordsAndNotes(
            words=self._encoded(prepared, digest),
            note=prepared.note.pack(n),
            receipt=receipt,
            metadata=prepared.header.to_json().encode() if self._is_platform else b"",
            own_weights=weights,
        )

    def _encoded(self, prepared: Prepared, digest: bytes) -> npt.NDArray[np.uint64]:
        if prepared.reach is None:
            assert prepared.values is not None
            encode = encode_values if self._is_platform else encode_parts
            return encode(prepared.values)[None, :]
        seed = self._side.keys.request_seed(digest)
        if self._is_platform:
            assert isinstance(prepared.part, ServedTrees)
            words = platform_words(prepared.reach, prepared.part.leaves, seed)
        else:
            words = party_words(prepared.reach, seed)
        return pack_rows(words, prepared.header.trees, prepared.header.leaves)
