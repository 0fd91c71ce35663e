"""What the platform's commands share: the connection and the choice of rows."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedcredit.cli.bars import CONSOLE
from fedcredit.cli.service import require_role, warn_of_expiry
from fedcredit.errors import ConfigError
from fedcredit.node.config import LoggingConfig, NodeConfig, load_config
from fedcredit.node.logs import setup_logging

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation
    from fedcredit.models.frame import FederatedFrame
    from fedcredit.node.remote import Event

__all__ = ["check_target", "choose_frame", "open_platform", "say"]

#: Events of a session that a person should see; the log tells those of the connection.
_TOLD = {"lost": "the session was lost", "reopening": "it is opened again"}


def say(text: str) -> None:
    """Print a line on standard error, above a bar if one is shown."""
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


class _TerminalHandler(logging.Handler):
    """Prints log lines for a person."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the level and the message."""
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def _setup_logging(config: LoggingConfig) -> None:
    """Log as configured; on the terminal of a person only what is out of the ordinary."""
    if config.file is not None or config.json:
        setup_logging(config)
        return
    level = "WARNING" if config.level == "INFO" else config.level
    setup_logging(dataclasses.replace(config, level=level))
    logging.getLogger("fedcredit").handlers[:] = [_TerminalHandler()]


@contextlib.contextmanager
def open_platform(
    config: Path, on_event: Callable[[Event], None] | None = None
) -> Iterator[tuple[NodeConfig, Federation]]:
    """Connect as the platform of a configuration file; disconnect at the end.

    Parameters
    ----------
    config : Path
    on_event : callable, optional
        Told what happens to the sessions.
    """
    settings = load_config(config)
    require_role(settings, "platform")
    # Everything numeric comes with it: a command that fails before should fail at once.
    from fedcredit.node.connect import open_federation

    _setup_logging(settings.logging)
    warn_of_expiry(settings)

    def tell(event: Event) -> None:
        if event.kind in _TOLD:
            say(f"{_TOLD[event.kind]}: {event.text}")
        if on_event is not None:
            on_event(event)

    with open_federation(settings, on_event=tell) as federation:
        federation.on_note = say
        yield settings, federation


def check_target(path: Path | None, option: str) -> None:
    """Refuse a file that cannot be written later, before hours of work (ConfigError)."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(
            f"{path} cannot be written.",
            step="check the options",
            fix=f"name a file in an existing directory with {option}",
        )


def choose_frame(federation: Federation, name: str | None) -> FederatedFrame:
    """Return the named alignment, or align now."""
    return federation.frame(name) if name is not None else federation.align()
