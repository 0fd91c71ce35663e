"""``fedcredit serve``: run the platform's service for institutions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedcredit.cli.service import require_role, run_node
from fedcredit.errors import ConfigError
from fedcredit.node.config import NodeConfig, load_config
from fedcredit.node.storage import DirectoryStore
from fedcredit.node.tables import read_data

if TYPE_CHECKING:
    from fedcredit.models.backend import ServiceServer

__all__ = ["make_platform_server", "serve"]


def make_platform_server(config: NodeConfig) -> ServiceServer:
    """Make what answers institutions at the platform."""
    from fedcredit.models.scoring.platform_server import PlatformServer
    from fedcredit.node.governing import data_date, open_gate

    if config.data is None:
        raise ConfigError(
            f"{config.path} names no data.",
            party=config.party,
            step="serve",
            fix="add a [data] section",
        )
    return PlatformServer(
        config.party,
        read_data(config.data, party=config.party),
        store=DirectoryStore(config.storage, party=config.party),
        gate=open_gate(config),
        identity=config.load_signing().identity,
        id_column=config.data.id_column,
        id_kind=config.data.id_kind,
        as_of=data_date(config),
        categorical=config.data.categorical,
    )


@click.command(
    epilog="""\b
Example:
  fedcredit serve platform.toml

Dials out to the hub, waits for it if it is away, and serves the sessions that the institutions in
[service] open. Training, scorecards and other commands of the platform run beside it. SIGTERM or
SIGINT ends it."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--pid-file", type=click.Path(path_type=Path), help="Holds the process id.")
def serve(config: Path, pid_file: Path | None) -> None:
    """Run the platform's service for institutions."""
    settings = load_config(config)
    require_role(settings, "platform")
    if not settings.service.institutions:
        raise ConfigError(
            f"{settings.path} names no institutions to serve.",
            party=settings.party,
            step="serve",
            fix='add [service] institutions = ["..."]; the hub must be started again to admit them',
        )
    run_node(settings, lambda: make_platform_server(settings), pid_file)
