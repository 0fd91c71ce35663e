"""``fedcredit audit exchange`` over a hub, and what the logs and evidence show afterwards."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedcredit.cli.init import write_federation
from fedcredit.cli.main import cli
from fedcredit.cli.party import make_engine
from fedcredit.governance.schema import AUDIT_ENTRIES, AUDIT_NODES, CHECKPOINTS
from fedcredit.node.config import load_config
from fedcredit.node.governing import open_log, using_ledger
from fedcredit.node.hub import Hub
from fedcredit.node.party import PartyNode
from tests.support.site import free_port, sme_tables

NOW = 1_764_000_000.0


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["audit", *(str(a) for a in arguments)], prog_name="fedcredit")


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    """The configurations of a federation whose hub and providers run in this process."""
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
    configs = {name: directory / name / f"{name}.toml" for name in files}
    with ExitStack() as stack:
        platform = load_config(configs["platform"])
        hub = Hub(platform.hub.uri, platform.load_tls(), list(files))
        stack.callback(hub.stop, 2.0)
        for name, path in configs.items():
            if name != "platform":
                config = load_config(path)
                node = PartyNode.from_config(config, make_engine(config)).start()
                stack.callback(node.stop)
        yield configs


def note(path: Path, n: int) -> None:
    config = load_config(path)
    with using_ledger(config) as ledger, ledger.transaction() as tx:
        log = open_log(config, ledger)
        for i in range(n):
            log.append(tx, "alignment", {"outcome": "accepted", "round": i}, now=NOW + i)


def test_an_exchange_and_what_it_finds(pilot, tmp_path):
    providers = sorted(set(pilot) - {"platform"})
    for n, path in enumerate(pilot.values()):
        note(path, n + 3)
    result = run("exchange", pilot["platform"], "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert sorted(found["cosigned"]) == sorted(found["witnessed"]) == providers
    assert found["refused"] == {}

    # Every log tells who has witnessed it, and evidence bears the signatures.
    for name, path in pilot.items():
        checks = json.loads(run("verify", path, "--json").stdout)["checks"]
        (text,) = [check["text"] for check in checks if check["name"] == "witnesses"]
        assert all((other in text) == (other != name) for other in pilot), text
    note(pilot["tax"], 2)
    others = [other for other in pilot if other != "tax"]
    certificates = [load_config(pilot[other]).signing.certificate for other in others]
    bundle = tmp_path / "bundle.json"
    options = [word for path in certificates for word in ("--certificate", path)]
    assert run("export", pilot["tax"], "--entry", 0, *options, "--out", bundle).exit_code == 0
    ca = load_config(pilot["tax"]).ca
    result = run("verify", bundle, "--ca", ca, "--json")
    assert result.exit_code == 0, result.output
    texts = " ".join(check["text"] for check in json.loads(result.stdout)["checks"])
    assert all(f"cosigned by {other}" in texts for other in others)

    # A restored backup is found out, and the operator of the platform is told.
    with using_ledger(load_config(pilot["tax"])) as ledger, ledger.transaction() as tx:
        for table in (AUDIT_ENTRIES, AUDIT_NODES):
            tx.execute(table.delete())
        tx.execute(CHECKPOINTS.delete().where(CHECKPOINTS.c.origin == "tax/fedcredit-audit"))
    note(pilot["tax"], 1)
    result = run("exchange", pilot["platform"])
    assert result.exit_code == 3
    assert "tax: the audit log tax/fedcredit-audit had" in result.stderr
    found = json.loads(run("exchange", pilot["platform"], "--json").stdout)
    refused = {name: ["tax"] for name in pilot if name != "tax"}
    assert found["refused"] == refused
    assert run("verify", pilot["platform"]).exit_code == 3
    kinds = json.loads(run("log", pilot["platform"], "--kind", "witness_refused", "--json").stdout)
    assert [entry["facts"]["log"] for entry in kinds] == ["tax", "tax"]


def test_reading_makes_no_database(pilot):
    directory = pilot["tax"].parent
    text = pilot["tax"].read_text().replace('"state"', '"elsewhere"')
    assert "elsewhere" in text
    path = directory / "other.toml"
    path.write_text(text)
    for words in (
        ["audit", "verify", path],
        ["audit", "log", path],
        ["audit", "checkpoint", path],
        ["audit", "prove", path, "--entry", "0"],
        ["consent", "list", path],
        ["registry", "list", path],
        ["institution", "list", path],
        ["institution", "alarms", path],
        ["usage", path],
    ):
        result = CliRunner().invoke(cli, [str(word) for word in words], prog_name="fedcredit")
        assert result.exit_code == 2, words
        assert "there is no governance database" in result.stderr, words
    assert not (directory / "elsewhere").exists()
