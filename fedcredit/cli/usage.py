"""``fedcredit usage``: who used this party's data for what, how often, and to what effect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.errors import StorageError
from fedcredit.node.config import load_config

if TYPE_CHECKING:
    from fedcredit.models.report.usage_data import UsageReport

__all__ = ["usage"]

_MOST_ROWS = 40


@click.command(
    epilog="""\b
Examples:
  fedcredit usage tax.toml
  fedcredit usage tax.toml --since 2026-10-01 --until 2026-11-01 --html october.html
  fedcredit usage tax.toml --institution bank --field annual_paid --csv bank.csv

Days are those of UTC; --until is the first day that does not count."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="First day.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Day after the last.")
@click.option("--institution", help="Only uses by this party.")
@click.option("--field", help="Only uses of this field.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="The table as CSV.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Report with figures.")
@json_option
def usage(
    config: Path,
    since: datetime | None,
    until: datetime | None,
    institution: str | None,
    field: str | None,
    csv_path: Path | None,
    html_path: Path | None,
    as_json: bool,
) -> None:
    """Report the use of the data of CONFIG's party."""
    from fedcredit.models.report.usage_data import collect
    from fedcredit.node.governing import using_ledger

    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    node = load_config(config)
    with using_ledger(node, must_exist=True) as ledger:
        report = collect(
            ledger,
            party=node.party,
            created=datetime.now(UTC),
            since=None if since is None else since.replace(tzinfo=UTC),
            until=None if until is None else until.replace(tzinfo=UTC),
            institution=institution,
            field=field,
        )
    if csv_path is not None:
        with _written(csv_path):
            report.usage.to_csv(csv_path, index=False)
    if html_path is not None:
        with _written(html_path):
            report.to_html(html_path)
    if as_json:
        print_json(report.to_json())
    elif csv_path is None and html_path is None:
        _print(report)
    else:
        for path in filter(None, (csv_path, html_path)):
            click.echo(str(path))


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}).", step="write the report"
        ) from None


def _print(report: UsageReport) -> None:
    from fedcredit.models.report.text import ABSENT, name

    frame = report.usage
    if frame.empty:
        click.echo(f"The data of {report.party} were not used in this period.")
        return
    rows = [
        (
            name(row.field),
            name(row.institution),
            name(row.purpose),
            name(f"{row.use} {row.target}".strip()),
            row.questions,
            row.refused,
            row.enterprises,
            ABSENT if row.measure != row.measure else f"{row.contribution:.3g} {row.measure}",
        )
        for row in frame[:_MOST_ROWS].itertuples()
    ]
    columns = ["field", "by", "purpose", "use", "times", "refused", "enterprises", "contribution"]
    print_table(f"Use of the data of {report.party}", columns, rows)
    if len(frame) > len(rows):
        click.echo(f"{len(frame) - len(rows)} more rows: --csv FILE writes all")
