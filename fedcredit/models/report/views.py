"""The tables of a training report; each is None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping

from fedcredit.models.report.data import Importance, PartyMatch, TrainingReport, WireCount
from fedcredit.models.report.headline import MODEL_NAMES, SPLIT_NAMES, shown
from fedcredit.models.report.quality import ClassifierQuality
from fedcredit.models.report.scalars import Scalar
from fedcredit.models.report.tables import Bar, Cell, Column, Table
from fedcredit.models.report.text import (
    ABSENT,
    count,
    decimal,
    fraction,
    name,
    percent,
    scalar,
    seconds,
    signed,
    size,
)

__all__ = [
    "feature_name",
    "feature_table",
    "gains_table",
    "headline_table",
    "learned_tables",
    "match_table",
    "parameter_table",
    "party_gain",
    "party_table",
    "phase_table",
    "privacy_table",
    "provenance_table",
    "quality_table",
    "split_table",
    "wire_table",
]

_UNSTATED = "not stated by the message class"


def headline_table(report: TrainingReport) -> Table | None:
    """Metrics of both models with the interval of the difference."""
    if not report.uplift:
        return None
    first = report.uplift[0]
    return Table(
        f"Joint model against the platform alone, {SPLIT_NAMES[first.split]} rows",
        (
            Column("Metric", numeric=False),
            Column("Joint"),
            Column("Platform alone"),
            Column("Difference"),
            Column(f"{percent(first.confidence, 0)} interval"),
        ),
        tuple(
            (
                u.metric + ("" if u.higher_is_better else " (lower is better)"),
                decimal(u.joint),
                decimal(u.alone),
                signed(u.difference),
                f"{signed(u.low)} to {signed(u.high)}",
            )
            for u in report.uplift
        ),
    )


_MATCH_ROWS = (
    ("Rows", "rows"),
    ("Blank id", "blank"),
    ("Duplicate id", "duplicate"),
    ("Invalid check digit", "invalid"),
    ("Pre-standard id", "pre_standard"),
    ("Unusable id", "unusable"),
    ("Distinct ids", "distinct"),
    ("Matched", "matched"),
)


def match_table(report: TrainingReport) -> Table | None:
    """Count each party's rows by what became of them."""
    if not report.match:
        return None
    rows: list[tuple[Cell, ...]] = []
    for label, attribute in _MATCH_ROWS:
        values = [getattr(m, attribute) for m in report.match]
        if any(v is not None for v in values):
            rows.append((label, *map(count, values)))
    if any(m.match_rate is not None for m in report.match):
        rows.append(("Match rate", *(percent(m.match_rate) for m in report.match)))
    disclosed = all(_complete(m) for m in report.match)
    return Table(
        "Rows and matched ids by party",
        (Column("", numeric=False), *(Column(name(m.party)) for m in report.match)),
        tuple(rows),
        note="Match rate: matched ids over distinct ids."
        + ("" if disclosed else f" {ABSENT}: the party does not say."),
    )


def _complete(match: PartyMatch) -> bool:
    return all(getattr(match, attribute) is not None for _, attribute in _MATCH_ROWS)


def split_table(report: TrainingReport) -> Table | None:
    """Aligned rows and the parts of the data."""
    rows: list[tuple[Cell, ...]] = []
    if report.aligned_rows is not None:
        known = [s.events for s in report.splits if s.events is not None]
        covered = len(known) == len(report.splits) and report.aligned_rows == sum(
            s.rows for s in report.splits
        )
        events = sum(known) if known and covered else None
        rows.append(
            (
                "All aligned",
                count(report.aligned_rows),
                percent(1.0),
                count(events),
                percent(fraction(events, report.aligned_rows), 2),
            )
        )
    whole = report.aligned_rows or sum(s.rows for s in report.splits)
    rows += [
        (
            SPLIT_NAMES.get(s.name, name(s.name)).capitalize(),
            count(s.rows),
            percent(fraction(s.rows, whole)),
            count(s.events),
            percent(fraction(s.events, s.rows), 2),
        )
        for s in report.splits
    ]
    if not rows:
        return None
    columns = [Column("Part", numeric=False), Column("Rows"), Column("Share")]
    if any(s.events is not None for s in report.splits):
        columns += [Column("Events"), Column("Event rate")]
    else:
        rows = [row[:3] for row in rows]
    return Table("Aligned data", tuple(columns), tuple(rows))


