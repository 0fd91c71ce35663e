"""``fedcredit hub``: run the hub at the platform."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

import click

from fedcredit.cli.output import json_option, print_json
from fedcredit.cli.service import announce_file, require_role, stop_on_signals, warn_of_expiry
from fedcredit.node.config import load_config
from fedcredit.node.hub import Hub
from fedcredit.node.logs import setup_logging

__all__ = ["hub"]


@click.group()
def hub() -> None:
    """Run the hub that parties dial out to."""


@hub.command(
    epilog="""\b
Example:
  fedcredit hub start platform.toml --port-file hub.port

Prints one line when it listens. SIGTERM or SIGINT ends it; parties then wait for its return.
The hub keeps nothing: kill and restart it at any time, sessions go on."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--listen", metavar="URI", help="Instead of [hub] listen, e.g. grpc+tls://[::]:8815.")
@click.option("--pid-file", type=click.Path(path_type=Path), help="Holds the process id.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Holds the port.")
@json_option
def start(
    config: Path, listen: str | None, pid_file: Path | None, port_file: Path | None, as_json: bool
) -> None:
    """Start the hub of the platform's CONFIG."""
    settings = load_config(config)
    require_role(settings, "platform")
    setup_logging(settings.logging)
    warn_of_expiry(settings)
    port = settings.hub.uri.rpartition(":")[2]
    address = listen or settings.hub.listen or f"grpc+tls://0.0.0.0:{port}"
    admitted = [settings.party, *settings.hub.parties, *settings.service.institutions]
    running = Hub(address, settings.load_tls(), list(dict.fromkeys(admitted)))
    stop = threading.Event()
    with (
        stop_on_signals(stop.set),
        announce_file(pid_file, os.getpid()),
        announce_file(port_file, running.port),
    ):
        if as_json:
            print_json({"port": running.port, "pid": os.getpid()})
        else:
            click.echo(f"hub listens on port {running.port}")
        sys.stdout.flush()
        stop.wait()
        clean = running.stop()
    if not clean:
        # Flight would wait for the streams of parties that do not leave, without end.
        logging.shutdown()
        os._exit(0)
