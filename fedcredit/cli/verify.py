"""``fedcredit verify``: ask a provider a yes-or-no question about an enterprise."""

from __future__ import annotations

from pathlib import Path

import click

from fedcredit.cli.institution_side import consent_text, open_institution
from fedcredit.cli.output import json_option, print_json
from fedcredit.cli.platform import check_target
from fedcredit.errors import StorageError

__all__ = ["verify"]

_FILE = click.Path(path_type=Path)


def _threshold(_: click.Context, __: click.Parameter, value: str | None) -> float | str | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number


@click.command(
    epilog="""\b
Examples:
  fedcredit verify bank.toml --subject 91330106MA2CFG0X3T --consent token.jwt \\
      --provider tax --predicate paid_at_least --threshold 500000
  fedcredit verify bank.toml --subject 91330106MA2CFG0X3T --consent token.jwt \\
      --provider tax --predicate declared_paid --declaration declared.json --tolerance 5

The answer is signed by the provider and written with --out, with what an auditor needs to check
it. Exit code 0: answered, whatever the answer; 3: refused."""
)
@click.argument("config", type=_FILE)
@click.option("--subject", required=True, help="Unified social credit code.")
@click.option("--consent", required=True, help="Its token, or a file that holds it.")
@click.option("--provider", required=True)
@click.option("--predicate", required=True, help="Its id in the provider's catalog.")
@click.option("--threshold", callback=_threshold, help="From the predicate's menu.")
@click.option("--declaration", type=_FILE, help="A declaration with its openings.")
@click.option("--declared", type=int, help="A value in steps, where no declaration is needed.")
@click.option("--field", default="", help="Which figure of the declaration.")
@click.option("--tolerance", type=click.IntRange(0, 64), help="In steps, from the menu.")
@click.option("--purpose", default="credit_granting", show_default=True)
@click.option("--out", type=_FILE, help="Write the signed answer (JSON).")
@json_option
def verify(
    config: Path,
    subject: str,
    consent: str,
    provider: str,
    predicate: str,
    threshold: float | str | None,
    declaration: Path | None,
    declared: int | None,
    field: str,
    tolerance: int | None,
    purpose: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Ask a provider a question of its menu, as the institution of CONFIG."""
    from fedcredit.governance.declaration import Declaration

    check_target(out, "--out")
    value: object = declared
    if declaration is not None:
        value = Declaration.load(declaration)
    with open_institution(config) as bank:
        result = bank.verify(
            subject,
            consent_text(consent),
            provider=provider,
            predicate=predicate,
            threshold=threshold,
            declared=value,
            field=field,
            tolerance=tolerance,
            purpose=purpose,
        )
    if out is not None:
        try:
            out.write_text(result.to_json())
        except OSError as error:
            raise StorageError(f"{out} cannot be written ({error.strerror}).") from None
    if as_json:
        print_json(result.to_dict())
    else:
        click.echo(f"{result.outcome.replace('_', ' ')}: {result.text}")
        click.echo(f"signed by {result.provider}, data as of {result.as_of or 'unknown'}")
