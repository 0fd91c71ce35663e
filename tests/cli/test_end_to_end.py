"""The whole product from the command line: every command as a person types it, in order."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from fedcredit import datasets
from fedcredit.cli import demo
from fedcredit.cli.main import COMMANDS, cli
from fedcredit.models.load import load_model
from fedcredit.node.config import load_config
from fedcredit.node.connect import open_federation
from fedcredit.node.pki import make_federation
from fedcredit.node.processes import ManagedProcess, start_process
from tests.support.command import invoke
from tests.support.site import FEDCREDIT, free_port, sme_tables

FRAME = "pilot"
TREES = 3


def start(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a process of its own; its code is checked."""
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [*FEDCREDIT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def fail(*arguments: object, code: int) -> str:
    """Run a command that fails; return what it says."""
    result = invoke(*arguments, code=code)
    assert result.stdout == ""
    return result.stderr


@dataclass
class Pilot:
    """A federation that the commands below have made and started."""

    directory: Path
    tables: dict[str, pd.DataFrame]
    started: dict[str, ManagedProcess]

    @property
    def platform(self) -> Path:
        return self.config("platform")

    def config(self, party: str) -> Path:
        return self.directory / "pilot" / party / f"{party}.toml"

    def file(self, name: str) -> Path:
        return self.directory / name


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pilot]:
    directory = tmp_path_factory.mktemp("end")
    data, files = sme_tables(directory, rows=1500, seed=5)
    made = Pilot(directory, data.parties, {})
    told = start(
        *("init", directory / "pilot", "--platform", files["platform"], "--label", data.label),
        *("--provider", f"tax={files['tax']}"),
        *("--provider", f"social_security={files['social_security']}"),
        *("--port", free_port()),
    ).stdout
    commands = [line.split()[1:] for line in told.splitlines()]
    assert [words[:2] for words in commands] == [["hub", "start"]] + [["party", "start"]] * 2
    try:
        for name, words, ready in zip(
            ("hub", "tax", "social_security"),
            commands,
            ("listens", "connected", "connected"),
            strict=True,
        ):
            made.started[name] = start_process(name, words, directory / f"{name}.log")
            made.started[name].wait_for_line(ready)
        yield made
    finally:
        for process in reversed(made.started.values()):
            process.stop()


@pytest.fixture(scope="module")
def aligned(pilot: Pilot) -> dict[str, Any]:
    """The outcome of ``fedcredit align``."""
    told = invoke("align", pilot.platform, "--name", FRAME, "--json")
    assert told.stderr == ""
    return json.loads(told.stdout)


@pytest.fixture(scope="module")
def trained(pilot: Pilot, aligned: dict[str, Any]) -> dict[str, Any]:
    """The outcome of ``fedcredit train``."""
    return json.loads(
        start(
            *("train", pilot.platform, "--frame", FRAME, "--trees", TREES, "--depth", 2),
            *("--report", pilot.file("report.html"), "--model", pilot.file("model.fed"), "--json"),
        ).stdout
    )


def scores(path: Path) -> pd.DataFrame:
    read = pd.read_csv if path.suffix == ".csv" else pd.read_parquet
    return read(path)


def test_status(pilot: Pilot):
    found = json.loads(start("status", pilot.platform, "--json").stdout)
    assert set(found["hub"]["parties"]) == {"platform", "tax", "social_security"}
    for name in ("tax", "social_security"):
        assert [stream["serving"] for stream in found["hub"]["parties"][name]] == [True]
    shown = invoke("status", pilot.config("tax")).stdout
    assert "serves" in shown
    assert "away" in shown  # the platform, which only connects to work


def test_align(pilot: Pilot, aligned: dict[str, Any]):
    own = pilot.tables["platform"]
    assert aligned["frame"] == FRAME
    assert 800 < aligned["rows"] < len(own)
    match = {entry["party"]: entry for entry in aligned["match"]}
    for party, table in pilot.tables.items():
        assert match[party]["rows"] == len(table)
        assert match[party]["matched"] == aligned["rows"]
        usable = match[party]["rows"] - match[party]["blank"] - match[party]["duplicate"]
        assert match[party]["distinct"] == usable - match[party]["unusable"]
    assert fail("align", pilot.platform, "--name", FRAME, code=2).count("\n") == 1


