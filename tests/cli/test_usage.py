"""``fedcredit usage``: table, JSON, CSV and page of a party's governance database."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedcredit.cli.usage import usage
from fedcredit.errors import ConfigError, StorageError
from fedcredit.governance import usage as tables
from fedcredit.governance.ledger import Ledger
from fedcredit.node.config import load_config
from fedcredit.node.governing import open_ledger
from tests.governance.test_budgets import question, subjects

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
CONFIG = """
party = "tax"
role = "provider"
hub = { uri = "grpc+tls://platform.example:8815" }
tls = { certificate = "t.pem", key = "t.key", ca = "ca.pem" }
signing = { certificate = "s.pem", key = "s.key" }
data = { path = "tax.parquet", id_column = "uscc" }
policy = { coordinators = ["platform"] }
storage = { directory = "state" }
"""


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(usage, [str(a) for a in arguments])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tax.toml"
    path.write_text(CONFIG)
    ledger = Ledger(load_config(path).database)
    with ledger.transaction() as tx:
        for day, who in enumerate(("bank", "leasing", "bank")):
            asked = question(subjects(day + 1), institution=who)
            tables.record(tx, asked, "admitted", day, OCTOBER + day * 86_400)
        tables.record(tx, question(), "consent_expired", 4, OCTOBER)
        tables.contributions(tx, "card@1", {"paid": 0.25}, "iv", OCTOBER)
    ledger.close()
    return path


def test_a_table_for_people(config: Path):
    result = run(config)
    assert result.exit_code == 0
    assert "Use of the data of tax" in result.stdout
    assert "0.25 iv" in result.stdout
    assert "leasing" in result.stdout
    assert "–" in result.stdout, "a field without a contribution"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [("bank", 3, 1, 4), ("leasing", 1, 0, 2)]),
        (["--since", "2026-10-02"], [("bank", 1, 0, 3), ("leasing", 1, 0, 2)]),
        (["--until", "2026-10-02"], [("bank", 2, 1, 1)]),
        (["--institution", "leasing"], [("leasing", 1, 0, 2)]),
        (["--field", "nothing"], []),
    ],
)
def test_json_for_scripts(config: Path, options, found):
    result = run(config, "--json", *options)
    assert result.exit_code == 0
    rows = [row for row in json.loads(result.stdout)["usage"] if row["field"] == "paid"]
    keys = ("institution", "questions", "refused", "enterprises")
    assert [tuple(row[key] for key in keys) for row in rows] == found


def test_files(config: Path, tmp_path: Path):
    result = run(config, "--csv", tmp_path / "u.csv", "--html", tmp_path / "u.html")
    assert result.exit_code == 0
    assert result.stdout.split() == [str(tmp_path / "u.csv"), str(tmp_path / "u.html")]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "u.csv").read_text("utf-8"))))
    assert {row["field"] for row in rows} == {"paid", "staff"}
    assert (tmp_path / "u.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    result = run(config, "--csv", tmp_path / "none" / "u.csv")
    assert isinstance(result.exception, StorageError)
    result = run(config, "--html", tmp_path)
    assert isinstance(result.exception, StorageError)


def test_a_party_whose_data_nobody_used(tmp_path: Path):
    path = tmp_path / "tax.toml"
    path.write_text(CONFIG)
    assert isinstance(run(path).exception, ConfigError), "an empty database is not the party's"
    assert not (tmp_path / "state").exists()
    open_ledger(load_config(path)).close()
    result = run(path)
    assert (result.exit_code, result.stdout) == (
        0,
        "The data of tax were not used in this period.\n",
    )


def test_a_period_that_ends_before_it_begins(config: Path):
    result = run(config, "--since", "2026-10-02", "--until", "2026-10-02")
    assert result.exit_code == 2
    assert "--since must be before --until" in result.stderr
