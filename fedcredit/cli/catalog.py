"""``fedcredit catalog``: draft, check and show a party's field catalog."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.errors import ConfigError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from fedcredit.governance.catalog import Catalog

__all__ = ["catalog"]

_PATH = click.Path(path_type=Path)


@click.group()
def catalog() -> None:
    """Draft, check and show the catalog of what a party's fields may be used for."""


@catalog.command(
    epilog="""\b
Example:
  fedcredit catalog draft --data tax.parquet --provider tax --out catalog.toml

No value of the table goes into the file. Review every field before the party is started."""
)
@click.option("--data", required=True, type=_PATH, help="The party's table.")
@click.option("--provider", required=True, help="The party's name.")
@click.option("--id-column", default="uscc", show_default=True)
@click.option("--categorical", multiple=True, help="A numeric column that is a category. Repeat.")
@click.option("--withhold", multiple=True, help="A column that is never shared. Repeat.")
@click.option("--out", type=_PATH, help="Write here instead of to standard output.")
def draft(
    data: Path,
    provider: str,
    id_column: str,
    categorical: tuple[str, ...],
    withhold: tuple[str, ...],
    out: Path | None,
) -> None:
    """Draft a catalog from a table."""
    from fedcredit.governance.catalog import Catalog
    from fedcredit.governance.section import check_party_name

    check_party_name(provider)
    frame = _read(data, [id_column, *categorical], provider)
    for name in (id_column, *categorical, *withhold):
        if name not in frame.columns:
            raise InputError(
                f"{data} has no column {name!r}.",
                party=provider,
                step="catalog",
                fix="correct --id-column, --categorical or --withhold",
            )
    text = Catalog.draft(
        frame, provider=provider, key=id_column, categorical=categorical, withheld=withhold
    )
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        # A reviewed catalog must not be lost to a second draft.
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written ({error.strerror}).", party=provider, step="catalog"
        ) from None
    click.echo(f"{out}: {len(frame.columns)} fields to review")


@catalog.command(
    epilog="""\b
Examples:
  fedcredit catalog check catalog.toml --data tax.parquet
  fedcredit catalog check --config tax.toml

Exit code 0 if the catalog can be used, also with notes; 2 if it cannot be read, or does not fit the
table."""
)
@click.argument("file", type=_PATH, required=False)
@click.option("--data", type=_PATH, help="Compare with this table.")
@click.option("--config", type=_PATH, help="Compare with the table in the party's configuration.")
@json_option
def check(file: Path | None, data: Path | None, config: Path | None, as_json: bool) -> None:
    """Check a catalog's syntax and rules, and compare it with the party's table."""
    from fedcredit.governance.catalog_draft import check_catalog

    if data is not None and config is not None:
        raise click.UsageError("give --data or --config, not both")
    if file is None and config is None:
        raise click.UsageError("name a catalog file, or a configuration with --config")
    entries, frame = _catalog_and_table(file, data, config)
    found = check_catalog(entries, frame)
    errors = [finding for finding in found if finding.level == "error"]
    if as_json:
        print_json(
            {
                "provider": entries.provider,
                "version": entries.version,
                "digest": entries.digest,
                "fields": len(entries.fields),
                "predicates": len(entries.predicates()),
                "findings": [finding._asdict() for finding in found],
            }
        )
    else:
        for level, name, text in found:
            click.echo(f"{level}: {f'{name!r} ' if name else ''}{text}")
        click.echo(
            f"{len(entries.fields)} fields, {len(entries.predicates())} predicates, "
            f"{len(errors)} errors, {len(found) - len(errors)} notes"
        )
    if errors:
        raise ConfigError(
            "the catalog does not fit the table.",
            party=entries.provider,
            step="catalog",
            fix="correct the catalog or the table",
        )


@catalog.command(
    epilog="""\b
Examples:
  fedcredit catalog show catalog.toml
  fedcredit catalog show catalog.toml --field annual_paid"""
)
@click.argument("file", type=_PATH)
@click.option("--field", "name", help="Everything about this field, with its predicates.")
@json_option
def show(file: Path, name: str | None, as_json: bool) -> None:
    """Show the fields of a catalog, and what each may be used for."""
    from fedcredit.governance.catalog import Catalog

    entries = Catalog.load(file)
    if name is not None:
        _show_field(entries, name, as_json)
        return
    if as_json:
        print_json({**entries.to_dict(), "digest": entries.digest})
        return
    rows = [
        (
            entry.name,
            entry.type,
            entry.unit,
            entry.grade,
            entry.sharing,
            ", ".join(_open_uses(entries, entry.name)) or "nothing",
            entry.min_aggregation,
            entry.reason_grain,
            len(entry.predicates),
        )
        for entry in entries.fields.values()
    ]
    columns = ("field", "type", "unit", "grade", "sharing", "open for", "rows", "reasons", "menu")
    print_table(f"{entries.provider}, version {entries.version}", columns, rows)
    click.echo(f"digest {entries.digest}")


def _show_field(entries: Catalog, name: str, as_json: bool) -> None:
    from fedcredit.governance.catalog_fields import GRADES

    if name not in entries.fields:
        raise InputError(
            f"the catalog has no field {name!r}.",
            party=entries.provider,
            step="catalog",
            fix="use a field that `fedcredit catalog show` lists",
        )
    entry = entries.fields[name]
    plain: dict[str, Any] = {**entry.to_dict(), "open_for": _open_uses(entries, name)}
    if as_json:
        print_json({"field": name, **plain})
        return
    plain["grade"] = f"{entry.grade}: {GRADES[entry.grade]}"
    del plain["predicates"]
    rows = [(k, ", ".join(v) if isinstance(v, list) else v) for k, v in plain.items()]
    print_table(f"{entries.provider}: {name}", ("setting", "value"), rows)
    if entry.predicates:
        menu = [(p.id, p.describe(), _menu(p)) for p in entry.predicates]
        print_table("predicates", ("id", "text", "menu"), menu)


def _menu(predicate: Any) -> str:
    from fedcredit.governance.predicate_values import scalar_text

    if predicate.tolerances:
        steps = ", ".join(map(str, predicate.tolerances))
        return f"{steps} steps of {scalar_text(predicate.resolution)}"
    return ", ".join(map(scalar_text, predicate.thresholds or predicate.values))


def _open_uses(entries: Catalog, name: str) -> list[str]:
    from fedcredit.governance.catalog_fields import USES

    return [use for use in USES if entries.fields[name].denial(use) is None]


def _catalog_and_table(
    file: Path | None, data: Path | None, config: Path | None
) -> tuple[Catalog, pd.DataFrame | None]:
    from fedcredit.governance.catalog import Catalog

    if config is not None:
        from fedcredit.node.config import load_config
        from fedcredit.node.tables import read_data

        settings = load_config(config)
        entries = settings.catalog() if file is None else Catalog.load(file)
        if settings.data is None:
            return entries, None
        return entries, read_data(settings.data, party=settings.party)
    assert file is not None
    entries = Catalog.load(file)
    if data is None:
        return entries, None
    texts = [name for name, entry in entries.fields.items() if entry.type in ("id", "category")]
    return entries, _read(data, texts, entries.provider)


def _read(path: Path, text_columns: list[str], party: str) -> pd.DataFrame:
    from fedcredit.node.tables import read_table

    frame: pd.DataFrame = read_table(path, text_columns=text_columns, party=party).to_pandas()
    return frame
