from __future__ import annotations

import io

import pytest
from rich.console import Console

from fedcredit.models.report import text
from fedcredit.models.report.tables import Bar, Column, Table

_NBSP = "\N{NO-BREAK SPACE}"


def _printed(renderable, width=100):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (42_000_000, "42.0 MB"),
        (3.5e12, "3.50 TB"),
        (7.2e15, "7200 TB"),
        (None, "–"),
    ],
)
def test_size(value, shown):
    assert text.size(value).replace(_NBSP, " ") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 s"),
        (0.0421, "42.1 ms"),
        (0.9996, "1.00 s"),
        (59.96, "60.0 s"),
        (99.96, "1 min 40 s"),
        (303, "5 min 03 s"),
        (3599.6, "1 h 00 min"),
        (4810, "1 h 20 min"),
        (float("nan"), "–"),
    ],
)
def test_seconds(value, shown):
    assert text.seconds(value).replace(_NBSP, " ") == shown


def test_numbers():
    assert text.count(1234567) == "1,234,567"
    assert text.signed(0.0262) == "+0.0262"
    assert text.signed(-0.5) == "\N{MINUS SIGN}0.5000"
    assert text.signed(0.0) == "0.0000"
    assert text.decimal(12345.678, 1) == "12,345.7"
    assert text.decimal(0.00001234) == "1.234e-05".replace("-", "\N{MINUS SIGN}")
    assert text.percent(0.12345, 2) == f"12.35{_NBSP}%"
    assert text.decimal(None) == text.percent(float("inf")) == "–"
    assert text.scalar(True) == "yes"
    assert text.scalar(0.1 + 0.2) == "0.3"
    assert text.scalar(None) == "not set"


def test_names_are_cut_and_cleaned():
    assert text.name("a\x1b[2Jb") == "a\N{REPLACEMENT CHARACTER}[2Jb"
    assert text.name("\ud800") == "\N{REPLACEMENT CHARACTER}"
    assert len(text.name("x" * 200)) == 80
    assert text.words(["a"]) == "a"
    assert text.words(["a", "b", "c"]) == "a, b and c"


@pytest.fixture
def table():
    return Table(
        "Costs [bold]",
        (Column("Phase", numeric=False), Column("Time"), Column("Share", numeric=False)),
        (("[red]align[/red]", "1 s", Bar("25 %", 0.25)), ("<i>", "3 s", Bar("75 %", 3.0))),
        note="All & sundry",
    )


def test_a_terminal_shows_markup_as_text(table):
    shown = _printed(table)
    for expected in ("Costs [bold]", "[red]align[/red]", "<i>", "All & sundry", "25 % ███"):
        assert expected in shown


def test_a_page_shows_markup_as_text(table):
    html = table.to_html()
    assert "<i>" not in html
    assert "&lt;i&gt;" in html
    assert "All &amp; sundry" in html
    assert "width:25.0%" in html
    assert "width:100.0%" in html
    assert table._repr_html_() == html


def test_a_summary_prints_everywhere(full_report):
    summary = full_report.summary()
    shown = str(summary)
    assert max(map(len, shown.splitlines())) <= 100
    assert shown == _printed(summary)
    flat = " ".join(shown.replace("│", " ").split())
    for expected in (
        "With the data of tax and social",
        "88,120",
        "tax · feature",
        "Who learned what",
    ):
        assert expected in flat, expected
    html = full_report._repr_html_()
    assert html == summary._repr_html_()
    assert html.count("<table") == len(summary.tables)
    assert "http" not in html


def test_reprs_are_short(full_report):
    assert repr(full_report) == "TrainingReport('Vertical GBDT', job='job-20260314-01')"
    assert repr(full_report.summary()) == f"Summary({full_report!r})"