def test_train(pilot: Pilot, aligned: dict[str, Any], trained: dict[str, Any]):
    assert trained["aligned_rows"] == aligned["rows"]
    assert trained["trees"] == TREES
    assert {"AUC", "KS"} <= set(trained["uplift"])
    assert 0.5 < trained["uplift"]["AUC"]["joint"] < 1
    assert trained["bytes"]["train"] > 100_000
    page = pilot.file("report.html").read_text()
    for words in ("Match rate", "Who learned what", "tax", "social_security", trained["model"]):
        assert words in page
    assert f"{aligned['rows']:,}" in page
    jobs = json.loads(invoke("status", pilot.config("tax"), "--json").stdout)["jobs"]
    assert f"train-{trained['model']}" in {job["name"] for job in jobs if job["state"] == "done"}


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_predict(pilot: Pilot, aligned: dict[str, Any], trained: dict[str, Any], name: str):
    out = pilot.file(name)
    command = start if name.endswith(".csv") else invoke
    told = command(
        *("predict", pilot.platform, "--model", pilot.file("model.fed"), "--frame", FRAME),
        *("--out", out, "--json"),
    )
    assert json.loads(told.stdout)["rows"] == aligned["rows"]
    table = scores(out)
    assert list(table.columns) == ["uscc", "score"]
    assert len(table) == aligned["rows"]
    # The platform's own spelling of its ids, in the order of its table.
    own = list(pilot.tables["platform"]["uscc"])
    places = pd.Series(range(len(own)), index=own)
    places = places[~places.index.duplicated()].reindex(table["uscc"])
    assert places.notna().all()
    assert places.is_monotonic_increasing

    with open_federation(load_config(pilot.platform)) as federation:
        model = load_model(pilot.file("model.fed").read_bytes(), federation)
        frame = federation.frame(FRAME)
        expected = pd.Series(model.predict_proba(frame)[:, 1], index=frame.order).sort_index()
    np.testing.assert_allclose(table["score"], expected, rtol=0, atol=1e-15)


def test_the_joint_scores_use_the_providers(pilot: Pilot, trained: dict[str, Any]):
    with open_federation(load_config(pilot.platform)) as federation:
        importance = load_model(pilot.file("model.fed").read_bytes(), federation).importance()
    assert set(importance.index[importance["splits"] > 0].str.partition(".").to_frame()[0])
    used = set(importance.loc[importance["splits"] > 0, "party"])
    assert used & {"tax", "social_security"}


def test_logs_hold_no_id_and_no_value(pilot: Pilot, trained: dict[str, Any]):
    logs = {path.name: path.read_text() for path in pilot.directory.glob("*.log")}
    status = {
        f"{name} status": (pilot.config(name).parent / "state" / "status.json").read_text()
        for name in ("tax", "social_security")
    }
    assert len(logs) == 3
    assert all("fedcredit.node" in text for text in logs.values())
    for where, text in (logs | status).items():
        for party, table in pilot.tables.items():
            ids = {str(value).strip() for value in table["uscc"].dropna()} - {""}
            assert not [value for value in ids if value in text], (where, party)
            for column in table.columns:
                if column in text and column != "uscc":
                    raise AssertionError(f"{where} names the column {column} of {party}")
            # Whole numbers of the text, since "37818.0" stands inside many a time stamp, and
            # only what is long enough not to be a count, a port or a duration by chance.
            numbers = set(re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", text))
            for column in table.select_dtypes("float"):
                values = {repr(v) for v in table[column].dropna().tolist()}
                found = [v for v in values & numbers if len(v) >= 7]
                assert not found, (where, party, column)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("train", "{platform}", "--trees", "0"), 2, "Invalid value for '--trees'"),
        (("train", "{platform}", "--resume", "00"), 2, "--resume needs the --frame"),
        (("train", "{platform}", "--frame", "none"), 2, "keeps no alignment"),
        (("train", "{platform}", "--frame", FRAME, "--label", "none"), 2, "no column 'none'"),
        (("train", "{platform}", "--frame", FRAME, "--resume", "00"), 2, "no interrupted fit"),
        (("train", "{platform}", "--model", "/none/x.fed"), 2, "cannot be written"),
        (("train", "{platform}", "--test-size", "2", "--frame", FRAME), 2, "cannot be split"),
        (("train", "{tax}"), 2, "needs a platform's"),
        (("predict", "{platform}", "--model", "x", "--out", "x.txt"), 2, "neither .csv nor"),
        (("predict", "{platform}", "--model", "none.fed", "--out", "x.csv"), 2, "cannot be read"),
        (("predict", "{platform}", "--model", "{platform}", "--out", "x.csv"), 2, "model"),
        (("align", "{platform}", "--name", "No Name"), 2, "choose another name"),
        (("align", "{platform}", "--min-intersection", "100000"), 3, "fewer common ids"),
        (("demo", "--rows", "3"), 2, "Invalid value for '--rows'"),
    ],
)
def test_what_cannot_be_done_is_said(
    pilot: Pilot, aligned: dict[str, Any], arguments: tuple[str, ...], code: int, told: str
):
    words = [word.format(platform=pilot.platform, tax=pilot.config("tax")) for word in arguments]
    assert told in fail(*words, code=code)


