"""A party's part of a scorecard: its JSON, and that parts add up to the card."""

import copy
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import fedcredit as fc
from fedcredit import errors
from fedcredit.models.card_part import FORMAT, CardCharacteristic, CardPart
from fedcredit.models.scorecard import VerticalScorecard
from fedcredit.stats.bin_rules import BinRule
from fedcredit.stats.scorecard_points import PointScale
from tests.support.parties import OPEN, assert_helpful, federation, tables


def numeric(**changes):
    rule = BinRule(
        kind="numeric", splits=np.array([-1.5, 0.1, 7.0]), special_codes=(-999.0, 0.0), folded=()
    )
    given = {
        "name": "debt",
        "rule": rule,
        "woe": np.array([0.5, 0.25, -0.125, -1.0, 2.0, 0.75, 0.0]),
        "points": np.array([-9.0, -4.0, 2.0, 18.0, -36.0, -13.0, 0.5]),
        "coef": 0.625,
    }
    return CardCharacteristic(**{**given, **changes})


def categorical(**changes):
    rule = BinRule(kind="categorical", groups=((0, 2), (1,)), n_categories=4, folded=(1,))
    given = {
        "name": "sector",
        "rule": rule,
        "woe": np.array([0.3, -0.3, 0.0]),
        "points": np.array([-7.0, 6.0, 0.0]),
        "coef": 0.8,
        "categories": ("trade", "farming", "IT, 软件", "none yet"),
    }
    return CardCharacteristic(**{**given, **changes})


def part(**changes):
    given = {
        "party": "tax",
        "model_id": "m-1",
        "characteristics": (numeric(), categorical()),
        "base_points": 500.25,
        "scale": PointScale(20.0, 600.0, 50.0),
    }
    return CardPart(**{**given, **changes})


def test_points_by_hand():
    table = pd.DataFrame(
        {
            "sector": ["trade", "farming", None, "mining", "IT, 软件", "none yet", "trade"],
            "debt": [-1.5, np.nextafter(-1.5, -2), np.nan, -999.0, -0.0, 7.0, 0.1],
            "unused": 0,
        }
    )
    debt = [-4.0, -9.0, 0.5, -36.0, -13.0, 18.0, 2.0]
    sector = [-7.0, 6.0, 6.0, 6.0, -7.0, 6.0, -7.0]
    assert part().points(table).tolist() == [
        500.25 + a + b for a, b in zip(debt, sector, strict=True)
    ]
    woe = part().woe(table)
    assert woe[:, 0].tolist() == [0.25, 0.5, 0.0, 2.0, 0.75, -1.0, -0.125]
    assert woe[:, 1].tolist() == [0.3, -0.3, -0.3, -0.3, 0.3, -0.3, 0.3]


def test_no_rows_and_no_characteristics():
    empty = pd.DataFrame({"debt": np.empty(0), "sector": np.empty(0, object)})
    assert part().points(empty).shape == (0,)
    assert part().woe(empty).shape == (0, 2)
    alone = part(characteristics=())
    assert alone.points(pd.DataFrame(index=range(3))).tolist() == [500.25] * 3


def test_infinite_and_absent_columns_are_refused():
    row = pd.DataFrame({"debt": [np.inf], "sector": ["trade"]})
    for table in (row, row.assign(debt=-np.inf), row[["sector"]], row.assign(debt="much")):
        with pytest.raises(errors.InputError) as caught:
            part().points(table)
        assert_helpful(caught.value, party="tax")


@pytest.mark.parametrize(
    "changes",
    [
        {"woe": np.zeros(6)},
        {"points": np.full(7, np.nan)},
        {"points": np.full(7, np.inf)},
        {"coef": np.nan},
        {"categories": ("a", "b")},
    ],
)
def test_a_characteristic_that_does_not_fit_is_refused(changes):
    with pytest.raises(errors.InputError):
        numeric(**changes)


@pytest.mark.parametrize("names", [None, ("a", "b"), ("a", "a", "b", "c")])
def test_names_of_categories_have_to_fit(names):
    with pytest.raises(errors.InputError):
        categorical(categories=names)


def test_a_part_that_does_not_fit_is_refused():
    with pytest.raises(errors.InputError, match="one name"):
        part(characteristics=(numeric(), numeric()))
    with pytest.raises(errors.InputError, match="base points"):
        part(base_points=np.inf)


def test_values_cannot_be_changed_and_are_not_shown():
    one = numeric()
    with pytest.raises(ValueError, match="read-only"):
        one.points[0] = 1.0
    assert "0.625" not in repr(part())
    assert "farming" not in repr(part())


# -------------------------------------------------------------------------------- JSON


def test_json_is_strict_and_exact():
    one = part(characteristics=(numeric(coef=1 / 3), categorical()), base_points=0.1)
    text = one.to_json()

    def no_constant(name):
        raise AssertionError(name)

    plain = json.loads(text, parse_constant=no_constant)
    assert plain["format"] == FORMAT == "fedcredit.scorecard_part/1"
    assert set(plain) == {
        *("format", "party", "model_id", "base_points", "scale", "characteristics")
    }
    again = CardPart.from_json(text)
    assert again.to_dict() == one.to_dict() == plain
    assert again.characteristics[0].coef == 1 / 3
    assert again.scale == one.scale
    assert CardPart.from_dict(part(scale=None).to_dict()).scale is None


