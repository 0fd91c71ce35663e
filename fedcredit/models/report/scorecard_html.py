"""A scorecard's model document as one self-contained HTML page."""

from __future__ import annotations

from fedcredit.models.report import scorecard_plots as plots
from fedcredit.models.report import scorecard_views as views
from fedcredit.models.report.html import Section, html, page, picture, run_sections
from fedcredit.models.report.scorecard_data import ScorecardReport
from fedcredit.models.report.text import count, name

__all__ = ["render"]

#: Sections on the run that stand before and after what is particular to a scorecard.
_BEFORE, _AFTER = ("data",), ("settings", "cost", "learned", "reproducibility")


def render(report: ScorecardReport) -> str:
    """Return the document as an HTML page; parts without data are left out."""
    run = run_sections(report.run)
    sections = [run[anchor] for anchor in _BEFORE]
    sections += [
        _card(report),
        _bins(report),
        _selection(report),
        _regression(report),
        _performance(report, run["quality"]),
        _bands(report),
        _stability(report),
        _slices(report),
        _notes(report),
    ]
    return page(report.run, sections + [run[anchor] for anchor in _AFTER])


def _card(report: ScorecardReport) -> Section:
    return Section(
        "card",
        "Scorecard",
        "The scorecard",
        "More points mean less risk. The points of an enterprise are the sum over its bins.",
        html(views.scale_table(report), views.characteristic_table(report)),
        (),
    )


def _bins(report: ScorecardReport) -> Section:
    own = report.run.platform
    return Section(
        "bins",
        "Bins",
        "Bins and weights of evidence",
        f"WOE is ln(share of events / share of non-events): above zero is riskier than average. "
        f"Where a bin begins and ends is shown for the features of {name(own)} only; each "
        "provider sees its own ranges at its node.",
        (),
        (),
        tuple(
            (
                views.bin_table(item).to_html(),
                picture(item, plots.woe, f"{count(len(item.bins))} bins.", f"-{number}"),
            )
            for number, item in enumerate(report.characteristics)
        ),
    )


def _selection(report: ScorecardReport) -> Section:
    return Section(
        "selection",
        "Selection",
        "Selection of the characteristics",
        "",
        html(views.selection_table(report)),
        (),
    )


def _regression(report: ScorecardReport) -> Section:
    return Section(
        "regression",
        "Regression",
        "Logistic regression",
        "Each party holds its own coefficients. A revealed predictor is the sum of the providers' "
        "parts of every row's log-odds at one point of the fit; as many of them as a provider has "
        "columns would show its columns, so they are counted and limited.",
        html(views.coefficient_table(report), views.trace_table(report)),
        picture(report, plots.convergence, "Exact steps, if any, come last."),
    )


def _performance(report: ScorecardReport, quality: Section) -> Section:
    return Section(
        "performance",
        "Performance",
        "Performance",
        "",
        html(views.metric_table(report), views.fit_table(report)) + quality.tables,
        quality.pictures,
    )


def _bands(report: ScorecardReport) -> Section:
    return Section(
        "bands",
        "Bands",
        "Score bands and odds",
        "",
        html(views.band_table(report)),
        picture(report, plots.bands, "The lines agree if the scale holds on these rows."),
    )


def _stability(report: ScorecardReport) -> Section:
    return Section(
        "stability", "Stability", "Stability", "", html(views.stability_table(report)), ()
    )


def _slices(report: ScorecardReport) -> Section:
    return Section(
        "slices",
        "Fairness",
        "Fairness across groups",
        "Groups by columns of the platform, whether or not they stand in the card. Compare the "
        "event rate with the mean probability within a group, and approval between groups.",
        html(views.slice_table(report)),
        (),
    )


def _notes(report: ScorecardReport) -> Section:
    return Section(
        "notes", "Use", "Intended use and limits", "", html(views.note_table(report)), ()
    )
