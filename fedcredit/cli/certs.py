"""``fedcredit certs``: make a test federation's certificates, check anybody's."""

from __future__ import annotations

from pathlib import Path

import click

from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.node.certs import check_expiry
from fedcredit.node.config import load_config
from fedcredit.node.pki import make_federation

__all__ = ["certs"]


@click.group()
def certs() -> None:
    """Make and check certificates."""


@certs.command(
    epilog="""\b
Example:
  fedcredit certs make pki --party platform --party tax --host platform.example

Every party receives its own directory and nothing else. Keep the CA's key (ca/ca.key) off the
machines of the parties; a production federation uses the CA that its members trust."""
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--party", "parties", multiple=True, required=True, help="A party's name. Repeat.")
@click.option("--host", "hosts", multiple=True, help="Host name or address of a party. Repeat.")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650))
@json_option
def make(
    directory: Path, parties: tuple[str, ...], hosts: tuple[str, ...], days: int, as_json: bool
) -> None:
    """Make a CA and every party's TLS and signing certificates in DIRECTORY."""
    made = make_federation(directory, parties, hosts=("localhost", "127.0.0.1", *hosts), days=days)
    if as_json:
        print_json({name: str(files.certificate.parent) for name, files in made.items()})
        return
    for name, files in made.items():
        click.echo(f"{name}: {files.certificate.parent}")


@certs.command(
    epilog="""\b
Example:
  fedcredit certs check tax.toml --warn 60

Ends with code 2 if a certificate cannot be used or expires within the days of --warn."""
)
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--warn", default=30, show_default=True, help="Days before expiry.")
@json_option
@click.pass_context
def check(ctx: click.Context, configs: tuple[Path, ...], warn: int, as_json: bool) -> None:
    """Check the certificates that configuration files name."""
    found = []
    for path in configs:
        config = load_config(path)
        config.load_tls()
        config.load_signing()
        found += check_expiry(config.party, config.certificates())
    if as_json:
        print_json(
            [
                {
                    "party": status.party,
                    "purpose": status.purpose,
                    "path": str(status.path),
                    "expires": status.expires.isoformat(),
                    "days_left": status.days_left,
                }
                for status in found
            ]
        )
    else:
        rows = [(s.party, s.purpose, f"{s.expires:%Y-%m-%d}", s.days_left, s.path) for s in found]
        print_table("Certificates", ["party", "purpose", "expires", "days left", "file"], rows)
    soon = [status for status in found if status.days_left < warn]
    for status in soon:
        click.echo(
            f"warning: {status.party}'s {status.purpose} certificate expires in "
            f"{status.days_left} days",
            err=True,
        )
    if soon:
        ctx.exit(2)
