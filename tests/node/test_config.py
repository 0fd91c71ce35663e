"""Configuration files: what is read, and that mistakes are named."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fedcredit.errors import ConfigError
from fedcredit.governance.budgets import BudgetRules
from fedcredit.models.policy import ProviderPolicy
from fedcredit.node.config import ServiceConfig, SessionConfig, load_config

PROVIDER = """
party = "tax"
role = "provider"
[hub]
uri = "grpc+tls://platform.example:8815"
[tls]
certificate = "tls.pem"
key = "tls.key"
ca = "ca.pem"
[signing]
certificate = "signing.pem"
key = "signing.key"
[data]
path = "../data/tax.parquet"
id_column = "uscc"
features = ["annual_paid", "industry"]
categorical = ["industry"]
[policy]
coordinators = ["platform"]
min_intersection = 100
max_splits_per_feature = 3
release_feature_names = true
reason_grain = "group"
feature_groups = { annual_paid = "payments" }
[service]
institutions = ["bank", "insurer"]
as_of = 2026-10-31
max_sessions = 4
[budgets]
questions_per_day = 500
near_limit = 0.5
[governance]
database = "postgresql+psycopg://tax:word-4711@db.example/tax"
[storage]
directory = "state"
[session]
idle_timeout = 60
max_sessions = 2
[compute]
threads = 2
[logging]
level = "DEBUG"
json = true
"""

PLATFORM = """
party = "platform"
role = "platform"
[hub]
uri = "grpc+tls://127.0.0.1:8815"
listen = "grpc+tls://0.0.0.0:8815"
parties = ["tax"]
[tls]
certificate = "tls.pem"
key = "tls.key"
ca = "ca.pem"
[signing]
certificate = "signing.pem"
key = "signing.key"
[data]
path = "loans.csv"
id_column = "id"
id_kind = "text"
label = "default"
[storage]
directory = "state"
"""

INSTITUTION = """
party = "bank"
role = "institution"
[hub]
uri = "grpc+tls://platform.example:8815"
[tls]
certificate = "tls.pem"
key = "tls.key"
ca = "ca.pem"
[signing]
certificate = "signing.pem"
key = "signing.key"
[storage]
directory = "state"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "party.toml"
    path.write_text(text)
    return path


def test_a_providers_file(tmp_path: Path):
    config = load_config(write(tmp_path, PROVIDER))
    assert (config.party, config.role, config.threads) == ("tax", "provider", 2)
    assert (config.hub.uri, config.hub.name) == ("grpc+tls://platform.example:8815", "platform")
    assert config.data.path == tmp_path.parent / "data" / "tax.parquet"
    assert config.data.features == ("annual_paid", "industry")
    assert config.tls.key == tmp_path / "tls.key"
    assert config.coordinators == ("platform",)
    assert config.policy() == ProviderPolicy(
        min_intersection=100,
        max_splits_per_feature=3,
        release_feature_names=True,
        reason_grain="group",
        feature_groups={"annual_paid": "payments"},
    )
    assert config.session == SessionConfig(idle_timeout=60.0, max_sessions=2)
    assert config.logging.json
    assert config.service == ServiceConfig(("bank", "insurer"), date(2026, 10, 31), 4)
    assert config.budgets() == BudgetRules(questions_per_day=500, near_limit=0.5)
    assert config.database == "postgresql+psycopg://tax:word-4711@db.example/tax"
    assert "4711" not in repr(config)


def test_a_platforms_file(tmp_path: Path):
    config = load_config(str(write(tmp_path, PLATFORM)))
    assert config.hub.parties == ("tax",)
    assert (config.data.label, config.data.id_kind, config.data.features) == (
        "default",
        "text",
        None,
    )
    assert config.session == SessionConfig()
    assert config.service == ServiceConfig((), None, 32)
    assert config.budgets() == BudgetRules()
    assert config.database == f"sqlite:///{tmp_path / 'state' / 'governance.db'}"


