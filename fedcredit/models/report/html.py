"""The training report as one self-contained HTML page.

Styles and figures stand in the page; it loads nothing, runs no script (its own content security
policy forbids both), follows the reader's light or dark setting and prints in light colours.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from fedcredit.models.report import plots, views
from fedcredit.models.report.headline import MODEL_NAMES, SPLIT_NAMES, headline, shown
from fedcredit.models.report.quality import ClassifierQuality, RegressorQuality
from fedcredit.models.report.style import PALETTE, drawing
from fedcredit.models.report.tables import Table
from fedcredit.models.report.text import count, decimal, name, percent, signed, size

if TYPE_CHECKING:
    from fedcredit.models.report.data import TrainingReport

__all__ = ["render", "to_svg"]

_SVG_METADATA: dict[str, None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class _Picture:
    svg: Markup
    caption: str


@dataclass(frozen=True)
class _Tile:
    label: str
    value: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class _Section:
    anchor: str
    short: str
    title: str
    intro: str
    tables: tuple[Markup, ...]
    pictures: tuple[_Picture, ...]


def render(report: TrainingReport) -> str:
    """Return the report as an HTML page; parts without data are left out."""
    return _template().render(
        title=name(report.title),
        model=name(report.model),
        target=name(report.target),
        platform=name(report.platform),
        created=report.provenance.created.isoformat(sep=" ", timespec="minutes"),
        created_iso=report.provenance.created.isoformat(),
        sentences=headline(report),
        tiles=_tiles(report),
        worth=_picture(
            report, plots.uplift, "Difference and its interval; zero means no difference."
        ),
        sections=[s for s in _sections(report) if s.tables or s.pictures],
        version=name(report.provenance.package_version),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedcredit.models.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("training_report.html.j2")


def to_svg(figure: Figure, key: str, description: str) -> Markup:
    """Return a figure as inline SVG whose colours follow the page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    key : str
        Prefix of the ids in the drawing, unique in the page.
    description : str
        Read out instead of the drawing.
    """
    out = io.StringIO()
    with drawing():
        figure.savefig(out, format="svg", metadata=_SVG_METADATA)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'(\sid="|url\(#|\shref="#)', rf"\g<1>{key}-", svg)
    for colour, value in PALETTE.items():
        svg = svg.replace(value, f"var(--{colour})")
    label = Markup('<svg role="img" aria-label="{}"').format(description)
    return Markup(svg.replace("<svg", label, 1))


def _tiles(report: TrainingReport) -> list[_Tile]:
    tiles = [
        _Tile(
            f"{u.metric} of the joint model" + ("" if u.higher_is_better else ", lower is better"),
            decimal(u.joint),
            (
                f"platform alone {decimal(u.alone)}",
                f"difference {signed(u.difference)}",
                f"{percent(u.confidence, 0)} interval {signed(u.low)} to {signed(u.high)}",
            ),
        )
        for u in report.uplift
    ]
    joint = shown(report)
    if not tiles and joint is not None:
        found: tuple[tuple[str, float | None], ...]
        if isinstance(joint, ClassifierQuality):
            found = (("AUC", joint.auc), ("KS", joint.ks), ("Gini", joint.gini))
        else:
            found = (("R²", joint.r2), ("RMSE", joint.rmse), ("MAE", joint.mae))
        split = SPLIT_NAMES[joint.split]
        tiles = [
            _Tile(f"{metric} of the {MODEL_NAMES[joint.name]}", decimal(value), (f"{split} rows",))
            for metric, value in found
        ]
    return tiles


def _picture(
    report: TrainingReport, draw: Callable[[TrainingReport], Figure | None], caption: str
) -> tuple[_Picture, ...]:
    figure = draw(report)
    if figure is None:
        return ()
    title = figure.axes[0].get_title(loc="left")
    key = draw.__name__.replace("_", "-")
    return (_Picture(to_svg(figure, key, f"{title}. {caption}"), caption),)


def _html(*tables: Table | None) -> tuple[Markup, ...]:
    return tuple(table.to_html() for table in tables if table is not None)


def _sections(report: TrainingReport) -> list[_Section]:
    wire = report.wire or ()
    return [
        _Section(
            "data",
            "Data",
            "Data and matching",
            "",
            _html(views.match_table(report), views.split_table(report)),
            (),
        ),
        _Section(
            "settings",
            "Settings",
            "Parameters and privacy settings",
            "",
            _html(views.privacy_table(report), views.parameter_table(report)),
            (),
        ),
        _Section(
            "quality",
            "Quality",
            "Quality",
            "",
            _html(views.quality_table(report), views.gains_table(report)),
            _quality_pictures(report),
        ),
        _Section(
            "importance",
            "Importance",
            "Importance",
            "",
            _html(views.party_table(report), views.feature_table(report)),
            (),
        ),
        _Section(
            "cost",
            "Cost",
            "Cost",
            "",
            _html(views.phase_table(report), views.wire_table(report)),
            _picture(report, plots.tree_costs, _tree_caption(report)),
        ),
        _Section(
            "learned",
            "Who learned what",
            "Who learned what",
            f"The messages in this job's transcript, {count(sum(r.messages for r in wire))} in all "
            f"with {size(sum(r.bytes for r in wire))}, by the party that received them. The last "
            "column is what the class of the message declares.",
            _html(*views.learned_tables(report)),
            (),
        ),
        _Section(
            "reproducibility",
            "Reproducibility",
            "Reproducibility",
            "",
            _html(views.provenance_table(report)),
            (),
        ),
    ]


def _quality_pictures(report: TrainingReport) -> tuple[_Picture, ...]:
    joint, alone = shown(report), shown(report, "alone")
    pictures: tuple[_Picture, ...] = ()
    if isinstance(joint, ClassifierQuality):
        ks_note = ""
        if isinstance(alone, ClassifierQuality):
            ks_note = f" The platform alone reaches {decimal(alone.ks, 3)}."
        pictures = (
            *_picture(report, plots.roc, "Up and left is better."),
            *_picture(
                report,
                plots.ks,
                f"KS of the joint model: {decimal(joint.ks, 3)}.{ks_note}",
            ),
            *_picture(
                report,
                plots.gains,
                f"The riskiest 10 % of rows hold {percent(joint.top_capture)} of all events.",
            ),
            *_picture(report, plots.lift, "1 × is the event rate of all rows."),
            *_picture(
                report,
                plots.calibration,
                "Groups of equal size; bars are 95 % Wilson intervals.",
            ),
            *_picture(report, plots.score_distribution, "Each class adds up to 100 %."),
        )
    elif isinstance(joint, RegressorQuality):
        pictures = (
            *_picture(report, plots.predicted_actual, "Groups of rows of similar prediction."),
            *_picture(report, plots.residuals, "A flat line at zero means no systematic error."),
        )
    return (
        *pictures,
        *_picture(report, plots.learning_curve, f"Mean {name(report.loss_name)} per row."),
    )


def _tree_caption(report: TrainingReport) -> str:
    if not report.trees:
        return ""
    n = len(report.trees)
    time = sum(t.seconds for t in report.trees) / n
    up = sum(t.bytes_up for t in report.trees) / n
    down = sum(t.bytes_down for t in report.trees) / n
    return (
        f"Mean of {count(n)} trees: {decimal(time, 2)} s, {size(up)} sent and {size(down)} "
        "received by the platform."
    )
