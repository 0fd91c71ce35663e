"""``fedcredit predict``: score aligned rows with a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from fedcredit.cli.bars import federation_bars
from fedcredit.cli.output import json_option, print_json
from fedcredit.cli.platform import check_target, choose_frame, open_platform
from fedcredit.errors import ConfigError, StorageError

__all__ = ["predict"]


@click.command(
    epilog="""\b
Examples:
  fedcredit predict platform.toml --model model.fed --out scores.csv
  fedcredit predict platform.toml --model model.fed --frame march --out scores.parquet

The file has the platform's own ids, in the order of its table, and the scores."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--model", "model_path", required=True, type=click.Path(path_type=Path))
@click.option("--frame", "frame_name", help="An alignment made before (default: align now).")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="A .csv or .parquet file."
)
@json_option
def predict(
    config: Path, model_path: Path, frame_name: str | None, out: Path, as_json: bool
) -> None:
    """Score the rows that all parties hold, as the platform of CONFIG."""
    if out.suffix not in (".csv", ".parquet"):
        raise ConfigError(
            f"{out.name} is neither .csv nor .parquet.", step="predict", fix="rename --out"
        )
    check_target(out, "--out")
    try:
        data = model_path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{model_path} cannot be read ({error.strerror}).", step="predict"
        ) from None
    with open_platform(config) as (_, federation), federation_bars(federation):
        import pandas as pd

        from fedcredit.models.load import load_model, scores_of

        model = load_model(data, federation)
        frame = choose_frame(federation, frame_name)
        scores = scores_of(model, frame)
        ids = frame.ids
    table = pd.DataFrame({frame.key: ids.to_numpy(), "score": scores}, index=frame.order)
    table = table.sort_index()
    try:
        if out.suffix == ".csv":
            table.to_csv(out, index=False)
        else:
            table.to_parquet(out, index=False)
    except OSError as error:
        raise StorageError(f"{out} cannot be written ({error.strerror}).", step="predict") from None
    if as_json:
        print_json({"rows": len(table), "model": model.model_id_, "out": str(out)})
        return
    click.echo(f"{len(table):,} scores written: {out}")
