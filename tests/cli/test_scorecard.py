"""``fedcredit scorecard`` over real processes: train, table, report, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from fedcredit.cli.card_lines import provider_table
from fedcredit.models.scorecard import VerticalScorecard
from fedcredit.node.config import load_config
from tests.support.command import invoke
from tests.support.site import FEDCREDIT, PLATFORM, Site, make_site

FRAME = "pilot"
LEAVES = ("train", "table", "report")
#: Few features and so few encrypted columns, that the trainings are quick.
QUICK = ("--min-iv", "0.25", "--seed", "1", "--leave-out", "opened")


def run(*arguments: object, code: int = 0) -> Result:
    """Run a command of the group in this process."""
    return invoke("scorecard", *arguments, code=code)


def fail(*arguments: object, code: int) -> str:
    """Run a command that fails; return the one line that it says last."""
    result = run(*arguments, code=code)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def process(*arguments: object, **environment: str) -> str:
    """Run a command as a person does; return its output."""
    done = subprocess.run(
        [*FEDCREDIT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "160", **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("cards")
    site = make_site(directory, rows=1200, seed=5)
    # When the loan was opened, a column that is no feature.
    path = directory / f"{PLATFORM}.parquet"
    table = pd.read_parquet(path)
    days = np.random.default_rng(2).integers(0, 365, len(table))
    table["opened"] = pd.Timestamp("2025-01-01") + pd.to_timedelta(days, "D")
    table["quarter"] = 20250 + (table["opened"].dt.month + 2) // 3
    table.to_parquet(path, index=False)
    text = site.config(PLATFORM).read_text()
    site.config(PLATFORM).write_text(text.replace('"size"]', '"size", "opened"]'))
    # Numbers of the providers that occur nowhere else by chance.
    for party in site.providers:
        path = directory / f"{party}.parquet"
        table = pd.read_parquet(path)
        floats = table.select_dtypes("float").columns
        table[floats] *= 1.0123457
        table.to_parquet(path, index=False)
        site.data.parties[party] = table
    limits = {"max_revealed_predictors": 20, "release_feature_names": True}
    set_policy(site, "social_security", **limits, max_binnings_per_feature=20)
    set_policy(site, "tax", **limits, max_binnings_per_feature=4)
    with site.run():
        with site.connect() as federation:
            federation.align(name=FRAME)
        yield site


def set_policy(site: Site, party: str, **limits: Any) -> None:
    """Write limits into a provider's configuration, in place of what was there before."""
    path = site.config(party)
    lines = [
        line for line in path.read_text().splitlines() if line.partition(" =")[0] not in limits
    ]
    place = lines.index("[policy]") + 1
    lines[place:place] = [f"{name} = {json.dumps(value)}" for name, value in limits.items()]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def platform(site: Site) -> Path:
    return site.config(PLATFORM)


@pytest.fixture(scope="module")
def trained(site: Site, platform: Path) -> dict[str, Any]:
    """The outcome of ``fedcredit scorecard train``."""
    told = process(
        *("scorecard", "train", platform, "--frame", FRAME, *QUICK, "--slice", "size"),
        *("--report", site.directory / "card.html", "--card", site.directory / "card.json"),
        *("--model", site.directory / "card.fed", "--json"),
    )
    return json.loads(told)


@pytest.fixture(scope="module")
def model(site: Site, trained: dict[str, Any]) -> Path:
    return site.directory / "card.fed"


@pytest.fixture(scope="module")
def aligned_rows(site: Site, trained: dict[str, Any]) -> int:
    return int(json.loads((site.directory / "card.json").read_text())["run"]["aligned_rows"])


def values(outcome: dict[str, Any], metric: str = "AUC") -> dict[str, float]:
    return {m["split"]: m["value"] for m in outcome["metrics"] if m["metric"] == metric}


def test_train(site: Site, trained: dict[str, Any]):
    assert re.fullmatch("[0-9a-f]{16}", trained["model"])
    owners = {name.partition(".")[0] for name in trained["features"]}
    assert owners == {PLATFORM, "tax", "social_security"}
    assert "platform.opened" not in trained["features"]
    assert set(values(trained)) == {"train", "test"}
    assert 0.6 < values(trained)["test"] < 1
    assert {"bin", "train", "scorecard", "score"} <= set(trained["bytes"])
    assert set(trained["seconds"]) == set(trained["bytes"])
    jobs = provider_jobs(site, "tax")
    assert {"bin", "woe", "gram", "regress", "card", "score", "count"} <= {
        name.partition("-")[0] for name in jobs
    }
    page = (site.directory / "card.html").read_text()
    for words in (trained["model"], *trained["features"], "micro"):
        assert words in page
    card = json.loads((site.directory / "card.json").read_text())
    assert [c["feature"] for c in card["characteristics"]] == trained["features"]


