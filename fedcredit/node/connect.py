"""A federation over real nodes, as the configuration file of a platform or institution says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fedcredit.errors import ConfigError
from fedcredit.models.federation import Federation
from fedcredit.models.scoring.institution import Institution
from fedcredit.node.config import NodeConfig, load_config
from fedcredit.node.conversation import connect_institution
from fedcredit.node.governing import open_ledger, witnessed_log
from fedcredit.node.remote import Event, RemoteBackend
from fedcredit.node.storage import DirectoryStore
from fedcredit.node.tables import read_data

__all__ = ["connect", "institution_of", "open_federation"]


def connect(config: str | Path) -> Federation | Institution:
    """Connect to real nodes as a configuration file says.

    Parameters
    ----------
    config : str or Path
        The TOML file of the platform or of an institution.

    Returns
    -------
    Federation or Institution
        By the file's ``role``. Close it, or use it as a context manager, when done.

    Raises
    ------
    ConfigError
        The file or a certificate cannot be used.
    InputError
        The table cannot be used.
    """
    settings = load_config(config)
    return institution_of(settings) if settings.role == "institution" else open_federation(settings)


def institution_of(config: NodeConfig) -> Institution:
    """Connect as an institution's configuration says.

    Raises
    ------
    ConfigError
        It is another role's configuration, or a certificate cannot be used.
    StorageError
        What it witnesses of the parties' audit logs cannot be kept.
    """
    # Before its database is made: another role's file must not get one.
    connection = connect_institution(config)
    try:
        return Institution(connection, ledger=open_ledger(config))
    except BaseException:
        connection.close()
        raise


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
        The configuration is another role's, names no data, or a certificate cannot be used.
    InputError
        The table cannot be used.
    """
    if config.role != "platform":
        raise ConfigError(
            f"{config.path.name} is the configuration of a {config.role}.",
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
    federation.own_log = partial(witnessed_log, config)
    federation.default_key = config.data.id_column
    federation.default_id_kind = config.data.id_kind
    if on_progress is not None:
        federation.on_progress = on_progress
    return federation
