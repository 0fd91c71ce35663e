"""``fedcredit align``: match the rows of all parties privately."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedcredit.cli.bars import federation_bars
from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.cli.platform import open_platform

if TYPE_CHECKING:
    from fedcredit.models.frame import FederatedFrame

__all__ = ["align", "print_match"]


def print_match(frame: FederatedFrame) -> None:
    """Print what became of every party's rows."""

    def shown(value: object) -> str:
        return f"{value:,}" if isinstance(value, int) else "–"

    print_table(
        f"{len(frame):,} enterprises are known to all parties",
        ["party", "rows", "blank", "duplicate", "unusable", "distinct", "matched", "rate"],
        [
            (
                m.party,
                *map(shown, (m.rows, m.blank, m.duplicate, m.unusable, m.distinct, m.matched)),
                f"{m.match_rate:.1%}" if m.match_rate is not None else "–",
            )
            for m in frame.match
        ],
    )


@click.command(
    epilog="""\b
Example:
  fedcredit align platform.toml --name pilot
  fedcredit train platform.toml --frame pilot

The alignment is kept by every party under its name, so that several models can use it."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the alignment at all parties (default: random).")
@click.option(
    "--strategy",
    default="private",
    show_default=True,
    type=click.Choice(["private", "pairwise", "cached"]),
    help="Protocol; 'private' shows no pairwise intersection.",
)
@click.option("--min-intersection", default=1, show_default=True, help="Abort below so many rows.")
@json_option
def align(
    config: Path, name: str | None, strategy: str, min_intersection: int, as_json: bool
) -> None:
    """Match the rows of the platform of CONFIG with those of all providers."""
    with open_platform(config) as (_, federation), federation_bars(federation):
        frame = federation.align(strategy=strategy, min_intersection=min_intersection, name=name)
    if as_json:
        rows = frame.match_report.reset_index().to_dict("records")
        print_json({"frame": frame.frame_id, "rows": len(frame), "match": rows})
        return
    print_match(frame)
    click.echo(f"alignment {frame.frame_id}")
