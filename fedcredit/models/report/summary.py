"""The short form of a report, for terminals and notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from markupsafe import Markup
from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.text import Text

from fedcredit.models.report import views
from fedcredit.models.report.headline import headline
from fedcredit.models.report.tables import Table
from fedcredit.models.report.text import name

if TYPE_CHECKING:
    from fedcredit.models.report.data import TrainingReport

__all__ = ["Summary"]

_WIDTH = 100
_FEATURES = 10

_STYLE = Markup("""<style>
.fc-summary{max-width:60rem;line-height:1.45}
.fc-summary .table{overflow-x:auto}
.fc-summary table{border-collapse:collapse;margin:0}
.fc-summary .caption{font-weight:600;margin:1em 0 .1em}
.fc-summary th,.fc-summary td{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}
.fc-summary thead th{border-bottom:1px solid currentColor}
.fc-summary .n{text-align:right;font-variant-numeric:tabular-nums}
.fc-summary .bar{display:inline-flex;align-items:center;gap:.5em;white-space:nowrap}
.fc-summary .bar .n{min-width:4.5em}
.fc-summary tbody th{font-weight:normal}
.fc-summary .track{display:inline-block;width:6em;height:.7em;background:rgba(128,128,128,.25)}
.fc-summary .track span{display:block;height:100%;background:#2f7fc9}
.fc-summary .note{font-size:.85em;opacity:.8;margin:.2em 0}
</style>""")


class Summary:
    """A report in a few tables: prints through rich, shows in a notebook, reads as text.

    Parameters
    ----------
    report : TrainingReport
    """

    def __init__(self, report: TrainingReport) -> None:
        self.report = report

    @property
    def title(self) -> str:
        """Model and label."""
        return f"{name(self.report.model)} for {name(self.report.target)}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the joint data were worth."""
        return headline(self.report)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that have something to show."""
        report = self.report
        made = (
            views.headline_table(report) or views.quality_table(report),
            views.match_table(report),
            views.split_table(report),
            views.party_table(report),
            views.feature_table(report, limit=_FEATURES),
            views.phase_table(report),
            views.learned_summary(report),
        )
        return tuple(table for table in made if table is not None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Panel(
            Text("\n".join(self.sentences) or "No scores were given."),
            title=Text(self.title, style="bold"),
            title_align="left",
        )
        yield from self.tables

    def _repr_html_(self) -> str:
        body = Markup("").join(Markup("<p>{}</p>").format(s) for s in self.sentences)
        body += Markup("").join(table.to_html() for table in self.tables)
        return str(
            Markup('<div class="fc-summary">{}<h3>{}</h3>{}</div>').format(_STYLE, self.title, body)
        )

    def __str__(self) -> str:
        out = io.StringIO()
        Console(file=out, width=_WIDTH, color_system=None, legacy_windows=False).print(self)
        return out.getvalue()

    def __repr__(self) -> str:
        return f"Summary({self.report!r})"
