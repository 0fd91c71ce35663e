"""Tables that a terminal (rich) and a page (HTML) show alike.

A :class:`Table` holds finished text; both renderings escape it, so a party or feature may have
any name.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup, escape
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

__all__ = ["Bar", "Cell", "Column", "Table"]

_BAR_CELLS = 12


@dataclass(frozen=True)
class Column:
    """A heading with its unit where it has one; numbers stand right."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Bar:
    """A number with a bar of ``share`` (0 to 1) beside it, or room for one (None)."""

    text: str
    share: float | None


Cell = str | Bar


@dataclass(frozen=True)
class Table:
    """A titled table.

    Attributes
    ----------
    title : str
    columns : tuple of Column
    rows : tuple of tuple of Cell
        The first cell of a row is its heading.
    note : str
        Shown below; empty for none.
    stack : bool
        On a narrow screen show every row as a block instead of scrolling sideways (for tables
        with running text).
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    stack: bool = False

    def to_html(self) -> Markup:
        """Return a titled ``<table>`` with scoped headings."""
        head = Markup("").join(
            Markup('<th scope="col"{}>{}</th>').format(_class(c), c.name) for c in self.columns
        )
        body = Markup("").join(
            Markup("<tr>{}</tr>").format(
                Markup("").join(
                    _html_cell(cell, column, first=i == 0)
                    for i, (cell, column) in enumerate(zip(row, self.columns, strict=True))
                )
            )
            for row in self.rows
        )
        table = Markup(
            '<table{} aria-label="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
        ).format(Markup(' class="stack"') if self.stack else "", self.title, head, body)
        note = Markup('<p class="note">{}</p>').format(self.note) if self.note else Markup("")
        # The title stands outside of what scrolls sideways.
        return Markup(
            '<p class="caption">{}</p>'
            '<div class="table" tabindex="0" role="region" aria-label="{}">{}</div>{}'
        ).format(self.title, self.title, table, note)

    def _repr_html_(self) -> str:
        return str(self.to_html())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = RichTable(
            title=Text(self.title, style="bold"),
            title_justify="left",
            caption=Text(self.note) if self.note else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for i, column in enumerate(self.columns):
            table.add_column(
                Text(column.name),
                justify="right" if column.numeric else "left",
                style="bold" if i == 0 else "",
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*[Text(_plain(cell)) for cell in row])
        yield table


def _class(column: Column) -> Markup:
    return Markup(' class="n"') if column.numeric else Markup("")


def _html_cell(cell: Cell, column: Column, *, first: bool) -> Markup:
    if isinstance(cell, Bar):
        track = Markup("")
        if cell.share is not None:
            track = Markup('<span class="track"><span style="width:{:.1f}%"></span></span>').format(
                100 * min(max(cell.share, 0.0), 1.0)
            )
        content = Markup('<span class="bar"><span class="n">{}</span>{}</span>').format(
            cell.text, track
        )
    else:
        content = escape(cell)
    if first:
        # Long names may break after their joints.
        for joint in "_.":
            content = content.replace(joint, Markup(f"{joint}<wbr>"))
        return Markup('<th scope="row"{}>{}</th>').format(_class(column), content)
    return Markup('<td data-label="{}"{}>{}</td>').format(column.name, _class(column), content)


def _plain(cell: Cell) -> str:
    if isinstance(cell, Bar):
        filled = round(_BAR_CELLS * min(max(cell.share or 0.0, 0.0), 1.0))
        return f"{cell.text:>8} {'█' * filled:<{_BAR_CELLS}}"
    return cell
