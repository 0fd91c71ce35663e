"""``fedcredit institution``: onboarding, suspension, release and alarms from the command line."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedcredit.cli.institution import institution
from fedcredit.errors import InputError
from fedcredit.governance.alarms import alarm
from fedcredit.governance.ledger import Ledger
from fedcredit.node.config import load_config
from tests.cli.test_usage import CONFIG

TODAY = datetime.now(UTC)
GOOD = {
    "--assessment": "DSA-2026-17",
    "--assessed": f"{TODAY - timedelta(days=30):%Y-%m-%d}",
    "--expires": f"{TODAY + timedelta(days=300):%Y-%m-%d}",
    "--purpose": "guarantee",
}


def run(command: str, *arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(
        institution, [command, *(str(a) for a in arguments)]
    )


def onboard(config: Path, *more: object, **changes: str) -> Result:
    options = GOOD | {f"--{name}": value for name, value in changes.items()}
    flat = [part for pair in options.items() for part in pair]
    return run("onboard", config, "bank", *flat, *more)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tax.toml"
    path.write_text(CONFIG)
    return path


def listed(config: Path) -> list[dict[str, object]]:
    return json.loads(run("list", config, "--json").stdout)


def test_onboard_with_a_document(config: Path, tmp_path: Path):
    document = tmp_path / "assessment.pdf"
    document.write_bytes(b"%PDF the assessment")
    result = onboard(config, "--purpose", "insurance", "--document", document)
    assert (result.exit_code, result.stdout) == (
        0,
        f"bank is admitted until {GOOD['--expires']}\n",
    )
    (record,) = listed(config)
    assert record["assessment_digest"] == hashlib.sha256(b"%PDF the assessment").hexdigest()
    assert record["purposes"] == ["guarantee", "insurance"]
    assert str(record["expires"]).startswith(GOOD["--expires"])
    assert record["suspended"] is None
    result = run("list", config)
    assert "admitted" in result.stdout
    assert "DSA-2026-17" in result.stdout


@pytest.mark.parametrize(
    "changes", [{"expires": GOOD["--assessed"]}, {"assessed": "2999-01-01"}, {"assessment": " "}]
)
def test_what_makes_no_sense_is_refused(config: Path, changes):
    assert isinstance(onboard(config, **changes).exception, InputError)
    assert listed(config) == []


def test_an_unknown_purpose_is_a_usage_error(config: Path):
    result = onboard(config, purpose="marketing")
    assert result.exit_code == 2
    assert "credit_granting" in result.stderr


def test_suspend_release_and_alarms(config: Path):
    onboard(config)
    result = run("suspend", config, "bank", "--why", "incident 44", "--by", "li.na")
    assert result.stdout == "bank is suspended\n"
    (record,) = listed(config)
    assert (record["suspended_why"], record["suspended_by"]) == ("incident 44", "li.na")
    assert "by li.na: incident 44" in " ".join(run("list", config).stdout.split())
    result = run("alarms", config, "--open", "--json")
    assert result.exit_code == 2
    assert [a["code"] for a in json.loads(result.stdout)] == ["suspended"]
    result = run("release", config, "bank", "--why", "closed", "--by", "wang")
    assert result.stdout == "bank is released (1 alarm)\n"
    result = run("alarms", config, "--open", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    (found,) = json.loads(run("alarms", config, "--institution", "bank", "--json").stdout)
    assert (found["released_by"], found["released_why"]) == ("wang", "closed")


def test_alarms_of_the_rules_are_listed(config: Path):
    onboard(config)
    ledger = Ledger(load_config(config).database)
    with ledger.transaction() as tx:
        alarm(tx, "bank", "near_limit", "8 of 10 questions in a day", 1.0, suspend=False)
    ledger.close()
    result = run("alarms", config)
    assert result.exit_code == 0
    assert "near_limit" in result.stdout
    assert run("alarms", config, "--open").exit_code == 0


def test_who_is_not_onboarded_cannot_be_suspended(config: Path):
    for command in ("suspend", "release"):
        result = run(command, config, "bank", "--why", "x", "--by", "y")
        assert isinstance(result.exception, InputError)
        assert "not been onboarded" in str(result.exception)


def test_who_decides_is_the_login_by_default(config: Path, monkeypatch):
    monkeypatch.setenv("LOGNAME", "zhang.wei")
    onboard(config)
    run("suspend", config, "bank", "--why", "check")
    assert listed(config)[0]["suspended_by"] == "zhang.wei"


def test_every_command_shows_an_example():
    for command in institution.commands.values():
        assert "Example" in command.epilog
