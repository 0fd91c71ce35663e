"""A party's TOML file as frozen dataclasses.

One shape serves the platform and the providers::

    party = "tax"
    role = "provider"                      # or "platform"

    [hub]
    uri = "grpc+tls://platform.example:8815"
    name = "platform"                      # whose certificate the hub must show
    # platform only:
    # listen = "grpc+tls://0.0.0.0:8815"
    # parties = ["tax", "social_security"] # who is admitted besides the platform

    [tls]
    certificate = "tls.pem"                # paths are relative to this file
    key = "tls.key"
    ca = "ca.pem"

    [signing]
    certificate = "signing.pem"
    key = "signing.key"

    [data]
    path = "tax.parquet"                   # .parquet, .csv, .arrow, .feather
    id_column = "uscc"
    id_kind = "uscc"                       # or "text"
    # features = ["annual_paid"]           # default: every column but the id and the label
    # categorical = ["industry"]
    # label = "default"                    # platform only

    [policy]                               # provider only
    coordinators = ["platform"]            # who may open sessions
    min_intersection = 50

    [storage]
    directory = "state"

Unknown keys are refused, so that a misspelt limit is noticed.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from fedcredit.errors import ConfigError
from fedcredit.node.certs import Credentials, TlsMaterial, load_signing, load_tls
from fedcredit.node.connection import check_uri
from fedcredit.node.section import READ_STEP, Section

if TYPE_CHECKING:
    from fedcredit.models.policy import ProviderPolicy

__all__ = [
    "CertificatePaths",
    "DataConfig",
    "HubConfig",
    "LoggingConfig",
    "NodeConfig",
    "SessionConfig",
    "load_config",
]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True)
class HubConfig:
    """Where the hub is, and, at the platform, where it listens and whom it admits.

    Attributes
    ----------
    uri : str
        ``grpc+tls://host:port`` to which this party dials out.
    name : str
        The party whose certificate the hub must show.
    listen : str or None
        Address on which ``fedcredit hub start`` listens; by default every address of the
        machine, on the port of ``uri``.
    parties : tuple of str
        The providers (and other parties) that the hub admits besides the platform.
    """

    uri: str
    name: str
    listen: str | None
    parties: tuple[str, ...]


@dataclass(frozen=True)
class CertificatePaths:
    """A certificate with its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class DataConfig:
    """A party's table."""

    path: Path
    id_column: str
    id_kind: str
    features: tuple[str, ...] | None
    categorical: tuple[str, ...]
    label: str | None


@dataclass(frozen=True)
class SessionConfig:
    """Timeouts (seconds) and limits of sessions.

    Attributes
    ----------
    idle_timeout : float
        A session ends when a connected peer owes a message for this long.
    absence_timeout : float
        A session ends when a peer, or the hub, stays away for this long.
    max_sessions : int
        Sessions that a provider serves at a time.
    max_attempts : int
        How often a coordinator opens a session whose provider was lost.
    """

    idle_timeout: float = 1800.0
    absence_timeout: float = 120.0
    max_sessions: int = 8
    max_attempts: int = 5


@dataclass(frozen=True)
class LoggingConfig:
    """Where log lines go: a file, or standard error."""

    level: str = "INFO"
    file: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class NodeConfig:
    """One party's configuration.

    Attributes
    ----------
    path : Path
        The file it came from.
    party, role : str
    hub : HubConfig
    tls, signing : CertificatePaths
    ca : Path
    data : DataConfig or None
    coordinators : tuple of str
        Parties that may open sessions with this provider.
    policy_values : mapping
        The rest of ``[policy]``; see :meth:`policy`.
    storage : Path
        The party's private directory.
    session : SessionConfig
    threads : int or None
        Threads for numeric work; None for all cores.
    logging : LoggingConfig
    """

    path: Path
    party: str
    role: str
    hub: HubConfig
    tls: CertificatePaths
    signing: CertificatePaths
    ca: Path
    data: DataConfig | None
    coordinators: tuple[str, ...]
    policy_values: Mapping[str, Any]
    storage: Path
    session: SessionConfig
    threads: int | None
    logging: LoggingConfig

    def policy(self) -> ProviderPolicy:
        """Return the provider's limits.

        Raises
        ------
        ConfigError
            ``[policy]`` holds an unknown key or a value of the wrong type.
        """
        from fedcredit.models.policy import ProviderPolicy

        section = Section(self.path, "policy", dict(self.policy_values))
        values: dict[str, Any] = {}
        hints = get_type_hints(ProviderPolicy)
        for field in dataclasses.fields(ProviderPolicy):
            if field.name not in self.policy_values:
                section.known(field.name)
            elif get_origin(hints[field.name]) is Literal:
                values[field.name] = section.choice(field.name, get_args(hints[field.name]))
            elif get_origin(hints[field.name]) is Mapping:
                values[field.name] = section.text_map(field.name)
            elif isinstance(field.default, bool):
                values[field.name] = section.flag(field.name, default=field.default)
            elif isinstance(field.default, int) or field.default is None:
                values[field.name] = section.integer(field.name, minimum=0)
            elif isinstance(field.default, tuple):
                values[field.name] = section.texts(field.name)
            elif isinstance(field.default, float):
                values[field.name] = section.number(field.name, minimum=0.0)
            else:
                values[field.name] = section.text(field.name)
        section.finish()
        return ProviderPolicy(**values)

    def load_tls(self) -> TlsMaterial:
        """Load and check the TLS files (ConfigError)."""
        return load_tls(self.party, self.tls.certificate, self.tls.key, self.ca)

    def load_signing(self) -> Credentials:
        """Load and check the signing files (ConfigError)."""
        return load_signing(self.party, self.signing.certificate, self.signing.key, self.ca)

    def certificates(self) -> list[tuple[str, Path]]:
        """Return the certificates as (purpose, path) pairs."""
        return [
            ("tls", self.tls.certificate),
            ("signing", self.signing.certificate),
            ("ca", self.ca),
        ]


