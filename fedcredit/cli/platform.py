"""What the platform's commands share: the connection and the choice of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click

from fedcredit.cli.service import require_role, warn_of_expiry
from fedcredit.models.federation import Federation
from fedcredit.models.frame import FederatedFrame
from fedcredit.node.config import NodeConfig, load_config
from fedcredit.node.connect import open_federation
from fedcredit.node.logs import setup_logging
from fedcredit.node.remote import Event

__all__ = ["choose_frame", "open_platform"]

#: Events of the connection that a person should see.
_TOLD = {"refused", "lost", "reopening", "disconnected"}


@contextlib.contextmanager
def open_platform(config: Path) -> Iterator[tuple[NodeConfig, Federation]]:
    """Connect as the platform of a configuration file; disconnect at the end."""
    settings = load_config(config)
    require_role(settings, "platform")
    setup_logging(settings.logging)
    warn_of_expiry(settings)

    def tell(event: Event) -> None:
        if event.kind in _TOLD:
            click.echo(f"{event.kind}: {event.text}", err=True)

    with open_federation(settings, on_event=tell) as federation:
        yield settings, federation


def choose_frame(federation: Federation, name: str | None) -> FederatedFrame:
    """Return the named alignment, or align now."""
    return federation.frame(name) if name is not None else federation.align()
