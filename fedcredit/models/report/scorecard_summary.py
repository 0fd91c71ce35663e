"""A scorecard's model document in a few tables."""

from __future__ import annotations

from fedcredit.models.report import scorecard_views, views
from fedcredit.models.report.scorecard_data import ScorecardReport
from fedcredit.models.report.summary import Summary
from fedcredit.models.report.tables import Table

__all__ = ["ScorecardSummary"]


class ScorecardSummary(Summary):
    """A model document in short: prints through rich, shows in a notebook, reads as text.

    Parameters
    ----------
    document : ScorecardReport
    """

    def __init__(self, document: ScorecardReport) -> None:
        super().__init__(document.run)
        self.document = document

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that have something to show."""
        made = (
            *scorecard_views.tables_of(self.document),
            views.phase_table(self.report),
            views.learned_summary(self.report),
        )
        return tuple(table for table in made if table is not None)