def test_an_institutions_file(tmp_path: Path):
    config = load_config(write(tmp_path, INSTITUTION))
    assert (config.party, config.role, config.data) == ("bank", "institution", None)
    # Somebody waits for the answer: a shorter patience than that of jobs.
    assert config.session == SessionConfig(idle_timeout=300.0, absence_timeout=10.0)
    text = INSTITUTION + '[session]\nabsence_timeout = 30\n[data]\npath = "own.csv"\n'
    config = load_config(write(tmp_path, text + 'id_column = "uscc"\n'))
    assert config.session == SessionConfig(idle_timeout=300.0, absence_timeout=30.0)
    assert config.data.path == tmp_path / "own.csv"


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ("[policy]\nmin_bin_count = 1", r"\[policy\] belongs into a provider's"),
        ('[service]\ninstitutions = ["other"]', r"\[service\] belongs into the files of those"),
        ("[budgets]\nper_minute = 1", r"\[budgets\] belongs into the files of those"),
        ('[data]\npath = "a"\nid_column = "b"\nlabel = "y"', "'label' belongs into the platform"),
    ],
)
def test_mistakes_in_an_institutions_file(tmp_path: Path, more: str, match: str):
    with pytest.raises(ConfigError, match=match):
        load_config(write(tmp_path, INSTITUTION + more))
    with pytest.raises(ConfigError, match="'listen' and 'parties' belong into the platform"):
        load_config(write(tmp_path, INSTITUTION.replace("[tls]", 'parties = ["tax"]\n[tls]')))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("min_intersection", "min_intersecton", r"unknown key 'min_intersecton'.*did you mean"),
        ("[compute]", "[computing]", r"top level has an unknown key 'computing'"),
        ("min_intersection = 100", "min_intersection = true", "must be a whole number"),
        ("min_intersection = 100", "min_intersection = -1", "at least 0"),
        ("release_feature_names = true", "release_feature_names = 1", "must be true or false"),
        ('coordinators = ["platform"]', "", "names no coordinators"),
        ('coordinators = ["platform"]', 'coordinators = ["P L"]', "cannot name a party"),
        ("[policy]", "[[policy]]", r"\[policy\] must be a table"),
        ('id_column = "uscc"', "", "lacks 'id_column'"),
        ('id_column = "uscc"', 'id_column = " "', "'id_column' is empty"),
        ('features = ["annual_paid", "industry"]', "features = []", "'features' is empty"),
        ('categorical = ["industry"]', 'categorical = ["other"]', "not in 'features'"),
        ('categorical = ["industry"]', 'label = "y"', "'label' belongs into the platform"),
        ('uri = "grpc+tls://platform.example:8815"', 'uri = "grpc://x:1"', r"grpc\+tls://host"),
        (
            'uri = "grpc+tls://platform.example:8815"',
            'uri = "grpc+tls://x:1"\nlisten = "grpc+tls://x:1"',
            "belong into the platform's file",
        ),
        ('role = "provider"', 'role = "guest"', "must be one of platform, provider, institution"),
        ('party = "tax"', "party = 3", "must be a text"),
        ("idle_timeout = 60", "idle_timeout = 0", "at least 0.1"),
        ("idle_timeout = 60", "idle_timeout = inf", "at least 0.1"),
        ('reason_grain = "group"', 'reason_grain = "row"', "must be one of feature, group, party"),
        ('annual_paid = "payments"', "annual_paid = 1", "must be a table of texts"),
        ("threads = 2", "threads = 0", "at least 1"),
        ('level = "DEBUG"', 'level = "LOUD"', "must be one of DEBUG"),
        ('"bank", "insurer"', '"bank", "tax"', "'institutions' names the party itself"),
        ('"bank", "insurer"', '"bank", "bank"', "names an entry twice"),
        ("as_of = 2026-10-31", 'as_of = "2026-10-31"', "'as_of' must be a date, as 2026-10-31"),
        ("as_of = 2026-10-31", "as_of = 2026-10-31T00:00:00", "a date without a time"),
        ("max_sessions = 4", "max_sessions = 0", "at least 1"),
        ("questions_per_day", "question_per_day", r"unknown key 'question_per_day'.*did you mean"),
        ("near_limit = 0.5", "near_limit = 1.5", r"\[budgets\].*near_limit.*between 0 and 1"),
        ("questions_per_day = 500", "questions_per_day = true", "must be a whole number"),
        ("[storage]", "", "lacks the table"),
        ("[hub]", "[hub", "is no TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, match: str):
    assert old in PROVIDER
    path = write(tmp_path, PROVIDER.replace(old, new, 1))
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(path).policy()
    assert "party.toml" in str(caught.value) or "party" in match


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('parties = ["tax"]', "", "must name the providers"),
        ('parties = ["tax"]', 'parties = ["platform"]', "must name the providers"),
        ('parties = ["tax"]', 'parties = ["tax", "tax"]', "names an entry twice"),
        ("[storage]", "[policy]\nmin_bin_count = 1\n[storage]", "belongs into a provider's"),
    ],
)
def test_mistakes_in_a_platforms_file(tmp_path: Path, old: str, new: str, match: str):
    with pytest.raises(ConfigError, match=match):
        load_config(write(tmp_path, PLATFORM.replace(old, new, 1)))


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


def test_the_path_of_a_catalog(tmp_path: Path):
    table = '[catalog]\npath = "fields/catalog.toml"\n'
    for text in (PROVIDER, PLATFORM):
        assert load_config(write(tmp_path, text)).catalog_path is None
        config = load_config(write(tmp_path, text + table))
        assert config.catalog_path == tmp_path / "fields" / "catalog.toml"
        with pytest.raises(ConfigError, match="cannot be read"):
            config.catalog()
    with pytest.raises(ConfigError, match=r"unknown key 'paths'.*did you mean 'path'"):
        load_config(write(tmp_path, PROVIDER + table.replace("path =", "paths =")))
