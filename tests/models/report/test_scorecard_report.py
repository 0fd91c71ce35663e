"""The model document on a scorecard: every part is shown, and nothing a party may not show."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from fedcredit.errors import InputError
from fedcredit.models.report import scorecard_plots as plots
from fedcredit.models.report.scorecard_data import (
    BandRow,
    BinRow,
    Characteristic,
    CoefficientRow,
    FitQuality,
    MetricRow,
    ScorecardReport,
    SelectionRow,
    SliceRow,
    StabilityRow,
    TraceRow,
)

NBSP = "\N{NO-BREAK SPACE}"


@pytest.fixture(scope="module")
def page(document) -> str:
    """The whole document; drawing its figures takes a second."""
    return document.to_html()


def characteristic(party: str, feature: str, *, points: bool = True) -> Characteristic:
    return Characteristic(
        party,
        feature,
        0.31,
        (
            BinRow("[-inf, 3.5)", 700, 140, 0.2, 0.85, 0.2, 12.0 if points else None),
            BinRow("[3.5, inf)", 1300, 65, 0.05, -0.71, 0.1, 37.0 if points else None),
            BinRow("missing", 0, 0, None, 0.0, 0.0, 25.0 if points else None),
        ),
    )


@pytest.fixture(scope="module")
def document(full_report) -> ScorecardReport:
    return ScorecardReport(
        run=full_report,
        scale={"pdo": 20.0, "base_score": 600.0, "base_odds": 50.0},
        base_points=512.0,
        characteristics=(
            characteristic("platform", "platform.age"),
            characteristic("tax", "tax.f1", points=False),
        ),
        selection=(
            SelectionRow("platform.age", True, "in the card", "", None, None),
            SelectionRow("tax.f2", False, "correlation", "correlation", 0.91, 0.8, "tax.f1"),
        ),
        coefficients=(
            CoefficientRow("platform", "intercept", -2.1, 0.02, -105.0, 0.0, -2.14, -2.06),
            CoefficientRow("platform", "platform.age", 0.9, 0.1, 9.0, 2e-19, 0.7, 1.1),
            CoefficientRow("tax", "tax.f1", None, None, None, None, None, None),
        ),
        trace=(TraceRow(1, "hidden", 0.2, 0), TraceRow(2, "hidden", 1e-3, 0)),
        revealed=1,
        metrics=(
            MetricRow("train", "AUC", 0.8, 0.79, 0.81),
            MetricRow("out_of_time", "AUC", 0.7, 0.69, 0.71),
        ),
        stability=(StabilityRow("out_of_time", "score", 0.3), StabilityRow("test", "score", 0.01)),
        fit=(FitQuality("test", 0.09, 8.5, 8, 0.386),),
        bands=(
            BandRow("480 to 520", 900, 90, 0.1, 9.0, 8.5, 0.45, 0.06),
            BandRow("520 to 560", 1100, 11, 0.01, 99.0, 88.0, 1.0, 0.01),
        ),
        slices=(SliceRow("region", "north", 900, 90, 0.1, 531.2, 0.62, 0.71, 0.11),),
        cutoff=520.0,
        notes={"Purpose": "Credit to small enterprises."},
    )


def words(page: str) -> str:
    return re.sub(r"<[^>]+>", " ", page).replace(NBSP, " ")


def test_every_part_is_on_the_page(page):
    shown = words(page)
    for expected in (
        "base points",
        "The scorecard",
        "[-inf, 3.5)",
        "correlation: correlation",
        "1 of 2 candidates kept",
        "&lt;0.0001",
        "2 evaluations, 1 predictors revealed",
        "0.7000 (0.6900 to 0.7100)",
        "0.3000 shifted",
        "Hosmer–Lemeshow",
        "Odds by the scale",
        "region: north",
        "Approved from 520 points on",
        "Credit to small enterprises.",
        "Who learned what",
        "A dash stands for what its owner keeps to itself.",
    ):
        assert expected in shown, expected
    assert len(re.findall("<svg ", page)) >= 4 + 6
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "<script" not in page


def test_each_absent_part_leaves_its_section_out(document, page):
    absent = ("selection", "slices", "stability", "bands")
    bare = dataclasses.replace(document, notes={}, **dict.fromkeys(absent, ())).to_html()
    for anchor in (*absent, "notes"):
        assert f'id="{anchor}"' in page
        assert f'id="{anchor}"' not in bare


def test_the_document_survives_json(document, page):
    text = json.dumps(document.to_dict(), allow_nan=False)
    again = ScorecardReport.from_dict(json.loads(text))
    assert again == document
    assert again.to_html() == page


def test_a_training_report_is_no_scorecard(full_report):
    with pytest.raises(InputError, match="not a report of the version"):
        ScorecardReport.from_dict(full_report.to_dict())


def test_foreign_names_stay_text(document):
    evil = Characteristic("<b>", "<script>x", 0.1, (BinRow("</svg><i>", 9, 1, 0.1, 0.1, 0.1),))
    changed = dataclasses.replace(document, characteristics=(evil,)).to_html()
    assert "&lt;script&gt;x" in changed
    assert "<script" not in changed
    assert "<i>" not in changed


def test_the_short_form_names_what_matters(document):
    text = str(document.summary())
    for expected in ("Performance", "Characteristics", "Coefficients", "Score bands"):
        assert expected in text
    assert "<table" in document._repr_html_()


def test_pictures_without_data_are_not_drawn(document):
    bare = ScorecardReport(run=document.run, scale={})
    assert plots.bands(bare) is None
    assert plots.convergence(bare) is None
    assert plots.woe(Characteristic("a", "b", 0.0, ())) is None
