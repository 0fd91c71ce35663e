"""The usage report as a page: what it says, and that nothing in it is active."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedcredit.governance import institutions, usage
from fedcredit.governance.alarms import alarm
from fedcredit.governance.ledger import Ledger
from fedcredit.models.report.usage_data import UsageReport, collect
from fedcredit.models.report.usage_html import render
from tests.governance.test_budgets import question, subjects

DAY = 86_400.0
NOW = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
CREATED = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
HOSTILE = '<script>alert("x")</script>$'


@pytest.fixture
def ledger():
    opened = Ledger("sqlite://", party="tax")
    with opened.transaction() as tx:
        institutions.onboard(
            tx, "bank", assessment=HOSTILE, assessed=NOW - DAY, expires=NOW + DAY,
            purposes=["credit_granting"], now=NOW,
        )  # fmt: skip
        for day in range(6):
            for who in ("bank", "leasing", "insurer", "fund", "other"):
                asked = question(subjects(day + 1), institution=who, fields=("paid", HOSTILE))
                usage.record(
                    tx, asked, "admitted" if day else "consent_missing", 1, NOW + day * DAY
                )
        usage.record_job(tx, "platform", "train", ["paid"], 900, "admitted", 2, NOW)
        usage.contributions(tx, "card@1", {"paid": 0.3, HOSTILE: 0.1}, "iv", NOW)
        usage.contributions(tx, "trees@1", {"paid": 0.3}, "gain", NOW)
        alarm(tx, "bank", "search_pattern", "verify tax.paid", NOW, suspend=True)
    yield opened
    opened.close()


def report(ledger: Ledger, **more) -> UsageReport:
    return collect(ledger, party="tax", created=CREATED, **more)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self._heading = tag in ("h1", "h2")

    def handle_data(self, data):
        self.words.append(data)
        if self._heading and data.strip():
            self.headings.append(data.strip())
            self._heading = False


def test_the_page_says_it_all(ledger: Ledger):
    page = Page(render(report(ledger)))
    assert page.headings == [
        "Use of the data of tax",
        "Overview",
        "Who used which field for what",
        "Refused uses",
        "What the fields contribute to models",
        "Institutions and alarms",
    ]
    text = " ".join(" ".join(page.words).split())
    assert "6 parties used the data 31 times; 26 uses were allowed and 5 refused." in text
    assert "Suspended now: bank." in text
    assert "From the beginning until now · 2026-11-01 08:30 UTC" in text
    assert page.tags.count("svg") == 5
    assert len(set(page.ids)) == len(page.ids)
    assert "the questions look like a search for a value" in text


def test_the_page_is_self_contained_and_inert(ledger: Ledger):
    text = render(report(ledger))
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert re.search(r"(src|href)=\"(?!#)", text) is None
    assert not re.search(r"91\d{16}", text), "no enterprise"


def test_a_period_and_a_field(ledger: Ledger):
    since = datetime(2026, 10, 3, tzinfo=UTC)
    until = datetime(2026, 10, 4, tzinfo=UTC)
    found = report(ledger, since=since, until=until, institution="bank", field="paid")
    assert found.usage[["questions", "enterprises"]].values.tolist() == [[1, 3]]
    assert found.alarms == ()
    assert found.contributions["field"].tolist() == ["paid", "paid"]
    text = " ".join(" ".join(Page(render(found)).words).split())
    assert "From 2026-10-03 until before 2026-10-04, only bank, only paid" in text


def test_an_unused_database_still_gives_a_page():
    ledger = Ledger("sqlite://")
    page = Page(render(report(ledger)))
    ledger.close()
    assert page.headings == ["Use of the data of tax", "Overview"]
    assert "The data were not used in this period." in page.words


def test_files_and_json(ledger: Ledger, tmp_path: Path):
    found = report(ledger)
    found.to_html(tmp_path / "usage.html")
    assert (tmp_path / "usage.html").read_text(encoding="utf-8") == render(found)
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["party"] == "tax"
    assert len(values["usage"]) == len(found.usage)
    assert values["usage"][0]["institution"] == "platform"
    assert values["institutions"][0]["name"] == "bank"