def provider_jobs(site: Site, party: str) -> list[str]:
    status = json.loads((site.state(party) / "status.json").read_text())
    return [job["name"] for job in status["jobs"]]


def test_table_at_the_platform(site: Site, platform: Path, trained: dict[str, Any], model: Path):
    shown = run("table", platform, "--model", model).stdout
    assert shown.startswith("Scorecard")
    assert "tax" in shown
    lines = json.loads(run("table", platform, "--model", model, "--json").stdout)
    assert {f"{line['party']}.{line['feature']}" for line in lines} == set(trained["features"])
    with_rows = [line for line in lines if line["count"]]
    assert with_rows == lines
    assert all(isinstance(line["points"], int) for line in lines)
    assert all(isinstance(line["count"], int) for line in lines)
    # Every characteristic holds every training row.
    totals = pd.DataFrame(lines).groupby(["party", "feature"])["count"].sum()
    assert totals.nunique() == 1

    own = next(name for name in trained["features"] if name.startswith("platform."))
    theirs = next(name for name in trained["features"] if name.startswith("tax."))
    for asked in (own, own.removeprefix("platform."), theirs):
        part = run("table", platform, "--model", model, "--feature", asked, "--json").stdout
        assert {line["feature"] for line in json.loads(part)} == {asked.rpartition(".")[2]}

    out = site.directory / "table.csv"
    assert f"written: {out}" in run("table", platform, "--model", model, "--out", out).stdout
    pd.testing.assert_frame_equal(
        pd.read_csv(out)[["party", "feature", "bin", "count", "points"]],
        pd.DataFrame(lines)[["party", "feature", "bin", "count", "points"]],
        check_dtype=False,
    )


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\d.])-?\d+(?:\.\d+)?(?![\d.])", text))


def test_table_at_a_provider(site: Site, platform: Path, trained: dict[str, Any], model: Path):
    id_ = trained["model"]
    for party in site.providers:
        # Its node runs, and holds the storage.
        assert site.running[party].process.poll() is None
        lines = json.loads(run("table", site.config(party), "--id", id_, "--json").stdout)
        own = pd.DataFrame(lines)
        assert set(own["feature"]) <= set(site.data.parties[party].columns)
        assert len(set(own["feature"])) == sum(
            name.startswith(f"{party}.") for name in trained["features"]
        )
        # The points are those that the platform knows, bin by bin.
        known = VerticalScorecard.load(model).table()
        known = known[known["party"] == party]
        for column in ("count", "points"):
            assert own[column].tolist() == known[column].tolist()
        first = own["feature"][0]
        for asked in (first, f"{party}.{first}"):
            part = run("table", site.config(party), "--id", id_, "--feature", asked, "--json")
            assert {line["feature"] for line in json.loads(part.stdout)} == {first}
        out = site.directory / f"{party}_points.csv"
        run("table", site.config(party), "--id", id_, "--out", out)
        assert list(pd.read_csv(out)["bin"]) == list(own["bin"])
    assert first in process("scorecard", "table", site.config(party), "--id", id_)


def test_no_output_of_the_platform_has_a_providers_limits(
    site: Site, platform: Path, trained: dict[str, Any], model: Path
):
    shown = run("table", platform, "--model", model, "--json").stdout
    exact = {
        "table": shown,
        "card.json": (site.directory / "card.json").read_text(),
        "card.fed": model.read_text(errors="replace"),
    }
    for path in site.state(PLATFORM).glob("*/[!.]*"):
        exact[f"{path.parent.name}/{path.name}"] = path.read_text(errors="replace")
    told = {**exact, "card.html": (site.directory / "card.html").read_text()}
    own = {n for line in json.loads(shown) for n in numbers_in(line["bin"])}
    limits: set[str] = set()
    for party in site.providers:
        bins = provider_table(load_config(site.config(party)), trained["model"])["bin"]
        intervals = [text for text in bins if text.startswith("[")]
        assert len(intervals) >= 4
        assert not [(w, i) for w, text in told.items() for i in intervals if i in text]
        limits |= set().union(*map(numbers_in, intervals)) - own
    # In what is not rounded, not one limit either, unless it is too short to tell.
    limits = {number for number in limits if len(number.replace(".", "").strip("-0")) >= 3}
    assert len(limits) >= 4
    found = {n for text in exact.values() for n in limits & numbers_in(text)}
    # A count of rows may be a limit of four digits by chance; the limits as such are not there.
    assert not [number for number in found if len(number.replace(".", "").strip("-0")) >= 5]
    assert len(found) <= 1