def load_config(path: str | Path) -> NodeConfig:
    """Read a party's configuration file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    NodeConfig

    Raises
    ------
    ConfigError
        The file is missing, is no TOML, or lacks, misspells or mistypes a key.
    """
    file = Path(path).expanduser().resolve()
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({error.strerror}).",
            step=READ_STEP,
            fix="give the path of a configuration file; `fedcredit init` writes one",
        ) from None
    except ValueError as error:
        raise ConfigError(f"{file} is no TOML ({error}).", step=READ_STEP) from None
    try:
        return _node(file, values)
    except ConfigError as error:
        party = values.get("party")
        error.at(party=party if isinstance(party, str) else None)
        raise


def _node(file: Path, values: dict[str, Any]) -> NodeConfig:
    top = Section(file, "", values)
    party = top.party("party")
    role = top.choice("role", ("platform", "provider"))
    hub = _hub(top.table("hub"), party, role)
    tls = top.table("tls")
    tls_paths, ca = CertificatePaths(tls.path("certificate"), tls.path("key")), tls.path("ca")
    tls.finish()
    signing = top.table("signing")
    signing_paths = CertificatePaths(signing.path("certificate"), signing.path("key"))
    signing.finish()
    data = _data(top.table("data"), role) if top.present("data") or role == "provider" else None
    policy = top.table("policy", required=role == "provider")
    coordinators = policy.parties("coordinators")
    if role == "provider" and not coordinators:
        policy.fail("names no coordinators", 'add coordinators = ["platform"]')
    if role == "platform" and (coordinators or policy.rest()):
        policy.fail("belongs into a provider's file", "remove it")
    storage = top.table("storage")
    directory = storage.path("directory")
    storage.finish()
    compute = top.table("compute", required=False)
    threads = compute.integer("threads", minimum=1) if compute.present("threads") else None
    compute.finish()
    node = NodeConfig(
        file,
        party,
        role,
        hub,
        tls_paths,
        signing_paths,
        ca,
        data,
        coordinators,
        policy.rest(),
        directory,
        _session(top.table("session", required=False)),
        threads,
        _logging(top.table("logging", required=False)),
    )
    top.finish()
    if role == "provider":
        node.policy()
    return node


def _hub(section: Section, party: str, role: str) -> HubConfig:
    uri = section.text("uri")
    name = section.party("name") if section.present("name") else "platform"
    listen = section.maybe_text("listen")
    parties = section.parties("parties")
    section.finish()
    for key, value in (("uri", uri), ("listen", listen)):
        if value is not None:
            try:
                check_uri(value)
            except ConfigError:
                section.fail(f"{key!r} must look like grpc+tls://host:port")
    if role == "provider" and (listen or parties):
        section.fail("'listen' and 'parties' belong into the platform's file", "remove them")
    if role == "platform" and (not parties or party in parties):
        section.fail("'parties' must name the providers that the hub admits")
    return HubConfig(uri, name, listen, parties)


def _data(section: Section, role: str) -> DataConfig:
    features = section.texts("features") if section.present("features") else None
    data = DataConfig(
        section.path("path"),
        section.text("id_column"),
        section.choice("id_kind", ("uscc", "text"), "uscc"),
        features,
        section.texts("categorical"),
        section.maybe_text("label"),
    )
    section.finish()
    if role == "provider" and data.label is not None:
        section.fail("'label' belongs into the platform's file", "remove it")
    if features is not None and not features:
        section.fail("'features' is empty", "name a feature, or leave the key out to use all")
    for name in data.categorical:
        if features is not None and name not in features:
            section.fail(f"'categorical' names {name!r}, which is not in 'features'")
    return data


def _session(section: Section) -> SessionConfig:
    values: dict[str, Any] = {}
    for key in ("idle_timeout", "absence_timeout"):
        if section.present(key):
            values[key] = section.number(key, minimum=0.1)
    for key in ("max_sessions", "max_attempts"):
        if section.present(key):
            values[key] = section.integer(key, minimum=1)
    section.finish()
    return SessionConfig(**values)


def _logging(section: Section) -> LoggingConfig:
    config = LoggingConfig(
        section.choice("level", _LEVELS, "INFO"),
        section.path("file") if section.present("file") else None,
        section.flag("json", default=False),
    )
    section.finish()
    return config
