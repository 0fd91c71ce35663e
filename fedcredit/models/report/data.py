"""Everything a training report holds: counts, aggregates and settings; no column of rows, no id.

A report is made by :meth:`TrainingReport.build` from per-row scores and a transcript, which it
reduces to curves, tables and totals at once. So a report can be saved and rendered again without
the rows. Two things in it come from single rows: the least and greatest score of each score
group, and, if a part has no more rows than a curve has points (about 200), the order in which
events and others follow each other by score. Both stay without ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedcredit.errors import InputError
from fedcredit.models.report import document
from fedcredit.models.report.quality import ClassifierQuality, RegressorQuality, evaluate
from fedcredit.models.report.scalars import Scalar
from fedcredit.models.report.scores import Scores
from fedcredit.models.report.uplift import Uplift, measure_uplift
from fedcredit.wire import Transcript, message_class

if TYPE_CHECKING:
    from fedcredit.models.report.summary import Summary

__all__ = [
    "Importance",
    "LearningPoint",
    "PartyMatch",
    "PhaseCost",
    "PrivacySettings",
    "Provenance",
    "SplitSize",
    "TrainingReport",
    "TreeCost",
    "WireCount",
]

Task = Literal["classification", "regression"]


def _package_version() -> str:
    # Read late: the package's own names, which stand above this floor, import reports.
    from fedcredit import __version__

    return __version__


@dataclass(frozen=True)
class PartyMatch:
    """What became of one party's rows in the alignment; None where the party does not say.

    Attributes
    ----------
    party : str
    rows : int or None
        Rows of its table.
    blank, duplicate, invalid, pre_standard, unusable : int or None
        Rows whose id is blank, repeats an earlier one, fails the check digit, is of the kind in
        use before the standard, cannot be used.
    distinct : int or None
        Distinct usable ids.
    matched : int or None
        Of those, ids that all parties share.
    """

    party: str
    rows: int | None = None
    blank: int | None = None
    duplicate: int | None = None
    invalid: int | None = None
    pre_standard: int | None = None
    unusable: int | None = None
    distinct: int | None = None
    matched: int | None = None

    def __post_init__(self) -> None:
        for part, whole in (("distinct", "rows"), ("matched", "distinct")):
            few, many = getattr(self, part), getattr(self, whole)
            if few is not None and many is not None and few > many:
                raise InputError(
                    f"more {part} ids than {whole}.", party=self.party, step="report: match"
                )

    @property
    def match_rate(self) -> float | None:
        """Matched ids over distinct ids, or None."""
        if self.matched is None or not self.distinct:
            return None
        return self.matched / self.distinct


@dataclass(frozen=True)
class SplitSize:
    """Rows of one part of the aligned data, and its events (classification) if they are known."""

    name: str
    rows: int
    events: int | None = None


@dataclass(frozen=True)
class PrivacySettings:
    """How the job protected what it worked on.

    Attributes
    ----------
    hide_membership : bool
        True: providers do not see which rows share a node; False: the named opt-out *sorted*.
    quantisation : str
        Profile of the quantised gradients, for instance ``"packed, 8 + 8 bits"``.
    ciphertext : mapping of str to scalar
        Scheme and parameters, in display order.
    floors : mapping of str to int
        Least sizes that were enforced, for instance ``{"rows per bin": 10}``.
    other : mapping of str to scalar
        Anything else a reader should see.
    """

    hide_membership: bool
    quantisation: str
    ciphertext: Mapping[str, Scalar] = field(default_factory=dict)
    floors: Mapping[str, int] = field(default_factory=dict)
    other: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Importance:
    """Gain and use of one feature in the model.

    ``label`` is its name if its owner releases names, else None: then it is shown as
    ``"feature <feature>"`` with ``feature`` exactly as given.
    """

    party: str
    feature: int
    label: str | None
    gain: float
    splits: int


@dataclass(frozen=True)
class PhaseCost:
    """Wall seconds and bytes on the wire of one phase; None where bytes were not counted."""

    name: str
    seconds: float
    bytes: int | None = None


@dataclass(frozen=True)
class TreeCost:
    """Wall seconds of one tree, bytes the platform sent (up) and received (down) for it."""

    index: int
    seconds: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True)
class LearningPoint:
    """Mean loss after ``tree`` trees."""

    tree: int
    train_loss: float
    valid_loss: float | None = None


@dataclass(frozen=True)
class WireCount:
    """Messages of one kind from one party to another, and what their class says they reveal.

    ``reveals`` is None where no class of this kind is known or it does not say.
    """

    sender: str
    recipient: str
    kind: str
    messages: int
    bytes: int
    reveals: str | None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What it takes to make the same model again.

    Attributes
    ----------
    job : str
        Job id.
    created : datetime.datetime
        With time zone; given by the caller, since reports read no clock.
    fingerprint : str or None
        Hash of the model.
    seeds : mapping of str to int
        Seeds of reproducible choices (splits, sampling). Never a secret.
    package_version : str
        This package's version by default.
    environment : mapping of str to str
        Versions of what else matters.
    """

    job: str
    created: datetime
    fingerprint: str | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    package_version: str = field(default_factory=_package_version)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.created.tzinfo is None:
            raise InputError(
                "the time of creation has no time zone.",
                step="report",
                fix="pass an aware datetime, for instance datetime.now(UTC)",
            )


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """The report on the training of one joint model; make it with :meth:`build`.

    Attributes
    ----------
    model : str
        Plain name of the model, for instance ``"Vertical GBDT classifier"``.
    task : {"classification", "regression"}
    platform : str
        Party that holds the label.
    target : str
        Name of the label.
    provenance : Provenance
    title : str
    match, aligned_rows, splits
        The data; see :class:`PartyMatch` and :class:`SplitSize`.
    parameters, privacy
        Settings of the model and of its protection.
    classification, regression
        Quality of each model on each part of the data, aggregated.
    uplift : tuple of Uplift
        What the joint data were worth, metric by metric; empty without both models' scores.
    learning, loss_name
        Learning curve and the name of its loss.
    importance, phases, trees
        See :class:`Importance`, :class:`PhaseCost`, :class:`TreeCost`.
    wire : tuple of WireCount or None
        The transcript's counts; None if no transcript was kept.
    """

    model: str
    task: Task
    platform: str
    target: str
    provenance: Provenance
    title: str = "Joint model training report"
    match: tuple[PartyMatch, ...] = ()
    aligned_rows: int | None = None
    splits: tuple[SplitSize, ...] = ()
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    privacy: PrivacySettings | None = None
    classification: tuple[ClassifierQuality, ...] = ()
    regression: tuple[RegressorQuality, ...] = ()
    uplift: tuple[Uplift, ...] = ()
    learning: tuple[LearningPoint, ...] = ()
    loss_name: str = "loss"
    importance: tuple[Importance, ...] = ()
    phases: tuple[PhaseCost, ...] = ()
    trees: tuple[TreeCost, ...] = ()
    wire: tuple[WireCount, ...] | None = None

    @classmethod
    def build(
        cls,
        *,
        model: str,
        task: Task,
        platform: str,
        target: str,
        provenance: Provenance,
        scores: Sequence[Scores] = (),
        transcript: Transcript | None = None,
        resamples: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
        **parts: Any,
    ) -> TrainingReport:
        """Reduce scores and transcript to what a report holds.

        Parameters
        ----------
        model, task, platform, target, provenance
            As in the class.
        scores : sequence of Scores
            Of the joint model and, on the same rows in the same order, of the platform alone.
        transcript : Transcript, optional
            Of the whole job; its message classes must be imported for ``reveals`` to be found.
        resamples, confidence, seed
            Of the bootstrap intervals; see :func:`measure_uplift`.
        **parts
            The other attributes of the class; sequences become tuples.

        Raises
        ------
        InputError
            Two scores of the same name and split, labels that do not fit the task, scores of
            the two models that are not of the same rows.
        """
        keys = [(s.name, s.split) for s in scores]
        if len(set(keys)) != len(keys):
            raise InputError("two sets of scores have the same name and split.", step="report")
        quality = evaluate(scores, task)
        made: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in parts.items()
        }
        return cls(
            model=model,
            task=task,
            platform=platform,
            target=target,
            provenance=provenance,
            classification=tuple(q for q in quality if isinstance(q, ClassifierQuality)),
            regression=tuple(q for q in quality if isinstance(q, RegressorQuality)),
            uplift=measure_uplift(
                scores, task, resamples=resamples, confidence=confidence, seed=seed
            ),
            wire=None if transcript is None else _wire_counts(transcript),
            **made,
        )

    @property
    def providers(self) -> tuple[str, ...]:
        """The other parties, in the order in which the report first names them."""
        named = [m.party for m in self.match] + [i.party for i in self.importance]
        for row in self.wire or ():
            named += [row.sender, row.recipient]
        return tuple(p for p in dict.fromkeys(named) if p != self.platform)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one self-contained HTML page; write it to ``path`` if given."""
        from fedcredit.models.report.html import render

        page = render(self)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def summary(self) -> Summary:
        """Return the short form: rich in a terminal, a table in a notebook, text in ``str``."""
        from fedcredit.models.report.summary import Summary

        return Summary(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as strict JSON values (no NaN, times in ISO 8601)."""
        return document.to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingReport:
        """Read what :meth:`to_dict` returned.

        Raises
        ------
        InputError
            Another version, a missing or unknown entry, a value of the wrong type.
        """
        return document.from_dict(cls, values)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        return f"TrainingReport({self.model!r}, job={self.provenance.job!r})"


def _wire_counts(transcript: Transcript) -> tuple[WireCount, ...]:
    rows = []
    for (sender, recipient, kind), entry in sorted(transcript.counts.items()):
        known = message_class(kind)
        reveals = known.reveals if known is not None else ""
        rows.append(
            WireCount(sender, recipient, kind, entry.messages, entry.bytes, reveals or None)
        )
    return tuple(rows)
