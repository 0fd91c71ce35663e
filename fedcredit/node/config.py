"""A party's TOML file as frozen dataclasses.

One shape serves the platform, the providers and the institutions::

    party = "tax"
    role = "provider"                      # or "platform", "institution"

    [hub]
    uri = "grpc+tls://platform.example:8815"
    name = "platform"                      # whose certificate the hub must show
    # platform only:
    # listen = "grpc+tls://0.0.0.0:8815"
    # parties = ["tax", "social_security"] # the providers; admitted besides the platform and
    #                                      # the institutions in [service]

    [tls]
    certificate = "tls.pem"                # paths are relative to this file
    key = "tls.key"
    ca = "ca.pem"

    [signing]
    certificate = "signing.pem"
    key = "signing.key"

    [data]                                 # an institution needs none
    path = "tax.parquet"                   # .parquet, .csv, .arrow, .feather
    # url = "postgresql://reader@db/tax"   # instead of a file; see node.database_source
    id_column = "uscc"
    id_kind = "uscc"                       # or "text"
    # features = ["annual_paid"]           # default: every column but the id and the label
    # categorical = ["industry"]
    # label = "default"                    # platform only

    [catalog]                              # provider; the platform may have one for its own fields
    path = "catalog.toml"                  # what every column may be used for

    [policy]                               # provider only
    coordinators = ["platform"]            # who may open sessions for jobs
    min_intersection = 50

    [service]                              # provider and platform
    institutions = ["bank"]                # who may ask for scores and answers
    # as_of = 2026-10-31                   # the date of the data
    # max_sessions = 32                    # of institutions, at a time

    [budgets]                              # provider and platform
    # questions_per_day = 20000            # of each institution; see governance.budgets

    [governance]
    # database = "postgresql+psycopg://fedcredit@db.example/tax"
    #                                      # default: a file in [storage] directory

    [storage]
    directory = "state"

Unknown keys are refused, so that a misspelt limit is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcredit.errors import ConfigError
from fedcredit.governance.section import Section, read_toml
from fedcredit.node.certs import Credentials, TlsMaterial, load_signing, load_tls
from fedcredit.node.connection import check_uri
from fedcredit.node.database_source import DatabaseSource, take_database
from fedcredit.node.fields import read_fields

if TYPE_CHECKING:
    from fedcredit.governance.budgets import BudgetRules
    from fedcredit.governance.catalog import Catalog
    from fedcredit.models.policy import ProviderPolicy

__all__ = [
    "CertificatePaths",
    "DataConfig",
    "HubConfig",
    "LoggingConfig",
    "NodeConfig",
    "ServiceConfig",
    "SessionConfig",
    "load_config",
]

#: The governance database's default name in a party's storage directory.
_DATABASE = "governance.db"
#: How long an institution waits by default (seconds).
_ASKING = {"idle_timeout": 300.0, "absence_timeout": 10.0}
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
        The providers, which the hub admits besides the platform and the institutions.
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
    """A party's table, in a file (``path``) or in a database."""

    path: Path | None
    id_column: str
    id_kind: str
    features: tuple[str, ...] | None
    categorical: tuple[str, ...]
    label: str | None
    database: DatabaseSource | None = None


@dataclass(frozen=True)
class SessionConfig:
    """Timeouts (seconds) and limits of sessions.

    An institution's timeouts are 300 and 10 seconds by default: somebody waits for its answer.

    Attributes
    ----------
    idle_timeout : float
        A session ends when a connected peer owes a message for this long.
    absence_timeout : float
        A session ends when a peer, or the hub, stays away for this long.
    max_sessions : int
        Jobs that a provider serves at a time.
    max_attempts : int
        How often a coordinator opens a session whose provider was lost.
    """

    idle_timeout: float = 1800.0
    absence_timeout: float = 120.0
    max_sessions: int = 8
    max_attempts: int = 5


