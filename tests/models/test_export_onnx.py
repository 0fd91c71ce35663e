"""A part of a scorecard as ONNX gives, bit by bit, what the part itself gives."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest

from fedcredit import errors
from fedcredit.models.card_part import FORMAT, CardCharacteristic, CardPart
from fedcredit.models.export_onnx import input_names, onnx_inputs, to_onnx
from fedcredit.stats.bin_rules import BinRule
from tests.support.parties import assert_helpful

SPLITS = np.array([-3.25, 0.1, 1 / 3, 1.0, 16777217.0, 1e300])
SPECIALS = (-999.0, 0.0, 1.0)
CATEGORIES = ("trade", "", "IT, 软件", "1", "none yet")


def characteristic(name, rule, rng, categories=None):
    return CardCharacteristic(
        name=name,
        rule=rule,
        woe=rng.normal(size=rule.n_bins),
        points=rng.normal(scale=30.0, size=rule.n_bins),
        coef=float(rng.normal()),
        categories=categories,
    )


def make_part(names=("x", "plain", "constant", "sector", "folded"), seed=0):
    rng = np.random.default_rng(seed)
    rules = [
        BinRule(kind="numeric", splits=SPLITS, special_codes=SPECIALS),
        BinRule(kind="numeric", splits=np.array([0.5])),
        BinRule(kind="numeric"),
        BinRule(kind="categorical", groups=((0, 3), (1,), (2,)), n_categories=5),
        BinRule(
            kind="categorical",
            groups=((0, 1, 2), (3, 4)),
            n_categories=5,
            special_codes=(4.0,),
            folded=(0, 1),
        ),
    ]
    known = [None, None, None, CATEGORIES, CATEGORIES]
    return CardPart(
        party="tax",
        model_id="model-7",
        characteristics=tuple(
            characteristic(name, rule, rng, categories)
            for name, rule, categories in zip(names, rules, known, strict=True)
        ),
        base_points=123.456,
    )


def values(n, rng):
    """Random numbers, every boundary and its neighbours, special codes, and missing values."""
    near = [f(SPLITS) for f in (np.copy, lambda s: np.nextafter(s, -np.inf))]
    near.append(np.nextafter(SPLITS, np.inf))
    pool = np.concatenate([*near, SPECIALS, [-0.0, 0.5, np.nan, 16777216.0, 1.7e308, 5e-324]])
    out = rng.choice(pool, n)
    return np.where(rng.random(n) < 0.5, rng.normal(scale=2.0, size=n), out)


def make_table(part, n=4_000, seed=1):
    rng = np.random.default_rng(seed)
    texts = np.array([*CATEGORIES, "unseen", "TRADE", "trade ", None], object)
    return pd.DataFrame(
        {
            c.name: values(n, rng) if c.categories is None else rng.choice(texts, n)
            for c in part.characteristics
        }
    )


def session(data):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(part, feeds):
    points, woe = session(to_onnx(part, woe=True)).run(["points", "woe"], feeds)
    return points, woe


def test_it_equals_the_reference():
    part = make_part()
    table = make_table(part)
    points, woe = run(part, onnx_inputs(part, table))
    assert points.dtype == woe.dtype == np.float64
    assert points.shape == (len(table), 1)
    assert woe.shape == (len(table), 5)
    assert points[:, 0].tobytes() == part.points(table).tobytes()
    assert woe.tobytes() == part.woe(table).tobytes()
    # Every bin that can be reached was.
    for c in part.characteristics:
        if c.name != "folded":
            reachable = c.rule.n_bins
            assert len(np.unique(c.bins(table, party="tax"))) == reachable


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_the_reference_for_random_rules(seed):
    rng = np.random.default_rng([7, seed])
    made = []
    for j in range(12):
        splits = np.unique(np.round(rng.normal(scale=3.0, size=rng.integers(0, 9)), 1))
        rule = BinRule(kind="numeric", splits=splits, special_codes=tuple(range(j % 3)))
        made.append(characteristic(f"c{j}", rule, rng))
    part = CardPart("social", "m", tuple(made))
    table = pd.DataFrame(
        {c.name: np.round(rng.normal(scale=3.0, size=500), 1) for c in made}
    ).where(rng.random((500, 12)) > 0.1)
    points, woe = run(part, onnx_inputs(part, table))
    assert points[:, 0].tobytes() == part.points(table).tobytes()
    assert woe.tobytes() == part.woe(table).tobytes()


@pytest.mark.parametrize("n", [0, 1])
def test_few_rows(n):
    part = make_part()
    table = make_table(part, n=n)
    points, woe = run(part, onnx_inputs(part, table))
    assert points.shape == (n, 1)
    assert woe.shape == (n, 5)
    assert points[:, 0].tobytes() == part.points(table).tobytes()


def test_infinity_gives_no_number():
    part = make_part()
    table = make_table(part, n=3)
    feeds = onnx_inputs(part, table)
    feeds["constant"] = np.array([[np.inf], [1.0], [-np.inf]])
    points, woe = run(part, feeds)
    assert np.isnan(points[:, 0]).tolist() == [True, False, True]
    assert np.isnan(woe).tolist() == [[j == 2 and i != 1 for j in range(5)] for i in range(3)]
    for value in (np.inf, -np.inf):
        with pytest.raises(errors.InputError):
            onnx_inputs(part, table.assign(constant=value))


def test_numbers_as_categories_are_read_as_the_reference_reads_them():
    part = make_part()
    table = make_table(part, n=6).assign(sector=[1.0, np.nan, 2.0, 1.0, np.nan, 1.5])
    feeds = onnx_inputs(part, table)
    # "" is a category here, so another text stands for missing.
    assert feeds["sector"][:, 0].tolist() == ["1", "_", "_", "1", "_", "_"]
    points, _ = run(part, feeds)
    assert points[:, 0].tobytes() == part.points(table).tobytes()


def test_a_categorical_column_without_categories():
    rule = BinRule(kind="categorical")
    rng = np.random.default_rng(0)
    part = CardPart("tax", "m", (characteristic("c", rule, rng, ()),))
    table = pd.DataFrame({"c": ["a", None, ""]})
    points, _ = run(part, onnx_inputs(part, table))
    assert points[:, 0].tobytes() == part.points(table).tobytes()


# ------------------------------------------------------------------------------ the model


def test_the_model_says_what_it_is():
    part = make_part()
    data = to_onnx(part)
    assert data == to_onnx(part)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    onnx.checker.check_model(onnx.load_from_string(to_onnx(part, woe=True)), full_check=True)
    assert {(s.domain, s.version) for s in model.opset_import} == {("", 17), ("ai.onnx.ml", 3)}
    assert model.ir_version == 8
    props = {p.key: p.value for p in model.metadata_props}
    assert props.pop("columns") == json.dumps(list(part.names))
    assert props == {"format": FORMAT, "party": "tax", "model_id": "model-7"}
    used = {name for node in model.graph.node for name in node.input}
    assert {value.name for value in model.graph.initializer} <= used
    running = session(data)
    assert [(i.name, i.type, i.shape) for i in running.get_inputs()] == [
        ("x", "tensor(double)", ["n", 1]),
        ("plain", "tensor(double)", ["n", 1]),
        ("constant", "tensor(double)", ["n", 1]),
        ("sector", "tensor(string)", ["n", 1]),
        ("folded", "tensor(string)", ["n", 1]),
    ]
    assert [(o.name, o.type, o.shape) for o in running.get_outputs()] == [
        ("points", "tensor(double)", ["n", 1])
    ]


@pytest.mark.parametrize(
    ("names", "inputs"),
    [
        (("points", "points_", "woe", "", "_"), ["points__", "points_", "woe_", "__", "_"]),
        (("_1", "__2", "a b/c", "年收入", "x"), ["_1", "__2", "a b/c", "年收入", "x"]),
    ],
)
def test_awkward_names_of_columns(names, inputs):
    part = make_part(names)
    assert list(input_names(part)) == list(names)
    assert list(input_names(part).values()) == inputs
    table = make_table(part, n=50)
    points, _ = run(part, onnx_inputs(part, table))
    assert points[:, 0].tobytes() == part.points(table).tobytes()
    onnx.checker.check_model(onnx.load_from_string(to_onnx(part, woe=True)), full_check=True)


def test_a_part_without_characteristics_is_refused():
    with pytest.raises(errors.InputError) as caught:
        to_onnx(CardPart("platform", "m", (), base_points=500.0))
    assert_helpful(caught.value, party="platform")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(errors.InputError) as caught:
        to_onnx(make_part())
    assert_helpful(caught.value, party="tax")
    assert "pip install 'fedcredit[onnx]'" in str(caught.value)
