"""A federation over real nodes, as a platform's configuration file says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedcredit.errors import ConfigError
from fedcredit.models.federation import Federation
from fedcredit.node.config import NodeConfig, load_config
from fedcredit.node.remote import Event, RemoteBackend
from fedcredit.node.storage import DirectoryStore
from fedcredit.node.tables import read_data

__all__ = ["connect", "open_federation"]


def connect(config: str | Path) -> Federation:
    """Connect to real nodes as a platform's configuration file says.

    Parameters
    ----------
    config : str or Path
        The platform's TOML file.

    Returns
    -------
    Federation
        Close it, or use it as a context manager, when done.

    Raises
    ------
    ConfigError
        The file or a certificate cannot be used.
    InputError
        The table cannot be used.
    """
    return open_federation(load_config(config))


def open_federation(
    config: NodeConfig,
    *,
    on_event: Callable[[Event], None] | None = None,
    on_message: Callable[[], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Federation:
    """Connect as a platform's configuration says.

    Parameters
    ----------
    config : NodeConfig
        With ``role = "platform"`` and a ``[data]`` section.
    on_event, on_message, on_progress : callable, optional
        Told what happens to the link, after every message, and how far a step is.

    Raises
    ------
    ConfigError
        The configuration is a provider's, names no data, or a certificate cannot be used.
    InputError
        The table cannot be used.
    """
    if config.role != "platform":
        raise ConfigError(
            f"{config.path.name} is the configuration of a provider.",
            party=config.party,
            step="connect",
            fix="name the platform's file",
        )
    if config.data is None:
        raise ConfigError(
            f"{config.path.name} names no data.",
            party=config.party,
            step="connect",
            fix="add a [data] section",
        )
    table = read_data(config.data, party=config.party)
    store = DirectoryStore(config.storage, party=config.party)
    backend = RemoteBackend.from_config(config, on_event=on_event, on_message=on_message)
    try:
        federation = Federation(backend, table, store=store, categorical=config.data.categorical)
    except BaseException:
        backend.close()
        raise
    federation.default_key = config.data.id_column
    federation.default_id_kind = config.data.id_kind
    if on_progress is not None:
        federation.on_progress = on_progress
    return federation
