"""What an institution holds after a request for scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.models.scoring.notes import PrivateNote
from fedcredit.models.scoring.receipts import Receipt
from fedcredit.models.scoring.served import ServedModel

__all__ = ["Reason", "ScoreBatch", "ScoreResult"]

_SEVERITY = ("", "some", "much", "most")


@dataclass(frozen=True)
class Reason:
    """What costs an enterprise points: a feature, a group of them, or a party.

    ``severity`` is 1 to 3: up to half a doubling of the odds, up to one, more.
    """

    party: str
    label: str
    severity: int

    def __str__(self) -> str:
        name = self.party if self.label == self.party else f"{self.party}.{self.label}"
        return f"{name} ({_SEVERITY[self.severity]})"


@dataclass(frozen=True)
class ScoreResult:
    """The score of one enterprise.

    Attributes
    ----------
    subject : str
        Its unified social credit code.
    score : float
        Points of a scorecard, log-odds, or the raw score of a forest; see ``model``.
    band : str
        Name of the band; empty if the model has none.
    model : str
        ``name@version``.
    digest : str
        Of the model, hexadecimal.
    as_of : dict of party to str
        Date of each party's data.
    no_record : tuple of str
        Parties that have no record of the enterprise; what is missing counted as missing.
    fallback : bool
        Whether this is another model than was asked for, because ``missing`` parties were away.
    missing : tuple of str
    reasons : tuple of Reason
        Largest losses first; empty unless asked for.
    receipt : Receipt
        Signed by every party; shared by all results of a batch.
    """

    subject: str = field(repr=False)
    score: float = field(repr=False)
    band: str
    model: str
    digest: str = field(repr=False)
    as_of: Mapping[str, str]
    no_record: tuple[str, ...]
    fallback: bool
    missing: tuple[str, ...]
    reasons: tuple[Reason, ...] = field(repr=False)
    receipt: Receipt = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the receipt."""
        return {
            "subject": self.subject,
            "score": self.score,
            "band": self.band,
            "model": self.model,
            "digest": self.digest,
            "as_of": dict(self.as_of),
            "no_record": list(self.no_record),
            "fallback": self.fallback,
            "missing": list(self.missing),
            "reasons": [
                {"party": r.party, "label": r.label, "severity": r.severity} for r in self.reasons
            ],
        }


class ScoreBatch(Sequence[ScoreResult]):
    """The scores of several enterprises, in the order in which they were asked about.

    Attributes
    ----------
    subjects : tuple of str
    scores : ndarray of float64, shape (n,)
    header : ServedModel
        The model that was used.
    receipt : Receipt
    """

    def __init__(
        self,
        subjects: tuple[str, ...],
        scores: npt.NDArray[np.float64],
        header: ServedModel,
        notes: Mapping[str, PrivateNote],
        receipt: Receipt,
        *,
        missing: tuple[str, ...] = (),
        fallback: bool = False,
    ) -> None:
        self.subjects, self.scores, self.header, self.receipt = subjects, scores, header, receipt
        self.missing, self.fallback = missing, fallback
        self._notes = dict(notes)
        self._gone = {party: set(note.no_record.tolist()) for party, note in notes.items()}

    def __repr__(self) -> str:
        return f"ScoreBatch({len(self)} scores, {self.header.target!r})"

    def __len__(self) -> int:
        return len(self.subjects)

    def __iter__(self) -> Iterator[ScoreResult]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        score = float(self.scores[i])
        reasons = [
            Reason(party, label, severity)
            for party, note in self._notes.items()
            if note.reasons
            for label, severity in note.reasons[i]
        ]
        return ScoreResult(
            subject=self.subjects[i],
            score=score,
            band=self.header.band_of(score),
            model=self.header.target,
            digest=self.header.digest,
            as_of={party: note.as_of for party, note in self._notes.items()},
            no_record=tuple(party for party, gone in self._gone.items() if i in gone),
            fallback=self.fallback,
            missing=self.missing,
            reasons=tuple(sorted(reasons, key=lambda r: -r.severity)),
            receipt=self.receipt,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one line per enterprise: subject, score, band, no_record, fallback."""
        return pd.DataFrame(
            {
                "subject": self.subjects,
                "score": self.scores,
                "band": [self.header.band_of(score) for score in self.scores.tolist()],
                "no_record": [
                    ",".join(party for party, gone in self._gone.items() if i in gone)
                    for i in range(len(self))
                ],
                "fallback": self.fallback,
            }
        )

    def to_json(self) -> str:
        """Return all results as JSON."""
        return json.dumps([result.to_dict() for result in self], indent=1)
