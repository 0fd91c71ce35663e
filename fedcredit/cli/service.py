"""What the long-running commands share: serving, stopping on signals, pid and port files."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedcredit.errors import ConfigError
from fedcredit.node.certs import check_expiry
from fedcredit.node.config import NodeConfig
from fedcredit.node.logs import setup_logging
from fedcredit.node.party import PartyNode
from fedcredit.node.storage import exclusive

if TYPE_CHECKING:
    from fedcredit.models.backend import Server, ServiceServer

__all__ = ["announce_file", "require_role", "run_node", "stop_on_signals", "warn_of_expiry"]

_WARNING_DAYS = 30


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Call ``stop`` in a thread of its own on SIGTERM or SIGINT, once; restore the handlers."""
    stopper = threading.Thread(target=stop, name="stop")

    def handle(*_: object) -> None:
        # Not here: a handler interrupts whatever the main thread does, which may hold a lock.
        with contextlib.suppress(RuntimeError):  # started already
            stopper.start()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
        if stopper.ident is not None:
            stopper.join()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def announce_file(path: Path | None, content: object) -> Iterator[None]:
    """Write ``content`` to a file, if one is asked for, and remove it in the end."""
    if path is None:
        yield
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(f"{content}\n")
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}).") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def require_role(config: NodeConfig, role: str) -> None:
    """Refuse a configuration file of another role (ConfigError)."""
    if config.role != role:
        raise ConfigError(
            f"{config.path} is a {config.role}'s file; this command needs a {role}'s.",
            party=config.party,
        )


def warn_of_expiry(config: NodeConfig) -> None:
    """Say on standard error which certificates expire soon."""
    for status in check_expiry(config.party, config.certificates()):
        if status.days_left < _WARNING_DAYS:
            click.echo(
                f"warning: the {status.purpose} certificate {status.path} expires in "
                f"{status.days_left} days",
                err=True,
            )


def run_node(
    config: NodeConfig, make_engine: Callable[[], Server | ServiceServer], pid_file: Path | None
) -> None:
    """Serve a party's engine until a signal ends it.

    Parameters
    ----------
    config : NodeConfig
    make_engine : callable
        Called once this process holds the party's storage directory.
    pid_file : Path or None
        Holds the process id meanwhile.
    """
    setup_logging(config.logging)
    warn_of_expiry(config)

    def tell(what: str, detail: str) -> None:
        click.echo(f"{what}: {detail}")
        sys.stdout.flush()

    with exclusive(config.storage, party=config.party), announce_file(pid_file, os.getpid()):
        node = PartyNode.from_config(config, make_engine(), on_event=tell)
        with stop_on_signals(node.stop):
            node.start().run()
