from __future__ import annotations

import copy
import json
from datetime import datetime

import pytest

from fedcredit.errors import InputError
from fedcredit.models.report import PartyMatch, Provenance, TrainingReport


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_json_round_trip(make_report, task):
    report = make_report(task)
    line = json.dumps(report.to_dict(), allow_nan=False)
    again = TrainingReport.from_dict(json.loads(line))
    assert again == report
    assert json.dumps(again.to_dict(), allow_nan=False) == line
    assert again.to_html() == report.to_html()


def test_round_trip_without_optional_parts(make_report):
    report = make_report(
        scores=[],
        transcript=None,
        match=[],
        aligned_rows=None,
        splits=[],
        parameters={},
        privacy=None,
        learning=[],
        importance=[],
        phases=[],
        trees=[],
    )
    assert TrainingReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert report.wire is None
    assert report.uplift == ()


def test_a_report_holds_no_rows(make_report, score_makers):
    scores = score_makers["classification"](5000)
    short, long = (
        make_report(scores=score_makers["classification"](500)),
        make_report(scores=scores),
    )
    sizes = [len(json.dumps(r.to_dict())) for r in (short, long)]
    assert sizes[1] < 1.2 * sizes[0]


def _set(values, path, value):
    *parents, last = path
    for key in parents:
        values = values[key]
    values[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "fedcredit.training_report/0"),
        (("task",), "clustering"),
        (("target",), 3),
        (("surprise",), 1),
        (("aligned_rows",), 1.5),
        (("match", 0, "rows"), True),
        (("match", 0), 5),
        (("privacy", "hide_membership"), 1),
        (("provenance", "created"), "yesterday"),
        (("provenance", "seeds"), []),
        (("trees", 0, "seconds"), "1"),
        (("classification", 0, "ranking", "events"), 4),
        (("parameters", "learning_rate"), [1]),
    ],
)
def test_a_changed_document_is_refused(full_report, path, value):
    values = copy.deepcopy(full_report.to_dict())
    _set(values, path, value)
    with pytest.raises(InputError) as caught:
        TrainingReport.from_dict(values)
    assert caught.value.step == "read report"


def test_a_missing_entry_is_named(full_report):
    values = full_report.to_dict()
    del values["provenance"]["job"]
    with pytest.raises(InputError, match=r"report\.provenance misses job"):
        TrainingReport.from_dict(values)


def test_settings_keep_their_types(full_report):
    again = TrainingReport.from_dict(json.loads(json.dumps(full_report.to_dict())))
    kept = {key: type(value) for key, value in again.parameters.items()}
    assert kept == {
        "n_estimators": int,
        "learning_rate": float,
        "subsample": type(None),
        "goss": bool,
    }


def test_two_scores_of_one_name_and_split_are_refused(make_report, score_makers):
    scores = score_makers["classification"](100)
    with pytest.raises(InputError, match="same name and split"):
        make_report(scores=[*scores, scores[0]])


def test_time_needs_a_zone():
    with pytest.raises(InputError, match="time zone"):
        Provenance(job="j", created=datetime(2026, 1, 1))


@pytest.mark.parametrize("counts", [{"rows": 5, "distinct": 6}, {"distinct": 5, "matched": 6}])
def test_impossible_matches_are_refused(counts):
    with pytest.raises(InputError) as caught:
        PartyMatch("tax", **counts)
    assert caught.value.party == "tax"


def test_match_rate():
    assert PartyMatch("tax", distinct=200, matched=50).match_rate == 0.25
    assert PartyMatch("tax", matched=50).match_rate is None
