"""``fedcredit institution``: admit institutions to this party's answers, stop and release them."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.errors import InputError
from fedcredit.governance.question import PURPOSES
from fedcredit.node.config import load_config

if TYPE_CHECKING:
    from fedcredit.governance.ledger import Ledger

__all__ = ["institution"]

_DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def institution() -> None:
    """Admit, suspend and release the institutions that ask about enterprises."""


def _ledger(path: Path, *, must_exist: bool = False) -> AbstractContextManager[Ledger]:
    from fedcredit.node.governing import using_ledger

    return using_ledger(load_config(path), must_exist=must_exist)


@institution.command(
    epilog="""\b
Example:
  fedcredit institution onboard tax.toml bank --assessment DSA-2026-017 \\
      --document assessment.pdf --assessed 2026-10-05 --expires 2027-10-05 \\
      --purpose credit_granting --purpose post_loan_monitoring

The same command with a new assessment renews it. A suspension stays. Dates are days of UTC; on
the day of --expires the assessment is no longer good."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--assessment", required=True, help="Reference of its security assessment.")
@click.option(
    "--document",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The assessment's document; its SHA-256 is kept.",
)
@click.option("--assessed", required=True, type=_DAY, help="Day of the assessment.")
@click.option("--expires", required=True, type=_DAY, help="Day on which it expires.")
@click.option(
    "--purpose",
    "purposes",
    multiple=True,
    required=True,
    type=click.Choice(list(PURPOSES)),
    help="What it may ask for. Repeat.",
)
@json_option
def onboard(
    config: Path,
    name: str,
    assessment: str,
    document: Path | None,
    assessed: datetime,
    expires: datetime,
    purposes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Admit NAME on the strength of its security assessment, or renew it."""
    from fedcredit.governance.institutions import onboard as admit

    digest = None if document is None else _digest(document)
    with _ledger(config) as ledger, ledger.transaction() as tx:
        admit(
            tx,
            name,
            assessment=assessment,
            assessed=assessed.replace(tzinfo=UTC).timestamp(),
            expires=expires.replace(tzinfo=UTC).timestamp(),
            purposes=purposes,
            now=time.time(),
            digest=digest,
        )
    if as_json:
        print_json({"name": name, "document": digest and digest.hex()})
    else:
        click.echo(f"{name} is admitted until {expires:%Y-%m-%d}")


@institution.command(
    "list",
    epilog="""\b
Example:
  fedcredit institution list tax.toml""",
)
@click.argument("config", type=click.Path(path_type=Path))
@json_option
def list_(config: Path, as_json: bool) -> None:
    """List the institutions with their assessments and suspensions."""
    from fedcredit.governance.institutions import list_institutions

    with _ledger(config, must_exist=True) as ledger, ledger.reading() as connection:
        found = list_institutions(connection)
    if as_json:
        print_json(
            [
                {
                    **dataclasses.asdict(item),
                    "assessment_digest": item.assessment_digest and item.assessment_digest.hex(),
                    "assessed": _iso(item.assessed),
                    "expires": _iso(item.expires),
                    "suspended": _iso(item.suspended),
                }
                for item in found
            ]
        )
        return
    now = time.time()
    rows = [
        (
            item.name,
            _state(item.suspended, item.suspended_why, item.suspended_by, item.expires <= now),
            item.assessment,
            _day(item.expires),
            ", ".join(item.purposes),
        )
        for item in found
    ]
    print_table("Institutions", ["name", "state", "assessment", "expires", "purposes"], rows)


@institution.command(
    epilog="""\b
Example:
  fedcredit institution suspend tax.toml bank --why "incident 2026-44 under investigation"

Every question of it is refused from then on; it reads the reason."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--why", required=True, help="The reason; the institution reads it.")
@click.option("--by", default=getpass.getuser, show_default="login name", help="Who decides it.")
def suspend(config: Path, name: str, why: str, by: str) -> None:
    """Stop every answer to NAME."""
    from fedcredit.governance.institutions import suspend as stop

    with _ledger(config) as ledger, ledger.transaction() as tx:
        stop(tx, name, why=why, by=by, now=time.time())
    click.echo(f"{name} is suspended")


@institution.command(
    epilog="""\b
Example:
  fedcredit institution release tax.toml bank --why "portfolio review, confirmed by phone"

What was asked about single enterprises stays counted: a search for a value cannot go on."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--why", required=True, help="The reason; kept with the alarms.")
@click.option("--by", default=getpass.getuser, show_default="login name", help="Who decides it.")
def release(config: Path, name: str, why: str, by: str) -> None:
    """End NAME's suspension."""
    from fedcredit.governance.institutions import release as let

    with _ledger(config) as ledger, ledger.transaction() as tx:
        number = let(tx, name, why=why, by=by, now=time.time())
    click.echo(f"{name} is released ({number} alarm{'s' if number != 1 else ''})")


@institution.command(
    epilog="""\b
Examples:
  fedcredit institution alarms tax.toml --open
  fedcredit institution alarms tax.toml --institution bank --json

Ends with code 2 if --open finds one, for use in monitoring."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--institution", "name", help="Only this institution's.")
@click.option("--open", "open_only", is_flag=True, help="Only those that suspend somebody now.")
@json_option
@click.pass_context
def alarms(
    ctx: click.Context, config: Path, name: str | None, open_only: bool, as_json: bool
) -> None:
    """List what the rules noticed, newest first."""
    from fedcredit.governance.alarms import list_alarms

    with _ledger(config, must_exist=True) as ledger, ledger.reading() as connection:
        found = list_alarms(connection, institution=name, open_only=open_only)
    if as_json:
        print_json(
            [
                {**dataclasses.asdict(a), "time": _iso(a.time), "released": _iso(a.released)}
                for a in found
            ]
        )
    else:
        rows = [
            (
                f"{datetime.fromtimestamp(a.time, UTC):%Y-%m-%d %H:%M}",
                a.institution,
                a.code,
                a.detail,
                a.raised_by,
                "" if not a.suspends else _released(a.released, a.released_by, a.released_why),
            )
            for a in found
        ]
        columns = ["time (UTC)", "institution", "alarm", "detail", "by", "suspension"]
        print_table("Alarms", columns, rows)
    if open_only and found:
        ctx.exit(2)


def _digest(document: Path) -> bytes:
    try:
        with document.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InputError(
            f"{document} cannot be read ({error.strerror}).", step="institution"
        ) from None


def _state(since: float | None, why: str | None, by: str | None, expired: bool) -> str:
    if since is not None:
        return f"suspended {_day(since)} by {by}: {why}"
    return "assessment expired" if expired else "admitted"


def _released(since: float | None, by: str | None, why: str | None) -> str:
    return "open" if since is None else f"released {_day(since)} by {by}: {why}"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