def test_parties_that_are_away_and_strangers(pilot: Pilot, tmp_path: Path):
    # Nobody listens there.
    text = pilot.platform.read_text()
    port = next(line for line in text.splitlines() if line.startswith("uri")).rpartition(":")[2]
    away = pilot.platform.with_name("away.toml")
    away.write_text(text.replace(f":{port}", f':{free_port()}"') + _impatient(0.5))
    assert "cannot be reached" in fail("align", away, code=4)
    # A party is admitted that does not come.
    lonely = pilot.platform.with_name("lonely.toml")
    lonely.write_text(
        text.replace('["tax", "social_security"]', '["tax", "customs"]') + _impatient(0.5)
    )
    assert "not connected to the hub: customs" in fail("align", lonely, code=4)
    # Certificates of another federation.
    make_federation(tmp_path / "pki", ["platform"])
    foreign = tmp_path / "pki" / "platform" / "platform.toml"
    foreign.write_text(text + _impatient(5.0))
    assert "certificate" in fail("align", foreign, code=5)


def _impatient(seconds: float) -> str:
    return f"\n[session]\nabsence_timeout = {seconds}\n"


def test_help_has_an_example():
    for command in ["", *COMMANDS]:
        found = cli.get_command(click.Context(cli), command)
        for leaf in found.commands if isinstance(found, click.Group) else [""]:
            words = f"{command} {leaf}".split()
            shown = CliRunner().invoke(cli, [*words, "--help"], prog_name="fedcredit").stdout
            assert "Example" in shown, words
            assert " ".join(["fedcredit", *words]) in shown.partition("Example")[2], words


def test_nobody_reads_the_output(pilot: Pilot):
    process = subprocess.Popen(
        [*FEDCREDIT, "status", str(pilot.platform)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def test_the_demo_knows_every_data_set():
    assert sorted(datasets.DATASETS) == list(demo.DATASETS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str):
    assert "_FEDCREDIT_COMPLETE" in start("completion", shell).stdout
    environment = {**os.environ, "_FEDCREDIT_COMPLETE": f"{shell}_complete"}
    environment |= {"COMP_WORDS": "fedcredit tr", "COMP_CWORD": "1" if shell != "fish" else "tr"}
    done = subprocess.run(
        [*FEDCREDIT], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    assert "train" in done.stdout


SMALL_DEMO = ("demo", "--rows", 1500, "--trees", 2, "--depth", 2)


def test_demo(tmp_path: Path):
    done = start(*SMALL_DEMO, "--keep", tmp_path)
    (choice,) = done.stderr.splitlines()
    assert "rows per ciphertext" in choice
    page = tmp_path / "fedcredit-demo-report.html"
    assert done.stdout.rstrip().endswith(f"report: {page}")
    assert "enterprises are known to all parties" in done.stdout
    assert "Match rate" in page.read_text()
    assert "Who learned what" in page.read_text()
    assert "consent_missing" in done.stdout
    assert re.search(r"inclusion +│ ok", done.stdout)
    assert "FAILED" not in done.stdout
    assert (tmp_path / "platform" / "platform.toml").exists()
    # What is there is not overwritten.
    assert "holds a federation already" in fail(*SMALL_DEMO, "--keep", tmp_path, code=2)


@pytest.mark.slow
def test_demo_for_scripts(tmp_path: Path):
    done = start(*SMALL_DEMO, "--keep", tmp_path, "--json")
    assert len(done.stderr.splitlines()) == 1
    found = json.loads(done.stdout)
    assert Path(found["report"]).is_file()
    assert found["trees"] == 2
    assert found["bytes"]["train"] > 0
    service = found["service"]
    assert 0 < service["score"]["probability"] < 1
    assert service["without_consent"] == "consent_missing"
    assert service["verification"]["outcome"] in ("yes", "no", "no_record")
    assert service["audit"]["included"]
    assert service["audit"]["log_verifies"]
    assert service["audit"]["evidence_verifies"]
    done = start(
        "audit", "verify", service["audit"]["evidence"], "--ca", tmp_path / "ca" / "ca.pem"
    )
    assert "everything holds" in done.stdout