def parameter_table(report: TrainingReport) -> Table | None:
    """Model parameters."""
    return _settings("Model parameters", report.parameters)


def privacy_table(report: TrainingReport) -> Table | None:
    """How the job protected what it worked on."""
    privacy = report.privacy
    if privacy is None:
        return None
    membership = (
        "hidden: providers do not see which rows share a node"
        if privacy.hide_membership
        else "sorted (opt-out): providers see which rows share a node"
    )
    values: dict[str, Scalar] = {
        "Node membership": membership,
        "Gradient quantisation": privacy.quantisation,
        **{f"Ciphertext: {key}": value for key, value in privacy.ciphertext.items()},
        **{f"Floor: {key}": f"at least {count(value)}" for key, value in privacy.floors.items()},
        **privacy.other,
    }
    return _settings("Privacy settings", values)


def _settings(title: str, values: Mapping[str, Scalar]) -> Table | None:
    if not values:
        return None
    return Table(
        title,
        (Column("Setting", numeric=False), Column("Value", numeric=False)),
        tuple((name(key), scalar(value)) for key, value in values.items()),
    )


def quality_table(report: TrainingReport) -> Table | None:
    """Metrics of every model on every part."""
    first = (Column("Model", numeric=False), Column("Rows of", numeric=False), Column("Rows"))
    if report.classification:
        return Table(
            "Quality of ranking and of probabilities",
            (
                *first,
                Column("Event rate"),
                Column("AUC"),
                Column("KS"),
                Column("Gini"),
                Column("Log loss"),
            ),
            tuple(
                (
                    MODEL_NAMES[q.name].capitalize(),
                    SPLIT_NAMES[q.split],
                    count(q.rows),
                    percent(q.event_rate, 2),
                    *map(decimal, (q.auc, q.ks, q.gini, q.log_loss)),
                )
                for q in report.classification
            ),
        )
    if report.regression:
        return Table(
            "Quality of prediction",
            (*first, Column("R²"), Column("RMSE"), Column("MAE")),
            tuple(
                (
                    MODEL_NAMES[q.name].capitalize(),
                    SPLIT_NAMES[q.split],
                    count(q.rows),
                    *map(decimal, (q.r2, q.rmse, q.mae)),
                )
                for q in report.regression
            ),
            note=f"RMSE and MAE in units of the target, {name(report.target)}.",
        )
    return None


def gains_table(report: TrainingReport) -> Table | None:
    """Gains and lift of the joint model."""
    quality = shown(report)
    if not isinstance(quality, ClassifierQuality) or not quality.gains:
        return None
    return Table(
        f"Gains of the joint model by score group, {SPLIT_NAMES[quality.split]} rows, "
        "riskiest first",
        (
            Column("Group"),
            Column("Score from"),
            Column("to"),
            Column("Rows"),
            Column("Events"),
            Column("Event rate"),
            Column("Lift"),
            Column("Captured"),
            Column("Cumulative lift"),
            Column("KS"),
        ),
        tuple(
            (
                str(i),
                decimal(g.lowest_score),
                decimal(g.highest_score),
                count(round(g.rows)),
                count(round(g.events)),
                percent(g.event_rate),
                f"{decimal(g.lift, 2)} ×",
                percent(g.cumulative_capture),
                f"{decimal(g.cumulative_lift, 2)} ×",
                decimal(g.ks, 3),
            )
            for i, g in enumerate(quality.gains, 1)
        ),
        note="Captured: share of all events in this and the riskier groups. "
        "Lift: event rate over the overall rate.",
    )