def test_table_reads_while_the_node_writes(site: Site, trained: dict[str, Any]):
    """What the node is about to rename into place stays where it is."""
    half = site.state("tax") / "card" / ".new-0123456789abcdef"
    half.write_bytes(b"half")
    try:
        before = sorted(p.name for p in site.state("tax").rglob("*"))
        run("table", site.config("tax"), "--id", trained["model"])
        assert sorted(p.name for p in site.state("tax").rglob("*")) == before
    finally:
        half.unlink()


def test_predict(site: Site, platform: Path, model: Path, aligned_rows: int):
    out = site.directory / "scores.csv"
    told = invoke(
        *("predict", platform, "--model", model, "--frame", FRAME, "--out", out, "--json")
    )
    assert json.loads(told.stdout)["rows"] == aligned_rows
    scores = pd.read_csv(out)
    assert list(scores.columns) == ["uscc", "score"]
    assert len(scores) == aligned_rows
    with site.connect() as federation:
        card = VerticalScorecard.load(model, federation)
        frame = federation.frame(FRAME)
        points = card.points(frame)
        expected = pd.Series(card.predict_proba(frame)[:, 1], index=frame.order).sort_index()
    np.testing.assert_allclose(scores["score"], expected, rtol=0, atol=1e-12)
    # Whole points, so few different scores.
    assert points.dtype == np.int64
    assert scores["score"].nunique() == points.nunique()


def test_report_on_the_rows_of_the_training(
    site: Site, platform: Path, trained: dict[str, Any], model: Path
):
    page = site.directory / "again.html"
    told = run(
        *("report", platform, "--model", model, "--frame", FRAME, "--test-size", 0.3),
        *("--seed", 1, "--slice", "region", "--cutoff", 550, "--report", page, "--json"),
    )
    again = json.loads(told.stdout)
    assert again["model"] == trained["model"]
    assert values(again) == values(trained)
    assert again["revealed"] is None
    assert trained["revealed"] >= 1
    assert "region" in page.read_text()
    for wrong in (("--seed", 2), ("--seed", 1, "--time", "quarter", "--out-of-time", 20254)):
        said = fail(
            *("report", platform, "--model", model, "--frame", FRAME, "--test-size", 0.3),
            *wrong,
            code=2,
        )
        assert "not those that the scorecard was fitted on" in said
        assert "leave --test-size out" in said


def test_report_on_another_alignment(
    site: Site, platform: Path, trained: dict[str, Any], model: Path, aligned_rows: int
):
    card = site.directory / "other.json"
    told = run("report", platform, "--model", model, "--card", card)
    assert f"scorecard {trained['model']}" in told.stdout
    assert f"written: {card}" in told.stdout
    made = json.loads(card.read_text())
    assert [(part["name"], part["rows"]) for part in made["run"]["splits"]] == [
        ("test", aligned_rows)
    ]
    told = run(
        *("report", platform, "--model", model, "--frame", FRAME),
        *("--time", "platform.opened", "--out-of-time", "2025-10-01", "--json"),
    )
    assert set(values(json.loads(told.stdout))) == {"test", "out_of_time"}


@pytest.mark.slow
def test_out_of_time(site: Site, platform: Path, trained: dict[str, Any]):
    card = site.directory / "time.json"
    told = run(
        *("train", platform, "--frame", FRAME, *QUICK, "--time", "opened"),
        *("--out-of-time", "2025-10-01", "--card", card, "--model", site.directory / "time.fed"),
        *("--stepwise", "backward", "--pdo", 40, "--json"),
    )
    made = json.loads(told.stdout)
    assert set(values(made)) == {"train", "test", "out_of_time"}
    # Neither may the column of times be a feature, nor was it counted.
    record = json.loads(card.read_text())
    assert "platform.opened" not in {line["feature"] for line in record["selection"]}
    assert "platform.quarter" in {line["feature"] for line in record["selection"]}
    assert record["scale"]["points to double the odds"] == 40
    sizes = {part["name"]: part["rows"] for part in record["run"]["splits"]}
    with site.connect() as federation:
        opened = federation.frame(FRAME).column("opened")
    assert sizes["out_of_time"] == (opened >= "2025-10-01").sum()
    assert sum(sizes.values()) == len(opened)


