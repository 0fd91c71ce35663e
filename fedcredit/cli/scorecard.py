"""``fedcredit scorecard``: train a scorecard, print its tables, write its model document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from fedcredit.cli.bars import federation_bars
from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.cli.party import make_engine
from fedcredit.cli.platform import check_target, choose_frame, open_platform
from fedcredit.cli.service import require_role
from fedcredit.cli.train import write_report
from fedcredit.errors import ConfigError, InputError, StorageError
from fedcredit.node.config import load_config

if TYPE_CHECKING:
    import pandas as pd

    from fedcredit.models.frame import FederatedFrame
    from fedcredit.models.report.scorecard_data import ScorecardReport
    from fedcredit.models.scorecard import VerticalScorecard
    from fedcredit.node.config import NodeConfig

__all__ = ["scorecard"]


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
  fedcredit scorecard train platform.toml --pdo 40 --stepwise both --slice region --slice industry
  fedcredit scorecard train platform.toml --time opened --out-of-time 2025-07-01"""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--frame", "frame_name", help="An alignment made before (default: align now).")
@click.option("--label", help="Label column (default: [data] label of CONFIG).")
@click.option("--test-size", default=0.3, show_default=True, help="Share of rows held out.")
@click.option("--time", "time_column", help="The platform's column that orders rows in time.")
@click.option("--out-of-time", "since", help="Rows from this time on are held out.")
@click.option("--pdo", default=20.0, show_default=True, help="Points to double the odds.")
@click.option("--base-score", default=600.0, show_default=True)
@click.option("--base-odds", default=50.0, show_default=True, help="Odds at the base score.")
@click.option("--bins", default=8, show_default=True, type=click.IntRange(2))
@click.option(
    "--trend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "ascending", "descending", "peak", "valley", "none"]),
    help="How the event rate moves over a feature's bins.",
)
@click.option("--min-iv", default=0.02, show_default=True, help="Least information value.")
@click.option("--max-correlation", default=0.8, show_default=True, type=click.FloatRange(0, 1))
@click.option("--stepwise", type=click.Choice(["forward", "backward", "both"]))
@click.option("--reveal-predictor", is_flag=True, help="Exact; shows row sums while fitting.")
@click.option("--slice", "slices", multiple=True, help="Platform column to compare groups by.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="Model document.")
@click.option("--card", "card_path", type=click.Path(path_type=Path), help="It as JSON.")
@click.option("--model", "model_path", type=click.Path(path_type=Path), help="The card's file.")
@json_option
def train(
    config: Path,
    frame_name: str | None,
    label: str | None,
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
    if (time_column is None) != (since is None):
        raise click.UsageError("--time and --out-of-time belong together")
    for path, option in (
        (report_path, "--report"),
        (card_path, "--card"),
        (model_path, "--model"),
    ):
        check_target(path, option)
    with open_platform(config) as (settings, federation), federation_bars(federation):
        target = _target(settings, label)
        frame = choose_frame(federation, frame_name)
        later = None
        if time_column is not None and since is not None:
            frame, later = _split_in_time(frame, time_column, since)
        train_rows, test_rows = frame.train_test_split(
            test_size=test_size, stratify=target, random_state=seed
        )
        card = _card(settings, options).fit(train_rows, target)
        if model_path is not None:
            card.save(model_path)
        report = card.report(test_rows, out_of_time=later, slices=slices)
    _tell(card, report, report_path, card_path, as_json)
    if model_path is not None and not as_json:
        click.echo(f"written: {model_path}")


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
    shown = (
        _platform_table(model_path, feature)
        if model_path is not None
        else _provider_table(config, str(model_id), feature)
    )
    if out is not None:
        _write_csv(shown, out)
        click.echo(f"written: {out}")
    elif as_json:
        print_json(shown.astype(object).where(shown.notna(), None).to_dict("records"))
    else:
        rows = [[_cell(value) for value in line] for line in shown.to_numpy(object)]
        print_table("Scorecard", [str(name) for name in shown.columns], rows)


@scorecard.command(
    epilog="""\b
Examples:
  fedcredit scorecard report platform.toml --model card.fed --frame march --report march.html
  fedcredit scorecard report platform.toml --model card.fed --card card.json --slice region

Scoring rows shows the platform one sum of points per row; providers count it."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--model", "model_path", required=True, type=click.Path(path_type=Path))
@click.option("--frame", "frame_name", help="An alignment made before (default: align now).")
@click.option("--slice", "slices", multiple=True, help="Platform column to compare groups by.")
@click.option("--cutoff", type=float, help="Points from which an enterprise is approved.")
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="Model document.")
@click.option("--card", "card_path", type=click.Path(path_type=Path), help="It as JSON.")
@json_option
def report(
    config: Path,
    model_path: Path,
    frame_name: str | None,
    slices: tuple[str, ...],
    cutoff: float | None,
    report_path: Path | None,
    card_path: Path | None,
    as_json: bool,
) -> None:
    """Measure a saved scorecard on aligned rows and write its model document."""
    check_target(report_path, "--report")
    check_target(card_path, "--card")
    with open_platform(config) as (_, federation), federation_bars(federation):
        from fedcredit.models.scorecard import VerticalScorecard

        card = VerticalScorecard.load(_read(model_path), federation)
        frame = choose_frame(federation, frame_name)
        made = card.report(frame, slices=slices, cutoff=cutoff)
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


def _split_in_time(
    frame: FederatedFrame, column: str, since: str
) -> tuple[FederatedFrame, FederatedFrame]:
    import numpy as np
    import pandas as pd

    values = pd.Series(frame.column(column))
    try:
        if pd.api.types.is_numeric_dtype(values.dtype):
            later = values.to_numpy() >= float(since)
        else:
            later = (pd.to_datetime(values) >= pd.Timestamp(since)).to_numpy()
    except (ValueError, TypeError):
        raise InputError(
            f"{column!r} and --out-of-time are not both times, or both numbers.",
            step="scorecard",
            fix="name a column of dates or numbers, and a date or number",
        ) from None
    if later.all() or not later.any():
        raise InputError(
            "--out-of-time leaves no rows before it, or none from it on.",
            step="scorecard",
            fix="choose a time within the data",
        )
    return frame.take(np.flatnonzero(~later)), frame.take(np.flatnonzero(later))


def _card(settings: NodeConfig, options: dict[str, Any]) -> VerticalScorecard:
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
        print_json(
            {
                "model": card.model_id_,
                "features": card.features_,
                "revealed": report.revealed,
                "metrics": [
                    {"split": m.split, "metric": m.metric, "value": m.value} for m in report.metrics
                ],
                "seconds": {p.name: round(p.seconds, 3) for p in report.run.phases},
                "bytes": {p.name: p.bytes for p in report.run.phases},
            }
        )
        return
    Console().print(report.summary())
    click.echo(f"scorecard {card.model_id_}")
    for path in (report_path, card_path):
        if path is not None:
            click.echo(f"written: {path}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}).", step="load scorecard"
        ) from None


def _platform_table(path: Path, feature: str | None) -> pd.DataFrame:
    from fedcredit.models.scorecard import VerticalScorecard

    card = VerticalScorecard.load(_read(path))
    shown = card.table()
    if feature is None:
        return shown
    party, _, label = feature.partition(".")
    found = shown[(shown["party"] == party) & (shown["feature"] == label)]
    return _require_rows(found, feature)


def _provider_table(config: Path, model_id: str, feature: str | None) -> pd.DataFrame:
    settings = load_config(config)
    require_role(settings, "provider")
    from fedcredit.models.engine_scorecard import own_table

    shown = own_table(make_engine(settings), model_id)
    if feature is None:
        return shown
    return _require_rows(shown[shown["feature"] == feature], feature)


def _require_rows(found: pd.DataFrame, feature: str) -> pd.DataFrame:
    if not len(found):
        raise InputError(
            f"the card has no characteristic {feature!r}.",
            step="scorecard table",
            fix="leave --feature out to see all",
        )
    return found


def _write_csv(shown: pd.DataFrame, out: Path) -> None:
    try:
        shown.to_csv(out, index=False)
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written ({error.strerror}).", step="scorecard table"
        ) from None


def _cell(value: Any) -> str:
    import math

    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)
