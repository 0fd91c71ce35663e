"""What the README tells a newcomer to do can be done, and what it links to is there."""

import re
from pathlib import Path

import click
import pytest

from fedcredit import datasets
from fedcredit.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Commands in consoles and in running text, continued lines joined.
COMMANDS = re.findall(
    r"(?:^\$ |`)(fedcredit [^`\n]*)", README.replace("\\\n", " "), flags=re.MULTILINE
)


def test_links_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)#\s]+)", README) if not t.startswith("https://")]
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_python_examples_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 3
    code = "\n".join(blocks)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    printed, errors = capsys.readouterr()
    assert errors == ""
    for expected in (
        *("match rate", "Joint model against the platform alone"),
        *("bin 1 (of tax)", "rejected events", "reason_1"),
    ):
        assert expected in printed
    for page in ("report.html", "scorecard.html"):
        assert "<svg" in (tmp_path / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_commands_and_their_options_exist(line):
    command, context = cli, click.Context(cli)
    for word in line.split()[1:]:
        if word.startswith("-"):
            known = {option for p in command.get_params(context) for option in p.opts}
            assert word in known
        elif isinstance(command, click.Group):
            command = command.get_command(context, word)
            assert command is not None, word


def test_the_tour_is_there():
    used = {" ".join(line.split()[1:3]) for line in COMMANDS}
    for step in ("init pilot", "hub start", "party start", "demo"):
        assert step in used
    assert {"train", "predict", "status"} <= {line.split()[1] for line in COMMANDS}


def test_every_data_set_is_listed():
    listed = re.findall(r"^\| `([\w-]+)` \|", README, flags=re.MULTILINE)
    assert sorted(listed) == sorted(datasets.DATASETS)