def feature_name(item: Importance) -> str:
    """Return ``party · label``, or ``party · feature 3`` where the label is not released."""
    label = (
        name(item.label) if item.label is not None else f"feature\N{NO-BREAK SPACE}{item.feature}"
    )
    return f"{name(item.party)} · {label}"


def party_gain(report: TrainingReport) -> dict[str, tuple[float, int, int]]:
    """Gain, splits and used features per party, largest gain first."""
    sums: dict[str, tuple[float, int, int]] = {}
    for item in report.importance:
        gain, splits, used = sums.get(item.party, (0.0, 0, 0))
        sums[item.party] = (gain + item.gain, splits + item.splits, used + (item.splits > 0))
    return dict(sorted(sums.items(), key=lambda entry: -entry[1][0]))


def party_table(report: TrainingReport) -> Table | None:
    """Sum up importance per party."""
    sums = party_gain(report)
    total = sum(gain for gain, _, _ in sums.values())
    if not total:
        return None
    return Table(
        "Gain by party",
        (
            Column("Party", numeric=False),
            Column("Share of gain", numeric=False),
            Column("Splits"),
            Column("Features used"),
        ),
        tuple(
            (name(party), Bar(percent(gain / total), gain / total), count(splits), count(used))
            for party, (gain, splits, used) in sums.items()
        ),
    )


def feature_table(report: TrainingReport, limit: int = 25) -> Table | None:
    """Rank features by gain."""
    ranked = sorted(report.importance, key=lambda item: -item.gain)
    total = sum(item.gain for item in ranked)
    if not total:
        return None
    top = ranked[0].gain
    rest = ranked[limit:]
    note = "Gain: reduction of the training loss by the feature's splits, as a share of all."
    if rest:
        share = percent(sum(item.gain for item in rest) / total)
        note += f" {count(len(rest))} further features share {share}."
    if any(item.label is None for item in ranked):
        note += " Features whose owner does not release names have a number."
    return Table(
        "Gain by feature",
        (
            Column("Feature", numeric=False),
            Column("Share of gain", numeric=False),
            Column("Splits"),
        ),
        tuple(
            (feature_name(i), Bar(percent(i.gain / total), i.gain / top), count(i.splits))
            for i in ranked[:limit]
        ),
        note=note,
    )


def phase_table(report: TrainingReport) -> Table | None:
    """Wall time and bytes per phase."""
    if not report.phases:
        return None
    total = sum(p.seconds for p in report.phases)
    rows: list[tuple[Cell, ...]] = [
        (name(p.name), Bar(seconds(p.seconds), fraction(p.seconds, total) or 0.0), size(p.bytes))
        for p in report.phases
    ]
    known = [p.bytes for p in report.phases if p.bytes is not None]
    if len(rows) > 1:
        rows.append(("Total", Bar(seconds(total), None), size(sum(known)) if known else ABSENT))
    return Table(
        "Wall time and bytes by phase",
        (Column("Phase", numeric=False), Column("Wall time", numeric=False), Column("On the wire")),
        tuple(rows),
    )


