"""The field catalog: every rule, default deny, strict reading, drafts and checks."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from fedcredit.errors import ConfigError, Refusal
from fedcredit.governance.catalog import Catalog
from fedcredit.governance.catalog_draft import check_catalog, guess_type
from fedcredit.governance.catalog_fields import GRADES, GRAINS, USES, coarser
from fedcredit.governance.codes import CODES
from fedcredit.governance.question import PURPOSES

TEXT = """
[catalog]
provider = "tax"
version = "2026-11"

[fields.uscc]
type = "id"
grade = 2
sharing = "public"
uses = ["alignment"]

[fields.paid]
type = "number"
unit = "CNY"
description = "tax paid in 2025"
grade = 3
sharing = "consent"
uses = ["training", "scoring", "verification"]
purposes = ["credit_granting", "guarantee"]
min_aggregation = 20
reason_grain = "group"
group = "payments"

[[fields.paid.predicates]]
id = "paid_at_least"
text = "tax paid in 2025 is at least {threshold} CNY"
operator = ">="
thresholds = [100_000, 500_000]

[fields.overdue]
type = "flag"
grade = 3
sharing = "consent"
uses = ["verification"]
purposes = ["credit_granting"]

[[fields.overdue.predicates]]
id = "no-arrears"
text = "there are no arrears"
operator = "=="
values = [false]
"""


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.from_dict(tomllib.loads(TEXT))


def one(**changes: object) -> Catalog:
    """A catalog of one field that is open for everything, changed."""
    entry = {
        "type": "number",
        "grade": 3,
        "sharing": "consent",
        "uses": list(USES),
        "purposes": list(PURPOSES),
        "min_aggregation": 10,
    }
    head = {"provider": "tax", "version": "1"}
    return Catalog.from_dict({"catalog": head, "fields": {"paid": entry | changes}})


def denied(catalog: Catalog, use: str, field: str = "paid", **options: object) -> str | None:
    """Code of the refusal, or None; see that `allowed` says the same."""
    open_fields = catalog.allowed(use, options.get("purpose"))  # type: ignore[arg-type]
    refusal = None
    try:
        catalog.require(use, [field], **options)  # type: ignore[arg-type]
    except Refusal as error:
        refusal = error
    if "rows" not in options:
        assert (field in open_fields) == (refusal is None)
    if refusal is None:
        return None
    assert refusal.code in CODES
    assert repr(field) in refusal.reason
    assert (refusal.step, refusal.party) == ("catalog", "tax")
    assert refusal.fix
    return refusal.code


EVERY = tuple(USES)
NOT_VERIFIED = ("alignment", "training", "scoring")


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, EVERY),
        ({"sharing": "public"}, EVERY),
        ({"sharing": "joint_modelling_only"}, NOT_VERIFIED),  # rule 5
        ({"sharing": "never"}, ()),  # rule 2
        ({"sharing": "never", "grade": 1}, ()),
        ({"grade": 1}, EVERY),
        ({"grade": 2}, EVERY),
        ({"grade": 4}, NOT_VERIFIED),  # rule 4
        ({"grade": 4, "sharing": "public"}, NOT_VERIFIED),
        ({"grade": 5}, ()),  # rule 3
        ({"grade": 5, "sharing": "public"}, ()),
        *(({"uses": [use]}, (use,)) for use in EVERY),  # rule 6
        ({"uses": []}, ()),
    ],
    ids=str,
)
def test_grade_sharing_and_uses(changes, allowed):
    catalog = one(**changes)
    for use in EVERY:
        code = denied(catalog, use)
        assert code == (None if use in allowed else "field_denied")


def test_what_is_not_listed_is_denied():
    for use in EVERY:  # rule 1
        assert denied(one(), use, "salary") == "field_unknown"
    for use in ("score", "", "TRAINING"):
        assert denied(one(), use) == "field_denied"
    with pytest.raises(Refusal) as caught:
        one().min_aggregation(["salary"])
    assert caught.value.code == "field_unknown"


def test_a_field_with_nothing_but_the_required_keys_is_open_for_nothing():
    bare = {"type": "number", "grade": 1, "sharing": "public"}
    head = {"provider": "tax", "version": "1"}
    catalog = Catalog.from_dict({"catalog": head, "fields": {"paid": bare}})
    assert [denied(catalog, use) for use in EVERY] == ["field_denied"] * 4


def test_purposes():
    catalog = one(purposes=["guarantee"])
    for use in ("scoring", "verification"):
        assert denied(catalog, use) is None
        assert denied(catalog, use, purpose="guarantee") is None
        assert denied(catalog, use, purpose="insurance") == "purpose_denied"  # rule 8
        assert denied(one(purposes=[]), use) == "purpose_denied"  # rule 7
        assert denied(one(purposes=[]), use, purpose="guarantee") == "purpose_denied"
    for use in ("alignment", "training"):
        assert denied(one(purposes=[]), use) is None


def test_minimum_aggregation():
    for use in ("alignment", "training"):  # rule 9
        assert denied(one(), use, rows=9) == "aggregation_too_small"
        assert denied(one(), use, rows=10) is None
    # These are about single enterprises, with the consent of each.
    for use in ("scoring", "verification"):
        assert denied(one(), use, rows=1) is None


def test_consent_is_needed_whatever_the_sharing_attribute():
    assert [Catalog.needs_consent(use) for use in USES] == [False, False, True, True]
    assert Catalog.needs_consent("anything else")


def test_the_first_field_that_is_closed_is_named(catalog):
    catalog.require("training", ["paid"])
    with pytest.raises(Refusal, match="'overdue' is not open for training"):
        catalog.require("training", ["paid", "overdue", "salary"])
    with pytest.raises(Refusal, match="'f2' is not open for training") as caught:
        catalog.require("training", ["overdue"], shown={"overdue": "f2"})
    assert "overdue" not in str(caught.value)


def test_predicates_are_behind_the_same_rules(catalog):
    asked = catalog.predicate("paid_at_least", threshold=500_000, purpose="guarantee")
    assert asked.describe() == "tax paid in 2025 is at least 500000 CNY"
    assert list(catalog.predicates()) == ["paid_at_least", "no-arrears"]
    for options, code in [
        ({"predicate": "income"}, "predicate_unknown"),
        ({"predicate": "paid_at_least", "threshold": 500_001}, "threshold_denied"),
        ({"predicate": "paid_at_least"}, "threshold_denied"),
        ({"predicate": "no-arrears", "threshold": 0}, "threshold_denied"),
        ({"predicate": "no-arrears", "purpose": "guarantee"}, "purpose_denied"),
    ]:
        with pytest.raises(Refusal) as caught:
            catalog.predicate(**options)
        assert (caught.value.code, caught.value.party) == (code, "tax")
        assert caught.value.fix


def test_a_predicate_is_closed_with_any_field_that_it_reads(catalog):
    values = catalog.to_dict()
    for month in ("m1", "m2"):
        values["fields"][month] = {**values["fields"]["paid"], "predicates": []}
    values["fields"]["paid"]["predicates"] = [
        {
            "id": "each",
            "text": "at least {threshold} in each month",
            "operator": ">=",
            "thresholds": [10],
            "over": ["m1", "m2"],
            "aggregate": "min",
        }
    ]
    assert Catalog.from_dict(values).predicate("each").fields == ("m1", "m2")
    for name in ("m2", "paid"):
        closed = copy.deepcopy(values)
        closed["fields"][name]["grade"] = 4
        with pytest.raises(Refusal, match=f"'{name}' is of grade 4"):
            Catalog.from_dict(closed).predicate("each")


def test_settings(catalog):
    assert catalog.key_field is catalog.fields["uscc"]
    assert catalog.min_aggregation(["uscc", "paid"]) == 20
    assert catalog.min_aggregation([]) == 1
    assert catalog.reason_grain("paid") == "group"
    assert catalog.reason_grain("overdue") == "party"
    assert set(GRADES) == {1, 2, 3, 4, 5}
    assert coarser("group", "feature") == coarser("feature", "group") == "group"
    assert coarser("none", "party") == "none"
    assert GRAINS == ("feature", "group", "party", "none")


def test_round_trip_and_digest(catalog, tmp_path):
    again = Catalog.from_dict(catalog.to_dict())
    assert again == catalog
    assert again.digest == catalog.digest
    path = tmp_path / "catalog.toml"
    path.write_text(TEXT)
    assert Catalog.load(path).digest == catalog.digest
    path.write_text(TEXT.replace("grade = 3", "grade = 2", 1))
    assert Catalog.load(path).digest != catalog.digest


PAID = 'text = "tax paid in 2025 is at least {threshold} CNY"\n'


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("[catalog]", "[catalogue]", "lacks the table"),
        ('version = "2026-11"', "version = 2", "'version' must be a text"),
        ('version = "2026-11"', "", "lacks 'version'"),
        ('provider = "tax"', 'provider = "Tax Bureau"', "cannot name a party"),
        ('type = "number"', 'type = "money"', "must be one of number, integer"),
        ('type = "number"', "", "lacks 'type'"),
        ("grade = 3", "grade = 6", "at most 5"),
        ("grade = 3", "grade = 0", "at least 1"),
        ("grade = 3", 'grade = "3"', "must be a whole number"),
        ("grade = 3", "", "lacks 'grade'"),
        ('sharing = "consent"', 'sharing = "all"', "must be one of public"),
        ('sharing = "consent"', "", "lacks 'sharing'"),
        ("min_aggregation = 20", "min_agregation = 20", r"did you mean 'min_aggregation'"),
        ("min_aggregation = 20", "min_aggregation = 0", "at least 1"),
        ('uses = ["alignment"]', 'uses = ["alignment", "training"]', "an id is used for nothing"),
        ('uses = ["verification"]', 'uses = ["verify"]', "unknown 'verify'"),
        ('uses = ["verification"]', 'uses = "verification"', "must be a list of texts"),
        ('"credit_granting", "guarantee"', '"marketing"', "unknown 'marketing'"),
        ('"credit_granting", "guarantee"', '"guarantee", "guarantee"', "names an entry twice"),
        ('group = "payments"', "", "there is no group"),
        ('reason_grain = "group"', 'reason_grain = "row"', "must be one of feature"),
        ('id = "no-arrears"', 'id = "paid_at_least"', "two predicates with the id"),
        ('id = "no-arrears"', 'id = "No Arrears"', "cannot name a predicate"),
        ('operator = ">="', 'operator = "=>"', "must be one of >="),
        ('operator = ">="\n', "", "lacks 'operator'"),
        (PAID, 'text = "enough"\n', "does not say its threshold"),
        (PAID, 'text = "{threshold} of {income}"\n', "something in braces"),
        (PAID, 'text = "{threshold"\n', "something in braces"),
        ("thresholds = [100_000, 500_000]", "", "needs thresholds and nothing else"),
        ("[100_000, 500_000]", "[500_000, 100_000]", "must be ascending"),
        ("[100_000, 500_000]", "[500_000, 500_000]", "one twice"),
        ("[100_000, 500_000]", f"{list(range(65))}", "more than 64"),
        ("[100_000, 500_000]", '["x"]', "not of the type number"),
        ("[100_000, 500_000]", "[true]", "not of the type number"),
        ("[100_000, 500_000]", "[inf]", "not finite"),
        ("[100_000, 500_000]", "[[1]]", "must be a list of numbers"),
        ("[100_000, 500_000]", "1", "must be a list"),
        ("[100_000, 500_000]", "[1]\nvalues = [1]", "nothing else"),
        ("[100_000, 500_000]", "[1]\nresolution = 5", "'resolution' belongs to"),
        ("[100_000, 500_000]", '[1]\nover = ["uscc"]', "go together"),
        ("[100_000, 500_000]", '[1]\nover = ["x"]\naggregate = "min"', "no field 'x'"),
        ("[100_000, 500_000]", '[1]\nover = ["uscc"]\naggregate = "min"', "another type"),
        ("[100_000, 500_000]", '[1]\nover = ["paid"]\naggregate = "all"', "does not take fields"),
        ("[100_000, 500_000]", '[1]\nover = ["paid"]\naggregate = "mean"', "must be one of min"),
        ("values = [false]", "values = [0]", "not of the type flag"),
        ("values = [false]", "values = [true, false]", "takes one value"),
        ("values = [false]", "thresholds = [1]", "a flag has no thresholds"),
        ("[[fields.overdue.predicates]]", "[fields.overdue.predicates]", "must be a list"),
        ("[fields.overdue]", "[fields.overdue", "is no TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, match: str):
    assert old in TEXT
    path = tmp_path / "catalog.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=match) as caught:
        Catalog.load(path)
    assert "catalog.toml" in str(caught.value) or "name a party" in match


def test_other_mistakes(catalog, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        Catalog.load(tmp_path / "none.toml")
    assert "fedcredit catalog draft" in caught.value.fix
    with pytest.raises(ConfigError, match="lists no field"):
        Catalog.from_dict({"catalog": {"provider": "tax", "version": "1"}, "fields": {}})
    values = catalog.to_dict()
    values["fields"]["other"] = values["fields"]["uscc"]
    with pytest.raises(ConfigError, match="two keys for alignment"):
        Catalog.from_dict(values)


TABLE = pd.DataFrame(
    {
        "uscc": ["a", "b"],
        "paid": [1.5, None],
        "staff": [1, 2],
        "exporter": [True, False],
        "founded": pd.to_datetime(["2020-01-31", None]),
        "sector": ["secret-sector", "x"],
        "税额 1": [1, 0],
        "bad": [0, 1],
    }
)


def test_a_catalog_that_allows_everything():
    catalog = Catalog.open_for(TABLE, provider="tax")
    for use in USES:
        assert catalog.allowed(use, "insurance") == tuple(TABLE.columns)
        catalog.require(use, TABLE.columns, purpose="guarantee", rows=1)
    assert denied(catalog, "training", "other") == "field_unknown"
    assert catalog.key_field is None
    keyed = Catalog.open_for(["uscc", "paid"], provider="tax", key="uscc")
    assert keyed.key_field.name == "uscc"
    assert keyed.allowed("training") == ("paid",)
    assert Catalog.from_dict(keyed.to_dict()) == keyed
    assert Catalog.open_for((), provider="tax").allowed("training") == ()


def test_a_draft():
    text = Catalog.draft(TABLE, provider="tax", key="uscc", categorical=["staff"], withheld=["bad"])
    assert text == Catalog.draft(
        TABLE.copy(), provider="tax", key="uscc", categorical=["staff"], withheld=["bad"]
    )
    assert "secret-sector" not in text
    assert all(code in text for code in PURPOSES)
    catalog = Catalog.from_dict(tomllib.loads(text))
    assert {name: entry.type for name, entry in catalog.fields.items()} == {
        "uscc": "id",
        "paid": "number",
        "staff": "category",
        "exporter": "flag",
        "founded": "date",
        "sector": "category",
        "税额 1": "integer",
        "bad": "integer",
    }
    features = ("paid", "staff", "exporter", "founded", "sector", "税额 1")
    assert catalog.allowed("alignment") == ("uscc",)
    assert catalog.allowed("training") == features
    assert catalog.allowed("scoring", "credit_granting") == features
    assert catalog.allowed("verification") == ()
    assert {entry.grade for entry in catalog.fields.values()} == {3}
    assert check_catalog(catalog, TABLE) == []


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None], "flag"),
        (pd.array([1, None], dtype="Int64"), "integer"),
        ([1.0, None], "number"),
        ([pd.Timestamp("2020-01-01").date(), None], "date"),
        (["x", None], "category"),
        (pd.Categorical(["a", "b"]), "category"),
        ([None, None], "category"),
    ],
    ids=str,
)
def test_guessed_types(values, kind):
    assert guess_type(pd.Series(values)) == kind


def test_a_check_of_what_is_said_in_vain():
    values = one(grade=4, uses=["training", "verification"]).to_dict()
    found = check_catalog(Catalog.from_dict(values))
    assert [(f.level, f.field) for f in found] == [("note", ""), ("note", "paid")]
    assert "open for alignment" in found[0].text
    assert "grade 4" in found[1].text
    values = one(uses=["alignment"]).to_dict()
    (found,) = check_catalog(Catalog.from_dict(values))
    assert "purposes" in found.text


def test_a_check_against_a_table(catalog):
    fits = pd.DataFrame({"uscc": ["a"], "paid": [1.0], "overdue": [False]})
    assert check_catalog(catalog, fits) == []
    other = pd.DataFrame({"uscc": ["a"], "paid": ["4711"], "income": [1]})
    found = check_catalog(catalog, other)
    assert {(f.level, f.field) for f in found} == {
        ("note", "income"),
        ("error", "paid"),
        ("error", "overdue"),
    }
    texts = " ".join(f.text for f in found)
    for part in (
        "column without an entry",
        "entry without a column",
        "not hold values of type number",
        "'paid_at_least', which cannot be evaluated",
        "'no-arrears', which cannot be evaluated",
    ):
        assert part in texts
    assert "4711" not in texts
