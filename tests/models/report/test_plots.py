from __future__ import annotations

import io
import itertools
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from fedcredit.models.report import LearningPoint, TreeCost, plots
from fedcredit.models.report.html import to_svg
from fedcredit.models.report.style import PALETTE

_CLASSIFIER = {
    "uplift",
    "roc",
    "ks",
    "gains",
    "lift",
    "calibration",
    "score_distribution",
    "learning_curve",
    "feature_importance",
    "tree_costs",
}
_REGRESSOR = {
    "uplift",
    "predicted_actual",
    "residuals",
    "learning_curve",
    "feature_importance",
    "tree_costs",
}


def _drawn(report):
    made = {name: getattr(plots, name)(report) for name in plots.__all__}
    return {name: figure for name, figure in made.items() if figure is not None}


@pytest.mark.parametrize(
    ("task", "names"), [("classification", _CLASSIFIER), ("regression", _REGRESSOR)]
)
def test_every_figure_names_itself_and_its_axes(make_report, task, names):
    figures = _drawn(make_report(task))
    assert set(figures) == names
    for figure in figures.values():
        assert isinstance(figure, Figure)
        assert figure.axes[0].get_title(loc="left")
        assert figure.axes[-1].get_xlabel()
        assert all(axes.get_ylabel() for axes in figure.axes)
        figure.savefig(io.BytesIO(), format="png")


def test_nothing_to_draw_is_none(make_report):
    report = make_report(
        scores=[], transcript=None, learning=[LearningPoint(1, 0.3)], importance=[], trees=[]
    )
    assert _drawn(report) == {}


def test_no_text_of_a_figure_leaves_it_or_covers_another(full_report):
    for name, figure in _drawn(full_report).items():
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()
        for axes in figure.axes:
            texts = [t for t in (axes.title, axes.xaxis.label, axes.yaxis.label) if t.get_text()]
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                labels = [
                    tick.label1
                    for tick in axis.get_major_ticks()
                    if low <= tick.get_loc() <= high and tick.label1.get_text()
                ]
                boxes = [t.get_window_extent(renderer) for t in labels if t.get_visible()]
                for first, second in itertools.pairwise(boxes):
                    assert not first.overlaps(second), name
            for t in texts:
                box = t.get_window_extent(renderer)
                assert box.x0 >= -1, (name, t.get_text())
                assert box.y0 >= -1, (name, t.get_text())
                assert box.x1 <= figure.bbox.width + 1, (name, t.get_text())
                assert box.y1 <= figure.bbox.height + 1, (name, t.get_text())


def test_drawing_leaves_the_readers_settings_alone(full_report):
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"figure.facecolor": "black", "text.color": "white"}):
        figure = plots.roc(full_report)
        assert matplotlib.rcParams["text.color"] == "white"
    assert figure.axes[0].title.get_color() == PALETTE["ink"]
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_drawings_are_the_same_each_time(full_report):
    first, second = (to_svg(plots.ks(full_report), "ks", "KS") for _ in range(2))
    assert first == second


def test_joint_and_alone_differ_in_more_than_colour(full_report):
    for draw in (plots.roc, plots.gains):
        joint, alone = draw(full_report).axes[0].lines[:2]
        assert joint.get_linestyle() != alone.get_linestyle()


@pytest.mark.parametrize(("n_bytes", "unit"), [(5, "B"), (5e3, "kB"), (5e6, "MB"), (5e9, "GB")])
def test_tree_costs_choose_a_unit(make_report, n_bytes, unit):
    report = make_report(trees=[TreeCost(7, 1.0, int(n_bytes), 0)])
    assert plots.tree_costs(report).axes[1].get_ylabel() == f"On the wire, {unit}"


def test_formulas_in_names_are_text(make_report):
    figure = plots.feature_importance(make_report(label="$a_1$"))
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert "tax · \\$a_1\\$" in labels