def wire_table(report: TrainingReport) -> Table | None:
    """Bytes by message kind and direction as the platform sees it."""
    if not report.wire:
        return None
    sums: dict[str, list[int]] = {}
    for row in report.wire:
        entry = sums.setdefault(row.kind, [0, 0, 0, 0])
        entry[0] += row.messages
        where = 1 if row.sender == report.platform else 2 if row.recipient == report.platform else 3
        entry[where] += row.bytes
    totals = [sum(entry[k] for entry in sums.values()) for k in range(4)]
    whole = sum(totals[1:])
    between = totals[3] > 0
    rows: list[tuple[Cell, ...]] = []
    for kind, entry in sorted(sums.items(), key=lambda item: -sum(item[1][1:])):
        amount = sum(entry[1:])
        cells = [size(entry[1]), size(entry[2])] + ([size(entry[3])] if between else [])
        rows.append(
            (
                name(kind),
                count(entry[0]),
                *cells,
                Bar(size(amount), (amount / whole if whole else 0)),
            )
        )
    cells = [size(totals[1]), size(totals[2])] + ([size(totals[3])] if between else [])
    rows.append(("Total", count(totals[0]), *cells, Bar(size(whole), None)))
    return Table(
        "Bytes by message kind and direction",
        (
            Column("Kind", numeric=False),
            Column("Messages"),
            Column("Sent by platform"),
            Column("Received by platform"),
            *([Column("Between providers")] if between else []),
            Column("All", numeric=False),
        ),
        tuple(rows),
    )


#: How the clause of a message begins that reveals nothing.
_NOTHING = "nothing"


def learned_tables(report: TrainingReport) -> tuple[Table, ...]:
    """Who learned what: one table per recipient, from the transcript and message classes alone."""
    wire = report.wire or ()
    parties = dict.fromkeys([row.recipient for row in wire])
    # The platform first; it receives the most.
    order = sorted(parties, key=lambda p: (p != report.platform, p))
    return tuple(
        Table(
            f"{name(party)} received",
            (
                Column("Message", numeric=False),
                Column("From", numeric=False),
                Column("Messages"),
                Column("Bytes"),
                Column("What it reveals", numeric=False),
            ),
            tuple(
                (
                    name(row.kind),
                    name(row.sender),
                    count(row.messages),
                    size(row.bytes),
                    row.reveals or _UNSTATED,
                )
                for row in sorted(wire, key=lambda r: (r.kind, r.sender))
                if row.recipient == party
            ),
            stack=True,
        )
        for party in order
    )


def learned_summary(report: TrainingReport) -> Table | None:
    """Who learned what in short: one line per recipient and protocol."""
    lines: dict[tuple[str, str], list[WireCount]] = {}
    for row in report.wire or ():
        lines.setdefault((row.recipient, row.kind.partition(".")[0]), []).append(row)
    if not lines:
        return None
    order = sorted(lines, key=lambda k: (k[0] != report.platform, k))
    return Table(
        "Who learned what",
        (
            Column("Party", numeric=False),
            Column("Protocol", numeric=False),
            Column("What it learned from the messages it received", numeric=False),
            Column("Messages"),
            Column("Bytes"),
        ),
        tuple(
            (
                name(party),
                name(protocol),
                _clauses(lines[party, protocol]),
                count(sum(row.messages for row in lines[party, protocol])),
                size(sum(row.bytes for row in lines[party, protocol])),
            )
            for party, protocol in order
        ),
        stack=True,
    )


def _clauses(rows: list[WireCount]) -> str:
    found = dict.fromkeys(row.reveals or _UNSTATED for row in sorted(rows, key=lambda r: r.kind))
    told = [clause for clause in found if not clause.startswith(_NOTHING)]
    return "; ".join(told) or _NOTHING


def provenance_table(report: TrainingReport) -> Table:
    """List what it takes to make the model again."""
    made = report.provenance
    rows: list[tuple[Cell, ...]] = [
        ("Created", made.created.isoformat(sep=" ", timespec="seconds")),
        ("Job", name(made.job)),
    ]
    if made.fingerprint is not None:
        rows.append(("Model fingerprint", name(made.fingerprint)))
    rows += [(f"Seed: {name(key)}", str(value)) for key, value in made.seeds.items()]
    rows.append(("fedcredit", name(made.package_version)))
    rows += [(name(key), name(value)) for key, value in made.environment.items()]
    return Table(
        "Job, versions and seeds",
        (Column("Item", numeric=False), Column("Value", numeric=False)),
        tuple(rows),
    )
