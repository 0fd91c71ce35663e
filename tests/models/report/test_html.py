from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from fedcredit.models.report import PartyMatch, SplitSize, views

_VOID = {"meta", "link", "img", "br", "wbr", "hr", "input"}
_OMITTED = {
    "match": [],
    "aligned_rows": None,
    "splits": [],
    "parameters": {},
    "privacy": None,
    "learning": [],
    "importance": [],
    "phases": [],
    "trees": [],
}
_ANCHORS = [
    "worth",
    "data",
    "settings",
    "quality",
    "importance",
    "cost",
    "learned",
    "reproducibility",
]


class Page(HTMLParser):
    """Checks nesting and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page(full_report):
    return Page(full_report.to_html())


def test_every_part_has_its_section(page):
    assert [s["id"] for s in page.all("section")] == _ANCHORS
    links = [a["href"] for a in page.all("a") if a.get("class") != "skip"]
    assert links == [f"#{anchor}" for anchor in _ANCHORS]


def test_nothing_is_loaded_and_nothing_runs(full_report, make_report):
    for report in (full_report, make_report("regression")):
        text = report.to_html()
        assert not re.search(r"https?:|//[a-z]|@import|javascript:", text, re.IGNORECASE)
        assert set(re.findall(r"url\(([^)#]*)", text)) <= {""}
        page = Page(text)
        assert not page.all("script") + page.all("link") + page.all("iframe")
        for _, attributes in page.tags:
            assert not [a for a in attributes if a.startswith("on")]
            for name in ("src", "href"):
                assert (attributes.get(name) or "#").startswith("#")
        assert any("default-src 'none'" in (m.get("content") or "") for m in page.all("meta"))


def test_ids_are_unique_and_every_reference_is_met(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    wanted = [a["href"][1:] for _, a in page.tags if (a.get("href") or "").startswith("#")]
    for _, attributes in page.tags:
        wanted += re.findall(r"url\(#([^)]*)\)", " ".join(v or "" for v in attributes.values()))
    assert set(wanted) - {""} <= set(ids)


def test_figures_and_tables_can_be_read_out(page):
    figures = page.all("svg")
    assert len(figures) == len(page.all("figure")) == 9
    assert all(s["role"] == "img" and len(s["aria-label"]) > 15 for s in figures)
    assert len({s["aria-label"] for s in figures}) == 9
    assert all(t["aria-label"] for t in page.all("table"))
    assert {th["scope"] for th in page.all("th")} == {"row", "col"}
    assert page.all("html")[0]["lang"] == "en"


def test_figures_follow_the_colours_of_the_page(full_report):
    drawings = re.findall(r"<svg.*?</svg>", full_report.to_html(), re.DOTALL)
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert set(re.findall(r"#[0-9a-f]{6}", drawing)) <= {"#000000", "#ffffff"}


def test_numbers_carry_units(page):
    words = page.words
    for expected in ("88,120", "42.0 MB", "310 kB", "74.2 s", "6.8 %", "2026-03-14 09:26:53+00:00"):
        assert expected in words.replace("\N{NO-BREAK SPACE}", " "), expected


def test_names_only_if_released(make_report):
    hidden = Page(make_report(scores=[]).to_html()).words.replace("\N{NO-BREAK SPACE}", " ")
    assert "tax · feature 3" in hidden
    shown = Page(make_report(scores=[], label="invoices").to_html()).words
    assert "tax · invoices" in shown
    assert "feature\N{NO-BREAK SPACE}3" not in shown


def test_foreign_names_stay_text(make_report):
    party, label = "<b>$x$&\"'", "</text></svg><script>alert(1)</script>"
    report = make_report(party=party, label=label, target="<i>t", model="<u>", title="</title><p>")
    text = report.to_html()
    page = Page(text)
    assert not page.all("script") + page.all("b") + page.all("i") + page.all("u")
    assert "<script" not in text
    words = page.words
    assert party in words
    assert label in words
    assert "<script" not in report._repr_html_()


def test_foreign_names_stay_text_in_figures(make_report):
    text = make_report("regression", target="<b>$\\frac$ -->").to_html()
    page = Page(text)
    assert not page.all("b")
    assert "Predicted <b>$\\frac$ -->" in page.words


def test_terminal_escapes_and_direction_overrides_are_taken_out(make_report):
    report = make_report(scores=[], party="tax\x1b[31m\u202egnitnuocca\n")
    for text in (report.to_html(), str(report.summary())):
        assert "\x1b" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize("name", sorted(_OMITTED))
def test_an_absent_part_leaves_no_trace(make_report, name):
    page = Page(make_report(**{"scores": [], name: _OMITTED[name]}).to_html())
    assert len(page.all("table")) > 5
    _no_empty_section(page)


def test_a_report_without_anything_says_where_it_comes_from(make_report):
    report = make_report(scores=[], transcript=None, **_OMITTED)
    page = Page(report.to_html())
    assert [s["id"] for s in page.all("section")] == ["reproducibility"]
    assert "job-20260314-01" in page.words
    assert "No scores were given." in str(report.summary())


def _no_empty_section(page):
    inside = None
    for tag, _ in page.tags:
        if tag == "section":
            assert inside != 0
            inside = 0
        elif tag in ("table", "figure") and inside is not None:
            inside += 1
    assert inside != 0


def test_without_the_platforms_own_scores_no_worth_is_claimed(make_report, score_makers):
    scores = [s for s in score_makers["classification"](300) if s.name == "joint"]
    words = Page(make_report(scores=scores).to_html()).words
    assert "is not measured" in words
    assert "interval" not in words.split("Data and matching")[0]


def test_an_open_difference_is_called_open(make_report, score_makers):
    scores = score_makers["classification"](300)
    same = [s for s in scores if s.name == "alone"]
    scores = same + [type(s)("joint", s.split, s.y_true, s.y_score) for s in same]
    assert "do not tell the joint model from" in make_report(scores=scores).summary().sentences[0]


def test_a_loss_is_called_a_loss(make_report, score_makers):
    scores = [
        type(s)({"joint": "alone", "alone": "joint"}[s.name], s.split, s.y_true, s.y_score)
        for s in score_makers["classification"](2000)
    ]
    assert " test AUC fell from " in make_report(scores=scores).summary().sentences[0]


def test_training_rows_are_called_optimistic(make_report, score_makers):
    scores = [s for s in score_makers["classification"](300) if s.split == "train"]
    assert "optimistic" in make_report(scores=scores).summary().sentences[-1]


def test_who_learned_what_is_the_transcript(full_report):
    tables = [table.to_html() for table in views.learned_tables(full_report)]
    platform, social, tax = (Page(t).words.replace("\N{NO-BREAK SPACE}", " ") for t in tables)
    assert platform.startswith("platform received")
    assert "sums of gradients per bin and node" in platform
    assert "250 310 kB" in platform
    assert "ciphertexts only, under the sender's key" in tax
    # A class that does not say, and a kind without a class.
    assert social.startswith("social received")
    assert social.count("not stated by the message class") == 1
    assert "not stated by the message class" in tax
    total = sum(row.messages for row in full_report.wire)
    assert total == 60 + 250 + 3 + 2


def test_the_summary_takes_the_senders_of_one_clause_together(full_report):
    short = next(t for t in full_report.summary().tables if t.title == "Who learned what")
    long = views.learned_tables(full_report)
    assert 0 < len(short.rows) <= sum(len(table.rows) for table in long)
    assert {row[0] for row in short.rows} == {row.recipient for row in full_report.wire}
    assert sum(int(row[3]) for row in short.rows) == sum(row.messages for row in full_report.wire)


def test_no_identifier_of_an_enterprise_is_in_a_page(page):
    words = page.words
    # 18 characters of the code's alphabet, as GB 32100 writes it.
    assert not re.search(r"\b[0-9A-HJ-NPQRTUWXY]{18}\b", words.replace("sha256", ""))


def test_writing_to_a_path_returns_the_same_page(make_report, tmp_path):
    report = make_report(scores=[])
    path = tmp_path / "report.html"
    text = report.to_html(path)
    assert path.read_text(encoding="utf-8") == text == report.to_html(str(path))


def test_chinese_names(make_report):
    text = make_report("regression", party="税务局", label="纳税额", target="违约").to_html()
    assert "税务局 · 纳税额" in Page(text).words


def test_partial_knowledge_is_marked(make_report):
    report = make_report(
        match=[PartyMatch("tax", rows=10)], splits=[SplitSize("train", 7)], aligned_rows=10
    )
    tables = {t.title: t for t in report.summary().tables}
    assert [row[0] for row in tables["Rows and matched ids by party"].rows] == ["Rows"]
    assert [c.name for c in tables["Aligned data"].columns] == ["Part", "Rows", "Share"]