def changed(path, value):
    data = copy.deepcopy(part().to_dict())
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "fedcredit.scorecard_part/2"),
        (["party"], KeyError),
        (["party"], 3),
        (["more"], 1),
        (["base_points"], "500"),
        (["base_points"], True),
        (["base_points"], 10**400),
        (["base_points"], float("nan")),
        (["scale"], 20.0),
        (["scale", "pdo"], None),
        (["scale", "pdo"], -1.0),
        (["characteristics"], {}),
        (["characteristics", 0], "debt"),
        (["characteristics", 0, "name"], None),
        (["characteristics", 0, "points"], "0123456"),
        (["characteristics", 0, "points", 1], None),
        (["characteristics", 0, "points", 1], float("inf")),
        (["characteristics", 0, "points"], [1.0]),
        (["characteristics", 0, "coef"], KeyError),
        (["characteristics", 0, "rule"], None),
        (["characteristics", 0, "rule", "splits"], [2.0, 1.0, 3.0]),
        (["characteristics", 0, "rule", "splits", 2], 10**400),
        (["characteristics", 0, "rule", "kind"], "categorical"),
        (["characteristics", 0, "categories"], ["a"]),
        (["characteristics", 1, "categories"], None),
        (["characteristics", 1, "categories", 0], 1),
        (["characteristics", 1, "name"], "debt"),
    ],
)
def test_damaged_json_is_refused(path, value):
    data = changed(path, value)
    with pytest.raises(errors.InputError):
        CardPart.from_dict(data)
    with pytest.raises(errors.InputError):
        CardPart.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, b"\xff\xfe\x00"])
def test_other_text_is_refused(text):
    with pytest.raises(errors.InputError) as caught:
        CardPart.from_json(text)
    assert_helpful(caught.value)


# -------------------------------------------------------------------------------- cards


@pytest.fixture(scope="module")
def fitted():
    parts, _ = tables(n=400, seed=3)
    rng = np.random.default_rng(1)
    parts["tax"]["sector"] = np.array(["farm", "shop", "mine", "mill"])[parts["tax"]["sector"]]
    parts["platform"].loc[rng.random(400) < 0.1, "age"] = np.nan
    policy = replace(OPEN, max_revealed_predictors=8, allow_exact_predictor=True)
    fed = federation(parts, policy)
    frame = fed.align(on="id")
    cards = {}
    for rounding, spread in ((True, True), (False, False)):
        cards[rounding] = VerticalScorecard(
            rounding=rounding,
            spread_base=spread,
            selector=fc.FeatureSelector(min_iv=0.0, max_iv=None, stepwise=None),
            sign_constraints=None,
        ).fit(frame, y="bad")
    return parts, fed, frame, cards


def of_all(fed, card):
    made = {"platform": CardPart.of_platform(card)}
    for party in card.providers_:
        made[party] = CardPart.of_provider(fed.engines[party], card.model_id_)
    return made


@pytest.mark.parametrize("rounding", [True, False])
def test_parts_add_up_to_the_card(fitted, rounding):
    parts, fed, frame, cards = fitted
    card = cards[rounding]
    made = of_all(fed, card)
    assert set(made) == {"platform", "tax", "social"}
    kinds = {c.rule.kind for one in made.values() for c in one.characteristics}
    assert kinds == {"numeric", "categorical"}
    total = np.zeros(len(frame))
    for party, one in made.items():
        own = parts[party].set_index("id").loc[list(frame.ids)].reset_index()
        total += CardPart.from_json(one.to_json()).points(own)
    expected = card.points(frame).to_numpy(np.float64)
    if rounding:
        assert np.array_equal(total, expected)
    else:
        # Providers' sums travel in steps of 2^-40.
        assert np.abs(total - expected).max() < 1e-9
    assert len(np.unique(total)) > 20


def test_parts_know_the_card(fitted):
    _, fed, _, cards = fitted
    made = of_all(fed, cards[False])
    assert made["platform"].base_points == cards[False].share_.base != 0.0
    assert made["tax"].base_points == 0.0
    assert {one.model_id for one in made.values()} == {cards[False].model_id_}
    assert all(one.scale == cards[False].share_.scale for one in made.values())
    for one in made.values():
        # The weights of the parts are those that the platform's table shows.
        known = {c.label: c for c in cards[False].share_.of(one.party)}
        for c in one.characteristics:
            assert np.array_equal(c.woe, known[c.name].woe)
            assert c.coef == pytest.approx(known[c.name].coef, rel=1e-9)


def test_a_loaded_card_has_the_same_part(fitted):
    card = fitted[3][True]
    loaded = VerticalScorecard.load(card.to_bytes())
    assert CardPart.of_platform(loaded).to_json() == CardPart.of_platform(card).to_json()


def test_cards_that_are_not_there(fitted):
    _, fed, _, _ = fitted
    with pytest.raises(errors.ProtocolError) as caught:
        CardPart.of_provider(fed.engines["tax"], "none")
    assert_helpful(caught.value)
    with pytest.raises(NotFittedError):
        CardPart.of_platform(VerticalScorecard())
