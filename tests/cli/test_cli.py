"""The command line: output, exit codes, and one federation run as real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

import fedcredit
from fedcredit import errors
from fedcredit.cli.failures import exit_code
from fedcredit.cli.main import COMMANDS, cli
from fedcredit.cli.output import human_bytes
from fedcredit.node.config import load_config


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="fedcredit")


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / f"{name}.parquet" for name in ("loans", "tax", "social")}
    ids = [f"id{i:03d}" for i in range(5)]
    pa.parquet.write_table(
        pa.table({"uscc": ids, "amount": [1.0] * 5, "default": [0, 1, 0, 0, 1]}), made["loans"]
    )
    pa.parquet.write_table(
        pa.table({"uscc": ids, "paid": [2.0] * 5, "industry": list("abcab")}), made["tax"]
    )
    pa.parquet.write_table(pa.table({"uscc": ids, "staff": [3] * 5}), made["social"])
    return made


def init(tmp_path: Path, tables: dict[str, Path], *more: object) -> Result:
    return run(
        "init",
        tmp_path / "pilot",
        *("--platform", tables["loans"], "--label", "default"),
        *("--provider", f"tax={tables['tax']}", "--provider", f"social={tables['social']}"),
        *more,
    )


def test_version_and_help():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"fedcredit, version {fedcredit.__version__}\n")
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name}" in result.stdout
        command = cli.get_command(click.Context(cli), name)
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        assert all("Example" in leaf.epilog for leaf in leaves)
    assert "Exit codes" in result.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError(""), 2),
        (errors.InputError(""), 2),
        (errors.StorageError(""), 2),
        (errors.PolicyError(""), 3),
        (errors.BudgetError(""), 3),
        (errors.PeerProtocolError("x"), 3),
        (errors.PeerUnavailable(""), 4),
        (errors.SessionLost(""), 4),
        (errors.AuthenticationError(""), 5),
        (errors.CiphertextError(""), 1),
        (errors.TransportError(""), 1),
        (ValueError(), 1),
    ],
)
def test_exit_codes(error: Exception, code: int):
    assert exit_code(error) == code


def test_failures_are_one_line_unless_debugging(tmp_path: Path, monkeypatch):
    result = run("status", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: [step read the configuration]")
    assert result.stderr.count("\n") == 1
    result = run("--debug", "status", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr

    def broken(_: object) -> None:
        raise RuntimeError("secret-value-4711")

    monkeypatch.setattr("fedcredit.cli.status.load_config", broken)
    result = run("status", "x")
    assert result.exit_code == 1
    assert "internal error (RuntimeError)" in result.stderr
    assert "4711" not in result.stderr
    assert run("nonsense").exit_code == 2


def test_certs_make_and_check(tmp_path: Path, tables):
    result = run("certs", "make", tmp_path / "pki", "--party", "platform", "--party", "tax")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "pki" / "tax" / "signing.key").stat().st_mode & 0o777 == 0o600
    result = run("certs", "make", tmp_path / "pki", "--party", "platform")
    assert result.exit_code == 2
    assert "holds a certificate authority already" in result.stderr

    assert init(tmp_path, tables).exit_code == 0
    config = tmp_path / "pilot" / "tax" / "tax.toml"
    result = run("certs", "check", config, "--json")
    assert result.exit_code == 0
    assert {(s["party"], s["purpose"]) for s in json.loads(result.stdout)} == {
        ("tax", "tls"),
        ("tax", "signing"),
        ("tax", "ca"),
    }
    result = run("certs", "check", config, "--warn", 400)
    assert result.exit_code == 2
    assert "tax's tls certificate expires in 364 days" in result.stderr
    (config.parent / "tls.key").unlink()
    result = run("certs", "check", config)
    assert result.exit_code == 2
    assert "tls.key cannot be read" in result.stderr


def test_init_writes_files_that_load(tmp_path: Path, tables):
    result = init(tmp_path, tables, "--port", 9000, "--json")
    assert result.exit_code == 0, result.stderr
    files = {party: Path(path) for party, path in json.loads(result.stdout).items()}
    platform, tax = load_config(files["platform"]), load_config(files["tax"])
    assert platform.hub.parties == ("tax", "social")
    assert platform.data.label == "default"
    assert (tax.hub.uri, tax.hub.name) == ("grpc+tls://127.0.0.1:9000", "platform")
    assert tax.data.categorical == ("industry",)
    assert tax.data.path == tables["tax"]
    assert tax.coordinators == ("platform",)
    for config in (platform, tax):
        config.load_tls()
        config.load_signing()
    assert tomllib.loads(files["tax"].read_text())["policy"]["min_intersection"] == 50


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--label", "bad"), "has no column 'bad'"),
        (("--id-column", "id"), "has no column 'id'"),
        (("--provider", "nothing"), "is not NAME=PATH"),
        (("--provider", "x=none.parquet"), "none.parquet is missing"),
        (("--provider", "platform=x.parquet"), "cannot be platform and provider"),
        (("--provider", "A=none.parquet"), ""),
    ],
)
def test_init_refuses_what_would_not_run(tmp_path: Path, tables, arguments, match):
    result = init(tmp_path, tables, *arguments)
    assert result.exit_code == 2
    assert match in result.stderr
    assert not (tmp_path / "pilot").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_FEDCREDIT_COMPLETE" in result.stdout


def test_commands_refuse_another_roles_file(tmp_path: Path, tables):
    init(tmp_path, tables)
    result = run("hub", "start", tmp_path / "pilot" / "tax" / "tax.toml")
    assert result.exit_code == 2
    assert "needs a platform's" in result.stderr
    result = run("party", "start", tmp_path / "pilot" / "platform" / "platform.toml")
    assert result.exit_code == 2
    assert "needs a provider's" in result.stderr


def test_bytes_in_units_of_three_digits():
    assert [human_bytes(n) for n in (0, 999, 2_500_000, 7.2e12)] == [
        "0 B",
        "999 B",
        "2.5 MB",
        "7200.0 GB",
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A command in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        code = "from fedcredit.cli.main import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(fedcredit.__file__).parents[1],
        )

    def line(self) -> str:
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line.strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


def test_a_federation_as_real_processes(tmp_path: Path, tables):
    port = free_port()
    assert init(tmp_path, tables, "--port", port).exit_code == 0
    configs = {p: tmp_path / "pilot" / p / f"{p}.toml" for p in ("platform", "tax", "social")}
    result = run("status", configs["tax"])
    assert result.exit_code == 4
    assert "Connection refused" in result.stderr

    hub = Service("hub", "start", configs["platform"], "--pid-file", tmp_path / "hub.pid")
    party = Service("party", "start", configs["tax"])
    try:
        assert hub.line() == f"hub listens on port {port}"
        assert int((tmp_path / "hub.pid").read_text()) == hub.process.pid
        while party.line() != f"connected: grpc+tls://127.0.0.1:{port}":
            pass
        result = run("status", configs["platform"], "--json")
        assert result.exit_code == 0, result.stderr
        status = json.loads(result.stdout)
        assert [s["serving"] for s in status["hub"]["parties"]["tax"]] == [True]
        assert status["hub"]["parties"]["social"] == []
        result = run("status", configs["tax"])
        assert "tax" in result.stdout
        assert "away" in result.stdout
        # A second process on the same storage is refused.
        result = run("party", "start", configs["tax"])
        assert result.exit_code == 2
        assert "another process uses the storage directory" in result.stderr
        for code, log in (party.end(), hub.end(signal.SIGINT)):
            assert code == 0, log
            assert "Traceback" not in log
        assert not (tmp_path / "hub.pid").exists()
    finally:
        for service in (hub, party):
            if service.process.poll() is None:
                os.kill(service.process.pid, signal.SIGKILL)
                service.process.communicate()
