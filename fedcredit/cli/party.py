"""``fedcredit party``: run a data provider's process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedcredit.cli.service import announce_file, require_role, stop_on_signals, warn_of_expiry
from fedcredit.node.config import NodeConfig, load_config
from fedcredit.node.logs import setup_logging
from fedcredit.node.party import PartyNode
from fedcredit.node.storage import DirectoryStore, exclusive
from fedcredit.node.tables import read_data

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine

__all__ = ["make_engine", "party"]


@click.group()
def party() -> None:
    """Run a data provider."""


def make_engine(config: NodeConfig) -> ProviderEngine:
    """Read a provider's table and make the engine that serves it."""
    from fedcredit.models.engine import ProviderEngine

    assert config.data is not None  # load_config refuses a provider without data
    return ProviderEngine(
        config.party,
        read_data(config.data, party=config.party),
        store=DirectoryStore(config.storage, party=config.party),
        policy=config.policy(),
        id_column=config.data.id_column,
        id_kind=config.data.id_kind,
        categorical=config.data.categorical,
        threads=config.threads or os.cpu_count() or 1,
    )


@party.command(
    epilog="""\b
Example:
  fedcredit party start tax.toml

Dials out to the hub, waits for it if it is away, and serves the sessions that the coordinators in
[policy] open. SIGTERM or SIGINT ends it; models and checkpoints stay in [storage]."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--pid-file", type=click.Path(path_type=Path), help="Holds the process id.")
def start(config: Path, pid_file: Path | None) -> None:
    """Start the provider of CONFIG."""
    settings = load_config(config)
    require_role(settings, "provider")
    setup_logging(settings.logging)
    warn_of_expiry(settings)

    def tell(what: str, detail: str) -> None:
        click.echo(f"{what}: {detail}")
        sys.stdout.flush()

    with exclusive(settings.storage, party=settings.party), announce_file(pid_file, os.getpid()):
        node = PartyNode.from_config(settings, make_engine(settings), on_event=tell)
        with stop_on_signals(node.stop):
            node.start().run()
