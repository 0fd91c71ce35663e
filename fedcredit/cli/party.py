"""``fedcredit party``: run a data provider's process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedcredit.cli.service import require_role, run_node
from fedcredit.node.config import NodeConfig, load_config
from fedcredit.node.governing import data_date, open_gate
from fedcredit.node.storage import DirectoryStore
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
    catalog = config.catalog()
    engine = ProviderEngine(
        config.party,
        read_data(config.data, party=config.party),
        catalog=catalog,
        store=DirectoryStore(config.storage, party=config.party),
        policy=config.policy(),
        id_column=config.data.id_column,
        id_kind=config.data.id_kind,
        categorical=config.data.categorical,
        threads=config.threads or os.cpu_count() or 1,
    )
    engine.govern(open_gate(config), config.load_signing().identity, as_of=data_date(config))
    return engine


@party.command(
    epilog="""\b
Example:
  fedcredit party start tax.toml

Dials out to the hub, waits for it if it is away, and serves the sessions that the coordinators in
[policy] and the institutions in [service] open. SIGTERM or SIGINT ends it; models and checkpoints
stay in [storage]."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--pid-file", type=click.Path(path_type=Path), help="Holds the process id.")
def start(config: Path, pid_file: Path | None) -> None:
    """Start the provider of CONFIG."""
    settings = load_config(config)
    require_role(settings, "provider")
    run_node(settings, lambda: make_engine(settings), pid_file)
