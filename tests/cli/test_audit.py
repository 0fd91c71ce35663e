"""``fedcredit audit``: what it prints, writes and ends with."""

import json
from hashlib import sha256
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fedcredit.cli.audit import audit
from fedcredit.cli.failures import report_failures
from fedcredit.cli.init import write_federation
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import METADATA
from fedcredit.node.config import load_config
from fedcredit.node.governing import open_log
from tests.support.site import free_port, sme_tables

NOW = 1_764_000_000.0
WHO = ["91350211M000100Y43", "91350211M000100Y44"]
REQUEST = "ab" * 32
TOKEN = b"header.payload.signature"


@click.group()
@click.pass_context
def program(ctx: click.Context) -> None:
    ctx.with_resource(report_failures(ctx, debug=False))


program.add_command(audit)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["audit", *(str(a) for a in arguments)])


@pytest.fixture(scope="module")
def pilot(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("pilot")
    data, files = sme_tables(directory, rows=60, seed=1)
    write_federation(
        directory,
        platform="platform",
        tables=files,
        label=data.label,
        id_column=data.key,
        id_kind="uscc",
        port=free_port(),
        categorical=data.categorical,
    )
    return directory


@pytest.fixture
def tax(pilot):
    """The configuration of a provider whose audit log has four entries."""
    path = pilot / "tax" / "tax.toml"
    config = load_config(path)
    ledger = Ledger(config.database, party="tax")
    with ledger.transaction() as tx:
        for table in reversed(METADATA.sorted_tables):
            tx.execute(table.delete())
    log = open_log(config, ledger)
    digest = sha256(TOKEN).digest()
    with ledger.transaction() as tx:
        for i, (kind, outcome) in enumerate(
            [
                ("score", "admitted"),
                ("refusal", "consent_expired"),
                ("verify", "admitted"),
                ("score", "admitted"),
            ]
        ):
            facts = {"institution": "bank" if i else "fund", "target": "sme@1", "outcome": outcome}
            facts["request"] = REQUEST if i == 3 else f"{i:064x}"
            log.append(tx, kind, facts, WHO, [digest, bytes(32)], now=NOW + 3600 * i)
    yield path
    ledger.close()


def test_log_lists_the_newest_first_and_filters(tax):
    found = json.loads(run("log", tax, "--json").stdout)
    assert [entry["number"] for entry in found] == [3, 2, 1, 0]
    for options, numbers in (
        (["--kind", "score"], [3, 0]),
        (["--institution", "fund"], [0]),
        (["--outcome", "consent_expired"], [1]),
        (["--target", "other@1"], []),
        (["--last", "1"], [3]),
        (["--since", "2025-11-24T17:30:00"], [3, 2]),
        (["--until", "2025-11-24T17:30:00"], [1, 0]),
    ):
        found = json.loads(run("log", tax, *options, "--json").stdout)
        assert [entry["number"] for entry in found] == numbers, options
    text = run("log", tax).stdout
    assert "refusal" in text
    assert not [who for who in WHO if who in text]


def test_verify_holds_and_then_tells_of_tampering(tax, tmp_path):
    copy = tmp_path / "copy.txt"
    copy.write_text(run("checkpoint", tax).stdout, encoding="utf-8")
    result = run("verify", tax, "--copy", copy)
    assert result.exit_code == 0, result.output
    assert "everything holds" in result.stdout
    ledger = Ledger(load_config(tax).database)
    with ledger.transaction() as tx:
        tx.exec_driver_sql("DELETE FROM checkpoints")
        tx.exec_driver_sql("UPDATE audit_entries SET kind = 'verify' WHERE number = 1")
    ledger.close()
    result = run("verify", tax, "--json")
    assert result.exit_code == 3
    failed = [check["name"] for check in json.loads(result.stdout)["checks"] if not check["ok"]]
    assert failed == ["entries"]
    assert "TAMPERED" in run("verify", tax).stdout


def test_export_and_verify_offline(tax, pilot, tmp_path):
    token, receipt, out = (tmp_path / name for name in ("token.jwt", "receipt.json", "out.json"))
    token.write_bytes(TOKEN)
    receipt.write_text(json.dumps({"request": REQUEST}))
    result = run(
        *("export", tax, "--request", REQUEST, "--subject", WHO[0]),
        *("--consent", token, "--receipt", receipt, "--attach", receipt, "--out", out),
        *("--certificate", load_config(tax).signing.certificate),
    )
    assert (result.exit_code, result.stdout) == (0, f"entry 3: {out}\n"), result.output
    ca = load_config(tax).ca
    result = run("verify", out, "--ca", ca)
    assert result.exit_code == 0, result.output
    out.write_text(out.read_text().replace("admitted", "admittad"))
    assert run("verify", out, "--ca", ca).exit_code == 3
    assert run("verify", out).exit_code == 2
    assert not [who for who in WHO[1:] if who in out.read_text()]


def test_prove_prints_or_writes(tax, tmp_path):
    out = tmp_path / "proof.json"
    printed = json.loads(run("prove", tax, "--entry", 2, "--subject", WHO[1]).stdout)
    assert printed["disclosure"]["subject"] == WHO[1]
    assert json.loads(run("prove", tax, "--entry", 2, "--out", out, "--json").stdout) == {
        "entry": 2,
        "out": str(out),
    }
    assert run("verify", out, "--ca", load_config(tax).ca, "--json").exit_code == 0


def test_checkpoint_is_json_on_demand(tax):
    found = json.loads(run("checkpoint", tax, "--json").stdout)
    assert (found["origin"], found["size"]) == ("tax/fedcredit-audit", 4)
    assert found["note"] == run("checkpoint", tax).stdout


def test_usage_is_explained(tax, pilot, tmp_path):
    assert run("export", tax, "--out", tmp_path / "x").exit_code == 2
    assert run("prove", tax, "--entry", 9).exit_code == 2
    assert run("export", tax, "--request", "00", "--out", tmp_path / "x").exit_code == 2
    assert run("prove", tax, "--entry", 1, "--subject", "nobody").exit_code == 2
    result = run("verify", pilot / "platform" / "platform.toml")
    assert result.exit_code == 2
    assert "no governance database" in result.stderr
