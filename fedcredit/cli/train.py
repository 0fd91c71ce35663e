"""``fedcredit train``: train a joint model and report on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from fedcredit.cli.bars import federation_bars
from fedcredit.cli.output import json_option, print_json
from fedcredit.cli.platform import check_target, choose_frame, open_platform, say
from fedcredit.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from fedcredit.models.gbdt import VerticalGBDTClassifier
    from fedcredit.models.report import TrainingReport
    from fedcredit.models.report.scorecard_data import ScorecardReport
    from fedcredit.node.remote import Event

__all__ = ["report_figures", "train", "write_report"]


@click.command(
    epilog="""\b
Examples:
  fedcredit train platform.toml --report report.html --model model.fed
  fedcredit train platform.toml --frame pilot --trees 200 --early-stopping 20
  fedcredit train platform.toml --frame pilot --trees 200 --resume 3f9c2a7be01d4c55

Every tree is a checkpoint at all parties. After an interruption, --frame and --resume as printed
before the first tree, with the same other options, go on from the last one."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--frame", "frame_name", help="An alignment made before (default: align now).")
@click.option("--label", help="Label column (default: [data] label of CONFIG).")
@click.option("--regression", is_flag=True, help="The label is a number to predict.")
@click.option("--trees", default=100, show_default=True, type=click.IntRange(1))
@click.option("--depth", default=4, show_default=True, type=click.IntRange(1, 8))
@click.option("--learning-rate", default=0.1, show_default=True, type=float)
@click.option("--bins", default=32, show_default=True, type=click.IntRange(2))
@click.option("--early-stopping", type=click.IntRange(1), help="Trees without improvement.")
@click.option("--test-size", default=0.3, show_default=True, help="Share of rows held out.")
@click.option("--open-membership", is_flag=True, help="Faster; shows providers a tree's nodes.")
@click.option(
    "--precision",
    default="packed",
    show_default=True,
    type=click.Choice(["packed", "exact", "high"]),
    help="Encrypted-sum profile.",
)
@click.option(
    "--backend",
    default="bfv",
    show_default=True,
    type=click.Choice(["bfv", "paillier"]),
    help="Encryption scheme; Paillier is a slow reference.",
)
@click.option("--block", type=click.IntRange(1), help="Rows per ciphertext (default: cost model).")
@click.option("--link-mbit", default=1000.0, show_default=True, help="Speed of the link, Mbit/s.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--resume", metavar="MODEL_ID", help="Go on with an interrupted training.")
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="HTML report.")
@click.option("--model", "model_path", type=click.Path(path_type=Path), help="The model's file.")
@json_option
def train(
    config: Path,
    frame_name: str | None,
    label: str | None,
    regression: bool,
    test_size: float,
    resume: str | None,
    report_path: Path | None,
    model_path: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train trees over the columns of all parties, as the platform of CONFIG."""
    if resume is not None and frame_name is None:
        raise click.UsageError("--resume needs the --frame of the interrupted training")
    check_target(report_path, "--report")
    check_target(model_path, "--model")
    announce = _Announcement()
    with (
        open_platform(config, announce) as (settings, federation),
        federation_bars(federation),
    ):
        assert settings.data is not None  # open_platform has read it
        target = label or settings.data.label
        if target is None:
            raise ConfigError(
                "no label is named.",
                party=settings.party,
                step="train",
                fix="pass --label or set label in [data]",
            )
        frame = choose_frame(federation, frame_name)
        announce.frame = frame.frame_id
        seed = options["seed"]
        train_rows, test_rows = frame.train_test_split(
            test_size=test_size, stratify=None if regression else target, random_state=seed
        )
        model = _model(regression, settings.data.categorical, options)
        model.fit(train_rows, target, resume=resume)
        report = model.report(test_rows)
    if model_path is not None:
        model.save(model_path)
    if report_path is not None:
        write_report(report, report_path)
    if as_json:
        print_json({"model": model.model_id_, **report_figures(report)})
        return
    Console().print(report.summary())
    click.echo(f"model {model.model_id_}")
    for path in (model_path, report_path):
        if path is not None:
            click.echo(f"written: {path}")


class _Announcement:
    """Says, before the first tree, how to go on after an interruption."""

    def __init__(self) -> None:
        self.frame: str | None = None
        self._done = False

    def __call__(self, event: Event) -> None:
        phase, _, model = (event.job or "").partition("-")
        if phase == "train" and event.kind == "waiting" and not self._done:
            self._done = True
            say(f"after an interruption, go on with --frame {self.frame} --resume {model}")


def write_report(report: TrainingReport | ScorecardReport, path: Path) -> None:
    """Write the HTML report.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    try:
        report.to_html(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}).", step="write the report"
        ) from None


def _model(
    regression: bool, categorical: tuple[str, ...], options: dict[str, Any]
) -> VerticalGBDTClassifier:
    from fedcredit.models.gbdt import VerticalGBDTClassifier, VerticalGBDTRegressor

    kind: Any = VerticalGBDTRegressor if regression else VerticalGBDTClassifier
    model: VerticalGBDTClassifier = kind(
        n_estimators=options["trees"],
        max_depth=options["depth"],
        learning_rate=options["learning_rate"],
        max_bins=options["bins"],
        early_stopping_rounds=options["early_stopping"],
        hide_membership=not options["open_membership"],
        precision=options["precision"],
        backend=options["backend"],
        block=options["block"],
        mbit_per_second=options["link_mbit"],
        categorical_features=categorical,
        random_state=options["seed"],
    )
    return model


def report_figures(report: TrainingReport) -> dict[str, Any]:
    """Return a report's headline figures for scripts."""
    return {
        "aligned_rows": report.aligned_rows,
        "uplift": {
            u.metric: {"joint": u.joint, "alone": u.alone, "low": u.low, "high": u.high}
            for u in report.uplift
        },
        "seconds": {p.name: round(p.seconds, 3) for p in report.phases},
        "bytes": {p.name: p.bytes for p in report.phases},
        "trees": report.parameters.get("trees kept"),
    }