def test_logs_and_status_hold_no_data(site: Site, trained: dict[str, Any]):
    told = {path.name: path.read_text() for path in site.directory.glob("*.log")}
    assert len(told) == 3
    for party in site.providers:
        told[f"{party} status"] = (site.state(party) / "status.json").read_text()
        assert "card.points" in told[f"{party} status"]
    secret: dict[str, set[str]] = {}
    for party, table in site.data.parties.items():
        ids = {str(value).strip() for value in table["uscc"].dropna()} - {""}
        assert not [
            (where, party) for where, text in told.items() if any(value in text for value in ids)
        ]
        names = set(table.columns) - {"uscc"}
        assert not [(w, n) for w, text in told.items() for n in names if n in text]
        long = (repr(v) for c in table.select_dtypes("float") for v in table[c].dropna().tolist())
        secret[party] = {text for text in long if len(text) >= 7}
    for party in site.providers:
        own = provider_table(load_config(site.config(party)), trained["model"])
        secret[party] |= {repr(v) for c in ("woe", "coefficient") for v in own[c].tolist()}
        secret[party] |= {f"{v:.4g}" for c in ("woe", "coefficient") for v in own[c].tolist()}
    for where, text in told.items():
        numbers = set(re.findall(r"(?<![\d.])-?\d+\.\d+(?![\d.])", text))
        for party, hidden in secret.items():
            assert not numbers & hidden, (where, party)


@pytest.mark.parametrize(
    ("arguments", "code", "told", "fix"),
    [
        (("train", "{p}", "--time", "opened"), 2, "belong together", ""),
        (("report", "{p}", "--model", "x", "--out-of-time", "1"), 2, "belong together", ""),
        (("train", "{p}", "--pdo", "0"), 2, "Invalid value for '--pdo'", ""),
        (("train", "{p}", "--base-odds", "-1"), 2, "Invalid value for '--base-odds'", ""),
        (("train", "{p}", "--bins", "1"), 2, "Invalid value for '--bins'", ""),
        (("train", "{p}", "--trend", "up"), 2, "Invalid value for '--trend'", ""),
        (("train", "{p}", "--min-iv", "-1"), 2, "Invalid value for '--min-iv'", ""),
        (("train", "{p}", "--max-correlation", "2"), 2, "Invalid value for '--max-corr", ""),
        (("train", "{p}", "--test-size", "1"), 2, "Invalid value for '--test-size'", ""),
        (("train", "{p}", "--model", "/none/x.fed"), 2, "cannot be written", "--model"),
        (("train", "{p}", "--card", "/none/x.json"), 2, "cannot be written", "--card"),
        (("train", "{p}", "--report", "{dir}"), 2, "cannot be written", "--report"),
        (("train", "{p}", "--frame", "none"), 2, "keeps no alignment", ""),
        (("train", "{p}", "--frame", FRAME, "--label", "none"), 2, "no column 'none'", "use one"),
        (("train", "{p}", "--frame", FRAME, "--label", "region"), 2, "class", ""),
        (
            ("train", "{p}", "--frame", FRAME, "--leave-out", "tax.f1"),
            *(2, "no column 'tax.f1'", "use some of"),
        ),
        # Dates are no feature, and what to do is said.
        (("train", "{p}", "--frame", FRAME), 2, "holds dates", "derive a number"),
        (("train", "{p}", "--slice", "uscc_"), 2, "no column 'uscc_'", "use one of"),
        (
            ("train", "{p}", "--time", "tax.f1", "--out-of-time", "1"),
            *(2, "no column 'tax.f1'", "use one of"),
        ),
        (
            ("train", "{p}", "--frame", FRAME, "--time", "region", "--out-of-time", "2025-01-01"),
            *(2, "not both times", "dates"),
        ),
        (
            ("train", "{p}", "--frame", FRAME, "--time", "opened", "--out-of-time", "soon"),
            *(2, "not both times", "dates"),
        ),
        (
            ("train", "{p}", "--frame", FRAME, "--time", "opened", "--out-of-time", "2030-01-01"),
            *(2, "no rows before it, or none", "choose a time"),
        ),
        (
            ("train", "{p}", "--frame", FRAME, "--time", "quarter", "--out-of-time", "1"),
            *(2, "no rows before it, or none", "choose a time"),
        ),
        (("train", "{tax}"), 2, "needs a platform's", ""),
        (("train", "none.toml"), 2, "cannot be read", "fedcredit init"),
        (("table", "{p}"), 2, "give --model at the platform, or --id", ""),
        (("table", "{p}", "--model", "x", "--id", "00"), 2, "give --model at the platform", ""),
        (("table", "{p}", "--model", "none.fed"), 2, "cannot be read", "train --model"),
        (("table", "{p}", "--model", "{p}"), 2, "cannot be read", "load a file"),
        (("table", "{p}", "--model", "{m}", "--out", "/none/x.csv"), 2, "cannot be written", ""),
        (("table", "{p}", "--model", "{m}", "--feature", "x.y"), 2, "characteristic", "use one"),
        (("table", "{tax}", "--model", "{m}"), 2, "needs a platform's", ""),
        (("table", "{tax}", "--id", "../x"), 2, "not the id of a scorecard", "16 hexadecimal"),
        (("table", "{tax}", "--id", "0" * 16), 2, "no scorecard 0000", "use one of"),
        (("table", "{tax}", "--id", "{id}", "--feature", "f1"), 2, "characteristic", "use one"),
        (("report", "{p}"), 2, "Missing option '--model'", ""),
        (("report", "{p}", "--model", "none.fed"), 2, "cannot be read", "train --model"),
        (("report", "{p}", "--model", "{m}", "--slice", "none"), 2, "no column 'none'", "use one"),
    ],
)
def test_what_cannot_be_done_is_said(
    site: Site, trained: dict[str, Any], model: Path, arguments, code: int, told: str, fix: str
):
    places = {"p": site.config(PLATFORM), "tax": site.config("tax"), "dir": site.directory}
    places |= {"m": model, "id": trained["model"]}
    said = fail(*(word.format(**places) for word in arguments), code=code)
    assert told in said
    assert fix in said