@dataclass(frozen=True)
class ServiceConfig:
    """Whom a party answers.

    Attributes
    ----------
    institutions : tuple of str
        Parties that may open sessions of the service; at the platform, the hub admits them. It is
        a right of its own: coordinators of jobs do not have it, and institutions may not run jobs.
    as_of : date or None
        The date of the data that answers rest on.
    max_sessions : int
        Sessions of institutions at a time.
    """

    institutions: tuple[str, ...] = ()
    as_of: date | None = None
    max_sessions: int = 32


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
        Parties that may open sessions for jobs with this provider.
    policy_values : mapping
        The rest of ``[policy]``; see :meth:`policy`.
    service : ServiceConfig
    budget_values : mapping
        ``[budgets]``; see :meth:`budgets`.
    database : str
        URL of the governance database.
    storage : Path
        The party's private directory.
    session : SessionConfig
    threads : int or None
        Threads for numeric work; None for all cores.
    logging : LoggingConfig
    catalog_path : Path or None
        See :meth:`catalog`.
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
    service: ServiceConfig
    budget_values: Mapping[str, Any]
    database: str = field(repr=False)  # may hold a password
    storage: Path
    session: SessionConfig
    threads: int | None
    logging: LoggingConfig
    catalog_path: Path | None = None

    def catalog(self) -> Catalog:
        """Read the party's field catalog.

        Raises
        ------
        ConfigError
            ``[catalog]`` names none, or it cannot be used, is another party's, or aligns on
            another column than ``[data] id_column``.
        """
        from fedcredit.governance.catalog import Catalog

        if self.catalog_path is None:
            raise ConfigError(
                f"{self.path} names no field catalog, so no column may be used.",
                party=self.party,
                step="catalog",
                fix=f"write one with `fedcredit catalog draft --data TABLE --provider {self.party} "
                '--out catalog.toml`, review it, and add [catalog] path = "catalog.toml"',
            )
        catalog = Catalog.load(self.catalog_path)
        key = catalog.key_field
        if catalog.provider != self.party:
            reason, fix = "is the catalog of another party", "correct 'provider' in [catalog]"
        elif self.data is not None and key is not None and key.name != self.data.id_column:
            reason, fix = "aligns on another column than [data] id_column", "correct one of them"
        else:
            return catalog
        raise ConfigError(
            f"{self.catalog_path} {reason}.", party=self.party, step="catalog", fix=fix
        )

    def policy(self) -> ProviderPolicy:
        """Return the provider's limits.

        Raises
        ------
        ConfigError
            ``[policy]`` holds an unknown key or a value of the wrong type.
        """
        from fedcredit.models.policy import ProviderPolicy

        return read_fields(Section(self.path, "policy", self.policy_values), ProviderPolicy)

    def budgets(self) -> BudgetRules:
        """Return the limits of every institution at this party.

        Raises
        ------
        ConfigError
            ``[budgets]`` holds an unknown key, or a value of the wrong type or out of range.
        """
        from fedcredit.governance.budgets import BudgetRules

        return read_fields(Section(self.path, "budgets", self.budget_values), BudgetRules)

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
    file, values = read_toml(path, what="configuration file", writer="fedcredit init")
    try:
        return _node(file, values)
    except ConfigError as error:
        party = values.get("party")
        error.at(party=party if isinstance(party, str) else None)
        raise


def _node(file: Path, values: dict[str, Any]) -> NodeConfig:
    top = Section(file, "", values)
    party = top.party("party")
    role = top.choice("role", ("platform", "provider", "institution"))
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
    policy_values = policy.rest()
    if role != "provider" and (coordinators or policy_values):
        policy.fail("belongs into a provider's file", "remove it")
    if role == "institution":
        for name in ("service", "budgets"):
            if top.present(name):
                top.table(name).fail("belongs into the files of those who serve", "remove it")
    service = _service(top.table("service", required=False), party)
    budget_values = top.table("budgets", required=False).rest()
    catalog = top.table("catalog", required=False)
    catalog_path = catalog.path("path") if catalog.present("path") else None
    catalog.finish()
    if role == "institution" and catalog_path is not None:
        catalog.fail("belongs into the file of a party with data", "remove it")
    storage = top.table("storage")
    directory = storage.path("directory")
    storage.finish()
    database = _database(top.table("governance", required=False), directory)
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
        policy_values,
        service,
        budget_values,
        database,
        directory,
        _session(top.table("session", required=False), role),
        threads,
        _logging(top.table("logging", required=False)),
        catalog_path,
    )
    top.finish()
    node.policy()
    node.budgets()
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
    if role != "platform" and (listen or parties):
        section.fail("'listen' and 'parties' belong into the platform's file", "remove them")
    if role == "platform" and (not parties or party in parties):
        section.fail("'parties' must name the providers that the hub admits")
    return HubConfig(uri, name, listen, parties)


def _data(section: Section, role: str) -> DataConfig:
    features = section.texts("features") if section.present("features") else None
    database = take_database(section)
    data = DataConfig(
        section.path("path") if database is None else None,
        section.text("id_column"),
        section.choice("id_kind", ("uscc", "text"), "uscc"),
        features,
        section.texts("categorical"),
        section.maybe_text("label"),
        database,
    )
    section.finish()
    if role != "platform" and data.label is not None:
        section.fail("'label' belongs into the platform's file", "remove it")
    if features is not None and not features:
        section.fail("'features' is empty", "name a feature, or leave the key out to use all")
    for name in data.categorical:
        if features is not None and name not in features:
            section.fail(f"'categorical' names {name!r}, which is not in 'features'")
    return data


def _service(section: Section, party: str) -> ServiceConfig:
    values: dict[str, Any] = {"institutions": section.parties("institutions")}
    if party in values["institutions"]:
        section.fail("'institutions' names the party itself", "remove it there")
    if section.present("as_of"):
        values["as_of"] = section.date("as_of")
    if section.present("max_sessions"):
        values["max_sessions"] = section.integer("max_sessions", minimum=1)
    section.finish()
    return ServiceConfig(**values)


def _database(section: Section, directory: Path) -> str:
    url = section.maybe_text("database") or f"sqlite:///{directory / _DATABASE}"
    section.finish()
    return url


def _session(section: Section, role: str) -> SessionConfig:
    values: dict[str, Any] = dict(_ASKING) if role == "institution" else {}
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
