"""``fedcredit catalog`` and the catalogs that ``fedcredit init`` drafts."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from fedcredit.cli.catalog import catalog
from fedcredit.cli.failures import report_failures
from fedcredit.cli.init import write_federation
from fedcredit.cli.party import make_engine
from fedcredit.errors import ConfigError
from fedcredit.governance.catalog import Catalog
from fedcredit.node.config import load_config

PREDICATE = """
[[fields.paid.predicates]]
id = "paid_at_least"
text = "tax paid is at least {threshold}"
operator = ">="
thresholds = [100, 200]
"""


class Reporting(type(catalog)):  # type: ignore[misc]
    """The group as the entry point runs it: failures are lines and exit codes."""

    def invoke(self, ctx):
        with report_failures(ctx, debug=False):
            return super().invoke(ctx)


def run(*arguments: object) -> Result:
    group = Reporting("catalog", commands=catalog.commands)
    return CliRunner().invoke(group, [str(a) for a in arguments], prog_name="fedcredit catalog")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "tax.parquet"
    frame = pd.DataFrame(
        {"uscc": ["id1", "id2"], "paid": [1.5, 471100.25], "industry": ["4711", "b"]}
    )
    frame.to_parquet(path, index=False)
    return path


@pytest.fixture
def drafted(tmp_path: Path, table: Path) -> Path:
    out = tmp_path / "catalog.toml"
    assert run("draft", "--data", table, "--provider", "tax", "--out", out).exit_code == 0
    return out


def test_a_draft_is_a_catalog_of_the_table(table: Path, drafted: Path):
    made = Catalog.load(drafted)
    assert {n: e.type for n, e in made.fields.items()} == {
        "uscc": "id",
        "paid": "number",
        "industry": "category",
    }
    assert made.key_field.name == "uscc"
    printed = run("draft", "--data", table, "--provider", "tax")
    assert printed.stdout == drafted.read_text()
    assert "4711" not in printed.stdout
    withheld = run("draft", "--data", table, "--provider", "tax", "--withhold", "paid")
    assert 'sharing = "never"' in withheld.stdout


def test_a_draft_does_not_replace_a_catalog(table: Path, drafted: Path):
    before = drafted.read_text()
    result = run("draft", "--data", table, "--provider", "tax", "--out", drafted)
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert drafted.read_text() == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--provider", "Tax"), "cannot name a party"),
        (("--provider", "tax", "--id-column", "code"), "no column 'code'"),
        (("--provider", "tax", "--withhold", "code"), "no column 'code'"),
    ],
)
def test_drafts_that_cannot_be_made(table: Path, options, reason):
    result = run("draft", "--data", table, *options)
    assert result.exit_code == 2
    assert reason in result.stderr


def test_a_check(table: Path, drafted: Path):
    drafted.write_text(drafted.read_text() + PREDICATE)
    result = run("check", drafted)
    assert result.exit_code == 0
    assert "not open for verification" in result.stdout
    assert result.stdout.endswith("3 fields, 1 predicates, 0 errors, 1 notes\n")
    fitting = json.loads(run("check", drafted, "--data", table, "--json").stdout)
    assert fitting["digest"] == Catalog.load(drafted).digest
    assert [f["level"] for f in fitting["findings"]] == ["note"]


def test_a_check_that_fails(tmp_path: Path, drafted: Path):
    other = tmp_path / "other.csv"
    other.write_text("uscc,paid,staff\nid1,4711x,3\n")
    result = run("check", drafted, "--data", other)
    assert result.exit_code == 2
    assert "error: 'paid' does not hold values of type number" in result.stdout
    assert "error: 'industry' is an entry without a column" in result.stdout
    assert "note: 'staff' is a column without an entry" in result.stdout
    assert "2 errors, 1 notes" in result.stdout
    assert "the catalog does not fit the table" in result.stderr
    assert "4711" not in result.output
    drafted.write_text(drafted.read_text().replace("grade", "grad", 1))
    assert run("check", tmp_path / "none.toml").exit_code == 2
    for arguments in ((), (drafted, "--data", other, "--config", other)):
        assert run("check", *arguments).exit_code == 2


def test_a_misspelt_key_is_named_with_file_table_and_fix(drafted: Path):
    drafted.write_text(drafted.read_text().replace("grade = 3", "graed = 3", 1))
    result = run("check", drafted)
    assert result.exit_code == 2
    for part in ("catalog.toml", "[fields.uscc]", "lacks 'grade'", "Fix: add grade"):
        assert part in result.stderr


def test_show(drafted: Path):
    drafted.write_text(drafted.read_text() + PREDICATE)
    shown = run("show", drafted)
    assert shown.exit_code == 0
    assert f"digest {Catalog.load(drafted).digest}" in shown.stdout
    assert "paid" in shown.stdout
    plain = json.loads(run("show", drafted, "--json").stdout)
    assert Catalog.from_dict({k: plain[k] for k in ("catalog", "fields")}) == Catalog.load(drafted)
    field = run("show", drafted, "--field", "paid")
    assert "paid_at_least" in field.stdout
    assert "100, 200" in field.stdout
    one = json.loads(run("show", drafted, "--field", "paid", "--json").stdout)
    assert one["open_for"] == ["training", "scoring"]
    assert run("show", drafted, "--field", "salary").exit_code == 2


@pytest.fixture
def written(tmp_path: Path, table: Path) -> dict[str, Path]:
    loans = tmp_path / "loans.parquet"
    pd.DataFrame({"uscc": ["id1"], "amount": [1.0], "default": [0]}).to_parquet(loans, index=False)
    return write_federation(
        tmp_path / "pilot",
        platform="platform",
        tables={"platform": loans, "tax": table},
        label="default",
        id_column="uscc",
        id_kind="text",
        port=8815,
    )


def test_init_drafts_a_catalog_for_every_party_with_data(written: dict[str, Path]):
    tax = load_config(written["tax"])
    assert tax.catalog_path == written["tax"].parent / "catalog.toml"
    assert tax.catalog().allowed("training") == ("paid", "industry")
    platform = load_config(written["platform"]).catalog()
    assert platform.fields["default"].sharing == "never"
    assert platform.allowed("training") == ("amount",)
    result = run("check", "--config", written["tax"])
    assert (result.exit_code, result.stdout) == (0, "3 fields, 0 predicates, 0 errors, 0 notes\n")
    engine = make_engine(tax)
    assert engine.catalog == tax.catalog()


@pytest.mark.parametrize(
    ("file", "old", "new", "match"),
    [
        ("tax.toml", '[catalog]\npath = "catalog.toml"\n', "", "names no field catalog"),
        ("tax.toml", 'id_column = "uscc"', 'id_column = "industry"', "aligns on another column"),
        ("catalog.toml", 'provider = "tax"', 'provider = "social"', "catalog of another party"),
    ],
)
def test_a_provider_does_not_start_without_its_catalog(written, file, old, new, match):
    path = written["tax"].with_name(file)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(written["tax"]).catalog()
    assert caught.value.party == "tax"
    assert caught.value.fix
    if not new:
        assert "fedcredit catalog draft" in caught.value.fix
        with pytest.raises(ConfigError, match=match):
            make_engine(load_config(written["tax"]))
