"""``fedcredit scorecard``: train a scorecard, print its tables, write its model document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from fedcredit.cli.bars import federation_bars
from fedcredit.cli.card_lines import (
    cell_text,
    chosen_lines,
    platform_table,
    provider_table,
    read_card,
    write_csv,
)
from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.cli.platform import check_target, choose_frame, open_platform
from fedcredit.cli.service import require_role
from fedcredit.cli.train import write_report
from fedcredit.errors import ConfigError, InputError, StorageError
from fedcredit.node.config import load_config

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation
    from fedcredit.models.frame import FederatedFrame
    from fedcredit.models.report.scorecard_data import ScorecardReport
    from fedcredit.models.scorecard import VerticalScorecard
    from fedcredit.node.config import NodeConfig

__all__ = ["scorecard"]

_POSITIVE = click.FloatRange(0, min_open=True)


def _row_options(*, test_size: float | None) -> Callable[[Any], Any]:
    """Add the options that divide rows; what ``train`` does by default, ``report`` is told to."""
    options = [
        click.option(
            "--frame", "frame_name", help="An alignment made before (default: align now)."
        ),
        click.option(
            "--test-size",
            default=test_size,
            show_default=test_size is not None,
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="Share of rows held out."
            if test_size
            else "As in the training, if the rows are the same (default: all rows are new).",
        ),
        click.option("--time", "time_column", help="The platform's column that orders rows."),
        click.option("--out-of-time", "since", help="Rows from this time on are held out."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(0)),
        click.option(
            "--slice", "slices", multiple=True, help="Platform column to compare groups by."
        ),
    ]

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _target_options(command: Any) -> Any:
    """Add the files that a report is written to."""
    path = click.Path(path_type=Path)
    command = click.option("--card", "card_path", type=path, help="It as JSON.")(command)
    return click.option("--report", "report_path", type=path, help="Model document.")(command)


@click.group(
    epilog="""\b
Examples:
  fedcredit scorecard train platform.toml --model card.fed --report card.html
  fedcredit scorecard table platform.toml --model card.fed
  fedcredit scorecard report platform.toml --model card.fed --frame march --report march.html"""
)
def scorecard() -> None:
    """Scorecards over the columns of all parties: bins, weights of evidence, points."""


@scorecard.command(
    epilog="""\b
Examples:
  fedcredit scorecard train platform.toml --report card.html --model card.fed
  fedcredit scorecard train platform.toml --pdo 40 --stepwise both --leave-out region
  fedcredit scorecard train platform.toml --time opened --out-of-time 2025-07-01

Rows without a --time count as before it."""
)
@click.argument("config", type=click.Path(path_type=Path))
@_row_options(test_size=0.3)
@click.option("--label", help="Label column (default: [data] label of CONFIG).")
@click.option("--leave-out", multiple=True, help="A column, of any party, that is no feature.")
@click.option(
    "--pdo", default=20.0, show_default=True, type=_POSITIVE, help="Points to double the odds."
)
@click.option("--base-score", default=600.0, show_default=True)
@click.option(
    "--base-odds", default=50.0, show_default=True, type=_POSITIVE, help="Odds at the base score."
)
@click.option("--bins", default=8, show_default=True, type=click.IntRange(2))
@click.option(
    "--trend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "ascending", "descending", "peak", "valley", "none"]),
    help="How the event rate moves over a feature's bins.",
)
@click.option(
    "--min-iv",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0),
    help="Least information value.",
)
@click.option("--max-correlation", default=0.8, show_default=True, type=click.FloatRange(0, 1))
@click.option("--stepwise", type=click.Choice(["forward", "backward", "both"]))
@click.option("--reveal-predictor", is_flag=True, help="Exact; shows row sums while fitting.")
@_target_options
@click.option("--model", "model_path", type=click.Path(path_type=Path), help="The card's file.")
@json_option
def train(
    config: Path,
    frame_name: str | None,
    label: str | None,
    leave_out: tuple[str, ...],
    test_size: float,
    time_column: str | None,
    since: str | None,
    slices: tuple[str, ...],
    seed: int,
    report_path: Path | None,
    card_path: Path | None,
    model_path: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Bin, select, regress and scale to points, as the platform of CONFIG."""
    _check_time(time_column, since)
    check_target(report_path, "--report")
    check_target(card_path, "--card")
    check_target(model_path, "--model")
    with open_platform(config) as (settings, federation), federation_bars(federation):
        target = _target(settings, label)
        # Before hours of work, and before providers count it against their limits.
        _require_columns(federation, (*slices, *([time_column] if time_column else [])))
        frame = choose_frame(federation, frame_name)
        now, later = _split_in_time(frame, time_column, since)
        train_rows, test_rows = now.train_test_split(
            test_size=test_size, stratify=target, random_state=seed
        )
        features = _features(frame, target, leave_out, time_column)
        card = _card(settings, options, features)
        card.fit(train_rows, target)
        if model_path is not None:
            card.save(model_path)
            if not as_json:
                click.echo(f"written: {model_path}")
        report = card.report(test_rows, out_of_time=later, slices=slices)
    _tell(card, report, report_path, card_path, as_json)


