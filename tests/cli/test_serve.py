"""Institutions on the command line: their directories, and the platform's service."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from fedcredit.cli import serve as serve_module
from fedcredit.cli.init import write_federation
from fedcredit.cli.main import cli
from fedcredit.errors import InputError
from fedcredit.node.config import load_config
from fedcredit.node.conversation import connect_institution
from fedcredit.node.hub import Hub
from tests.node.toy import ToyEngine, asking
from tests.support.site import free_port


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="fedcredit")


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / f"{name}.parquet" for name in ("loans", "tax")}
    pa.parquet.write_table(pa.table({"uscc": ["a", "b"], "default": [0, 1]}), made["loans"])
    pa.parquet.write_table(pa.table({"uscc": ["a", "b"], "paid": [1.0, 2.0]}), made["tax"])
    return made


def init(directory: Path, tables: dict[str, Path], *more: object) -> Result:
    return run(
        *("init", directory, "--platform", tables["loans"], "--label", "default"),
        *("--provider", f"tax={tables['tax']}", *more),
    )


def test_init_writes_an_institutions_directory(tmp_path: Path, tables):
    pilot = tmp_path / "pilot"
    result = init(pilot, tables, "--institution", "bank", "--institution", "insurer", "--json")
    assert result.exit_code == 0, result.stderr
    written = json.loads(result.stdout)
    assert list(written) == ["platform", "tax", "bank", "insurer"]
    for name in ("bank", "insurer"):
        config = load_config(written[name])
        assert (config.party, config.role, config.data) == (name, "institution", None)
        assert config.hub.uri == load_config(written["tax"]).hub.uri
        assert config.load_signing().party == config.load_tls().party == name
        assert (pilot / name / "signing.key").stat().st_mode & 0o777 == 0o600
        assert (pilot / name / "ca.pem").is_file()
    for name in ("platform", "tax"):
        config = load_config(written[name])
        assert config.service.institutions == ("bank", "insurer")
    # Institutions are no providers: nobody trains with them.
    assert load_config(written["platform"]).hub.parties == ("tax",)
    assert load_config(written["tax"]).coordinators == ("platform",)

    result = init(tmp_path / "second", tables, "--institution", "bank")
    assert result.stdout.splitlines() == [
        f"fedcredit hub start {tmp_path / 'second/platform/platform.toml'}",
        f"fedcredit party start {tmp_path / 'second/tax/tax.toml'}",
        f"fedcredit serve {tmp_path / 'second/platform/platform.toml'}",
    ]


def test_an_institution_needs_a_name_of_its_own(tmp_path: Path, tables):
    for name in ("tax", "platform"):
        result = init(tmp_path / "pilot", tables, "--institution", name)
        assert result.exit_code == 2
        assert "two parties have the same name" in result.stderr
    assert not (tmp_path / "pilot").exists()
    with pytest.raises(InputError, match="same name"):
        write_federation(
            tmp_path / "pilot",
            platform="platform",
            tables={"platform": tables["loans"]},
            label="default",
            id_column="uscc",
            id_kind="text",
            port=8815,
            institutions=["bank", "bank"],
        )


def test_serve_needs_the_platforms_file_and_an_institution(tmp_path: Path, tables):
    pilot = tmp_path / "pilot"
    assert init(pilot, tables).exit_code == 0
    result = run("serve", pilot / "tax" / "tax.toml")
    assert result.exit_code == 2
    assert "this command needs a platform's" in result.stderr
    result = run("serve", pilot / "platform" / "platform.toml")
    assert result.exit_code == 2
    assert "names no institutions to serve" in result.stderr


def test_serve_answers_until_a_signal(tmp_path: Path, tables, monkeypatch):
    pilot, pid_file = tmp_path / "pilot", tmp_path / "pid"
    port = free_port()
    init(pilot, tables, "--institution", "bank", "--port", port)
    monkeypatch.setattr(
        serve_module, "make_platform_server", lambda config: ToyEngine(config.party)
    )
    platform = load_config(pilot / "platform" / "platform.toml")
    hub = Hub(platform.hub.uri, platform.load_tls(), ["platform", "tax", "bank"])
    served = threading.Event()

    def ask() -> list[int]:
        try:
            with connect_institution(load_config(pilot / "bank" / "bank.toml")) as connection:
                conversation = connection.open(["platform"], timeout=20)
                return [conversation.run(asking(i)) for i in range(3)]
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            served.set()

    try:
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(ask)
            result = run("serve", pilot / "platform" / "platform.toml", "--pid-file", pid_file)
            assert served.wait(20)
            assert answers.result(0) == [0, 0, 0]
    finally:
        hub.stop(5.0)
    assert result.exit_code == 0, result.output
    assert "connected: grpc+tls://127.0.0.1" in result.stdout
    assert not pid_file.exists()
    status = json.loads((platform.storage / "status.json").read_bytes())
    assert [(job["service"], job["outcome"]) for job in status["jobs"]] == [(True, "bank left")]
