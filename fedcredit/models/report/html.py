"""The training report as one self-contained HTML page.

Styles and figures stand in the page; it loads nothing, runs no script (its own content security
policy forbids both), follows the reader's light or dark setting and prints in light colours.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

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

__all__ = [
    "Picture",
    "Section",
    "Tile",
    "html",
    "page",
    "picture",
    "render",
    "run_sections",
    "template",
    "to_svg",
]

T = TypeVar("T")

_SVG_METADATA: dict[str, None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Picture:
    """A drawing and what stands below it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Tile:
    """A number with its label and what stands below it."""

    label: str
    value: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One part of a page; a part without tables and pictures is left out.

    ``pairs`` are tables with the pictures beside them.
    """

    anchor: str
    short: str
    title: str
    intro: str
    tables: tuple[Markup, ...]
    pictures: tuple[Picture, ...]
    pairs: tuple[tuple[Markup, tuple[Picture, ...]], ...] = ()


def render(report: TrainingReport) -> str:
    """Return the report as an HTML page; parts without data are left out."""
    return page(report, list(run_sections(report).values()))


def page(report: TrainingReport, sections: Sequence[Section]) -> str:
    """Return a page on a training run: its headline, then these sections."""
    return template().render(
        title=name(report.title),
        model=name(report.model),
        target=name(report.target),
        platform=name(report.platform),
        created=report.provenance.created.isoformat(sep=" ", timespec="minutes"),
        created_iso=report.provenance.created.isoformat(),
        sentences=headline(report),
        tiles=_tiles(report),
        worth=picture(
            report, plots.uplift, "Difference and its interval; zero means no difference."
        ),
        sections=[s for s in sections if s.tables or s.pictures or s.pairs],
        version=name(report.provenance.package_version),
    )


@functools.cache
def template(file: str = "training_report.html.j2") -> jinja2.Template:
    """Return a page's template; the others extend the training report's."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedcredit.models.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(file)


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


def _tiles(report: TrainingReport) -> list[Tile]:
    tiles = [
        Tile(
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
            Tile(f"{metric} of the {MODEL_NAMES[joint.name]}", decimal(value), (f"{split} rows",))
            for metric, value in found
        ]
    return tiles


def picture(
    subject: T, draw: Callable[[T], Figure | None], caption: str, key: str = ""
) -> tuple[Picture, ...]:
    """Draw a picture of a report or of a part of it; nothing if there is nothing to draw.

    ``key`` tells several pictures by the same function apart.
    """
    figure = draw(subject)
    if figure is None:
        return ()
    title = figure.axes[0].get_title(loc="left")
    prefix = draw.__name__.replace("_", "-") + key
    return (Picture(to_svg(figure, prefix, f"{title}. {caption}"), caption),)


def html(*tables: Table | None) -> tuple[Markup, ...]:
    """Return the tables that there are as HTML."""
    return tuple(table.to_html() for table in tables if table is not None)


def run_sections(report: TrainingReport) -> dict[str, Section]:
    """Return the sections on a training run by their anchors."""
    wire = report.wire or ()
    made = (
        Section(
            "data",
            "Data",
            "Data and matching",
            "",
            html(views.match_table(report), views.split_table(report)),
            (),
        ),
        Section(
            "settings",
            "Settings",
            "Parameters and privacy settings",
            "",
            html(views.privacy_table(report), views.parameter_table(report)),
            (),
        ),
        Section(
            "quality",
            "Quality",
            "Quality",
            "",
            html(views.quality_table(report), views.gains_table(report)),
            _quality_pictures(report),
        ),
        Section(
            "importance",
            "Importance",
            "Importance",
            "",
            html(views.party_table(report), views.feature_table(report)),
            (),
        ),
        Section(
            "cost",
            "Cost",
            "Cost",
            "",
            html(views.phase_table(report), views.wire_table(report)),
            picture(report, plots.tree_costs, _tree_caption(report)),
        ),
        Section(
            "learned",
            "Who learned what",
            "Who learned what",
            f"The messages in this job's transcript, {count(sum(r.messages for r in wire))} in all "
            f"with {size(sum(r.bytes for r in wire))}, by the party that received them. The last "
            "column is what the class of the message declares.",
            html(*views.learned_tables(report)),
            (),
        ),
        Section(
            "reproducibility",
            "Reproducibility",
            "Reproducibility",
            "",
            html(views.provenance_table(report)),
            (),
        ),
    )
    return {section.anchor: section for section in made}


def _quality_pictures(report: TrainingReport) -> tuple[Picture, ...]:
    joint, alone = shown(report), shown(report, "alone")
    pictures: tuple[Picture, ...] = ()
    if isinstance(joint, ClassifierQuality):
        ks_note = ""
        if isinstance(alone, ClassifierQuality):
            ks_note = f" The platform alone reaches {decimal(alone.ks, 3)}."
        pictures = (
            *picture(report, plots.roc, "Up and left is better."),
            *picture(
                report,
                plots.ks,
                f"KS of the joint model: {decimal(joint.ks, 3)}.{ks_note}",
            ),
            *picture(
                report,
                plots.gains,
                f"The riskiest 10 % of rows hold {percent(joint.top_capture)} of all events.",
            ),
            *picture(report, plots.lift, "1 × is the event rate of all rows."),
            *picture(
                report,
                plots.calibration,
                "Groups of equal size; bars are 95 % Wilson intervals.",
            ),
            *picture(report, plots.score_distribution, "Each class adds up to 100 %."),
        )
    elif isinstance(joint, RegressorQuality):
        pictures = (
            *picture(report, plots.predicted_actual, "Groups of rows of similar prediction."),
            *picture(report, plots.residuals, "A flat line at zero means no systematic error."),
        )
    return (
        *pictures,
        *picture(report, plots.learning_curve, f"Mean {name(report.loss_name)} per row."),
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