@scorecard.command(
    epilog="""\b
Examples:
  fedcredit scorecard table platform.toml --model card.fed
  fedcredit scorecard table platform.toml --model card.fed --feature tax.annual_paid
  fedcredit scorecard table tax.toml --id 3f9c2a7be01d4c55 --out tax_points.csv

At a provider's node, --id prints its own part with the limits of its bins, which no other party
sees."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--model", "model_path", type=click.Path(path_type=Path), help="The card's file.")
@click.option("--id", "model_id", help="A provider: the id of a card.")
@click.option("--feature", help="Only the bins of this feature.")
@click.option("--out", type=click.Path(path_type=Path), help="Write CSV instead.")
@json_option
def table(
    config: Path,
    model_path: Path | None,
    model_id: str | None,
    feature: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print a scorecard, bin by bin; connects to nobody."""
    check_target(out, "--out")
    if (model_path is None) == (model_id is None):
        raise click.UsageError("give --model at the platform, or --id at a provider")
    settings = load_config(config)
    if model_path is not None:
        require_role(settings, "platform")
        shown = chosen_lines(platform_table(model_path), feature, settings.party)
    else:
        require_role(settings, "provider")
        shown = chosen_lines(provider_table(settings, str(model_id)), feature, settings.party)
    if out is not None:
        write_csv(shown, out)
        click.echo(f"written: {out}")
    elif as_json:
        print_json(shown.astype(object).where(shown.notna(), None).to_dict("records"))
    else:
        rows = [[cell_text(value) for value in line] for line in shown.to_numpy(object)]
        print_table("Scorecard", [str(name) for name in shown.columns], rows)


@scorecard.command(
    epilog="""\b
Examples:
  fedcredit scorecard report platform.toml --model card.fed --frame march --report march.html
  fedcredit scorecard report platform.toml --model card.fed --frame pilot --test-size 0.3
  fedcredit scorecard report platform.toml --model card.fed --card card.json --slice region

All rows count as new to the card, unless --test-size, --seed, --time and --out-of-time divide
them as `scorecard train` did; the report then compares with the rows of the training. Scoring
shows the platform one sum of points per row; providers count it."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--model", "model_path", required=True, type=click.Path(path_type=Path))
@_row_options(test_size=None)
@click.option("--cutoff", type=float, help="Points from which an enterprise is approved.")
@_target_options
@json_option
def report(
    config: Path,
    model_path: Path,
    frame_name: str | None,
    test_size: float | None,
    time_column: str | None,
    since: str | None,
    seed: int,
    slices: tuple[str, ...],
    cutoff: float | None,
    report_path: Path | None,
    card_path: Path | None,
    as_json: bool,
) -> None:
    """Measure a saved scorecard on aligned rows and write its model document."""
    _check_time(time_column, since)
    check_target(report_path, "--report")
    check_target(card_path, "--card")
    data = read_card(model_path)
    with open_platform(config) as (_, federation), federation_bars(federation):
        from fedcredit.models.scorecard import VerticalScorecard

        card = VerticalScorecard.load(data, federation)
        _require_columns(federation, (*slices, *([time_column] if time_column else [])))
        frame = choose_frame(federation, frame_name)
        test, later = _split_in_time(frame, time_column, since)
        before = None
        if test_size is not None:
            before, test = test.train_test_split(
                test_size=test_size, stratify=card.binner_.target_, random_state=seed
            )
            _require_fit_rows(card, before)
        made = card.report(test, train=before, out_of_time=later, slices=slices, cutoff=cutoff)
    _tell(card, made, report_path, card_path, as_json)


# ------------------------------------------------------------------------------------- parts


def _target(settings: NodeConfig, label: str | None) -> str:
    assert settings.data is not None  # open_platform has read it
    target = label or settings.data.label
    if target is None:
        raise ConfigError(
            "no label is named.",
            party=settings.party,
            step="scorecard",
            fix="pass --label or set label in [data]",
        )
    return target


def _check_time(column: str | None, since: str | None) -> None:
    if (column is None) != (since is None):
        raise click.UsageError("--time and --out-of-time belong together")


def _require_columns(federation: Federation, names: Sequence[str]) -> None:
    """Refuse names that are no columns of the platform (InputError)."""
    own = [str(name) for name in federation.table.frame.columns]
    for name in names:
        if name.removeprefix(f"{federation.platform}.") not in own:
            raise InputError(
                f"the platform has no column {name!r}.",
                party=federation.platform,
                step="check the options",
                fix=f"use one of {', '.join(own)}",
            )


def _split_in_time(
    frame: FederatedFrame, column: str | None, since: str | None
) -> tuple[FederatedFrame, FederatedFrame | None]:
    """Return the rows before a time, or without one, and the rows from it on."""
    import numpy as np
    import pandas as pd

    if column is None or since is None:
        return frame, None
    values = pd.Series(frame.column(column))
    try:
        if pd.api.types.is_numeric_dtype(values.dtype):
            later = values.to_numpy(np.float64, na_value=np.nan) >= float(since)
        else:
            times = pd.to_datetime(values.astype(object), format="ISO8601")
            later = (times >= pd.Timestamp(since)).to_numpy()
    except (ValueError, TypeError):
        raise InputError(
            f"{column!r} and --out-of-time are not both times, or both numbers.",
            step="scorecard",
            fix="name a column of dates (2025-07-01) or numbers, and a date or number",
        ) from None
    if later.all() or not later.any():
        raise InputError(
            "--out-of-time leaves no rows before it, or none from it on.",
            step="scorecard",
            fix="choose a time within the data",
        )
    return frame.take(np.flatnonzero(~later)), frame.take(np.flatnonzero(later))


def _features(
    frame: FederatedFrame, target: str, leave_out: Sequence[str], time_column: str | None
) -> list[str] | None:
    """Return what may become a characteristic; None for all columns but the label."""
    if time_column is not None:
        leave_out = (*leave_out, time_column)
    if not leave_out:
        return None
    own = f"{frame.federation.platform}."
    columns = frame.columns
    gone = {name if name in columns else own + name for name in (target, *leave_out)}
    unknown = sorted(gone - set(columns))
    if unknown:
        raise InputError(
            f"there is no column {unknown[0].removeprefix(own)!r}.",
            step="select features",
            fix=f"use some of {', '.join(columns)}",
        )
    return [name for name in columns if name not in gone]


def _require_fit_rows(card: VerticalScorecard, frame: FederatedFrame) -> None:
    """Refuse rows that cannot be those of the card's fit (InputError).

    They fill the bins of all the platform's features as the card has them written down.
    """
    import numpy as np

    from fedcredit.models.binner_job import count_rows

    binner = card.scoring_binner_
    own = [f for f in binner.features_.values() if f.party == card.platform_]
    found = count_rows(frame, binner.bin_id_, own)
    known = [binner.woe_table(feature.name).count for feature in own]
    total = int(binner.woe_table(binner.names_[0]).count.sum())
    if len(frame) != total or not all(map(np.array_equal, found, known)):
        raise InputError(
            "divided like this, the rows are not those that the scorecard was fitted on.",
            step="scorecard report",
            fix="give the --frame, --test-size, --seed, --time and --out-of-time of the training, "
            "or leave --test-size out if all rows are new to the card",
        )


def _card(
    settings: NodeConfig, options: dict[str, Any], features: list[str] | None
) -> VerticalScorecard:
    from fedcredit.models.binner import VerticalBinner
    from fedcredit.models.scorecard import VerticalScorecard
    from fedcredit.models.selector import FeatureSelector

    assert settings.data is not None
    return VerticalScorecard(
        pdo=options["pdo"],
        base_score=options["base_score"],
        base_odds=options["base_odds"],
        binner=VerticalBinner(
            max_bins=options["bins"],
            trend=options["trend"],
            categorical_features=settings.data.categorical,
        ),
        selector=FeatureSelector(
            min_iv=options["min_iv"],
            max_correlation=options["max_correlation"],
            stepwise=options["stepwise"],
        ),
        features=features,
        reveal_predictor=options["reveal_predictor"],
    )


def _tell(
    card: VerticalScorecard,
    report: ScorecardReport,
    report_path: Path | None,
    card_path: Path | None,
    as_json: bool,
) -> None:
    import json

    if report_path is not None:
        write_report(report, report_path)
    if card_path is not None:
        try:
            card_path.write_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=1))
        except OSError as error:
            raise StorageError(
                f"{card_path} cannot be written ({error.strerror}).", step="write the model card"
            ) from None
    if as_json:
        # A card may take several sessions of one kind.
        seconds: dict[str, float] = {}
        sent: dict[str, int] = {}
        for phase in report.run.phases:
            seconds[phase.name] = seconds.get(phase.name, 0.0) + phase.seconds
            sent[phase.name] = sent.get(phase.name, 0) + (phase.bytes or 0)
        print_json(
            {
                "model": card.model_id_,
                "features": card.features_,
                # Of the last regression; a loaded card does not say.
                "revealed": report.revealed if report.trace else None,
                "metrics": [
                    {"split": m.split, "metric": m.metric, "value": m.value} for m in report.metrics
                ],
                "seconds": {name: round(value, 3) for name, value in seconds.items()},
                "bytes": sent,
            }
        )
        return
    Console().print(report.summary())
    click.echo(f"scorecard {card.model_id_}")
    for path in (report_path, card_path):
        if path is not None:
            click.echo(f"written: {path}")