def test_help_has_examples_and_completion_knows_the_commands():
    shown = run("--help").stdout
    for leaf in LEAVES:
        assert f"\n  {leaf}" in shown
        help_ = run(leaf, "--help").stdout
        assert f"fedcredit scorecard {leaf}" in help_.partition("Example")[2]
    for words, number, expected in (
        ("fedcredit sc", "1", {"scorecard"}),
        ("fedcredit scorecard ", "2", set(LEAVES)),
        ("fedcredit scorecard train --out-", "3", {"--out-of-time"}),
    ):
        done = process(_FEDCREDIT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=number)
        assert expected <= {line.partition(",")[2] for line in done.splitlines()}


def test_a_party_that_is_away(site: Site, trained: dict[str, Any], model: Path):
    impatient = site.impatient(0.5)
    impatient.write_text(impatient.read_text().replace('"social_security"]', '"customs"]'))
    target = site.directory / "away.fed"
    said = fail("train", impatient, "--model", target, code=4)
    assert "not connected to the hub: customs" in said
    assert "fedcredit party start" in said
    assert not target.exists()


def test_providers_limits_bind(site: Site, platform: Path, trained: dict[str, Any], model: Path):
    """What the TOML file of a provider says is what its process answers to."""
    target = site.directory / "refused.fed"
    train = ("train", platform, "--frame", FRAME, *QUICK, "--model", target)

    def restart(**limits: Any) -> None:
        set_policy(site, "tax", **limits)
        site.end("tax")
        site.start("tax").wait_for_line("connected")

    restart(max_revealed_predictors=0)
    said = fail(*train, code=3)
    assert "[party tax" in said
    assert "0 of 0 reveals are left" in said
    assert "max_revealed_predictors" in said
    # Rows whose points were shown before tell nothing new.
    run("report", platform, "--model", model, "--frame", FRAME, "--json")

    restart(max_revealed_predictors=20, release_correlations=False)
    said = fail(*train, code=3)
    assert "[party tax" in said
    assert "correlations are not released here" in said
    # The fifth time that events are counted over the same columns is one too many; the fourth is
    # the next one if the test of the times, which is slow, did not run.
    _, said = fail(*train, code=3), fail(*train, code=3)
    assert "[party tax" in said
    assert "counted 4 times" in said
    assert "max_binnings_per_feature" in said
    assert not target.exists()

    out = site.directory / "tax_released.csv"
    set_policy(site, "tax", release_correlations=True)
    run("table", site.config("tax"), "--id", trained["model"], "--out", out)
    assert out.exists()
