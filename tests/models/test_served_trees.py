"""A party's part of a served forest: reach, padding, fixed point, and what it refuses."""

import copy
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from fedcredit import errors
from fedcredit.models.engine_forest import _binned, _encoders
from fedcredit.models.scoring.tree_leaves import LeafEnds
from fedcredit.models.scoring.tree_positions import Positions, heap_numbers, positions_of
from fedcredit.models.scoring.trees import ServedTrees, forest_parts
from fedcredit.stats.trees import decision_directions
from tests.support.parties import LABEL, classifier, federation, regressor, tables_with_target
from tests.support.served_trees import Served, record_of

FEATURES = {
    "platform": ["age", "debt", "town"],
    "tax": ["paid", "growth", "sector"],
    "social": ["staff", "arrears"],
}


def with_towns(parts):
    """Add a text column to the platform's table, with missing values."""
    towns = np.array(["north", "south", "east", None], object)
    debt = parts["platform"]["debt"].rank().to_numpy().astype(int)
    return {**parts, "platform": parts["platform"].assign(town=towns[(debt * 7 // 5) % 4])}


@pytest.fixture(scope="module")
def frame():
    parts = with_towns(tables_with_target(n=400)[0])
    return federation(parts, categorical={"tax": ["sector"]}).align(on="id")


@pytest.fixture(scope="module")
def model(frame):
    features = [f"{party}.{name}" for party, names in FEATURES.items() for name in names]
    return classifier(
        n_estimators=8, max_depth=4, learning_rate=0.5, features=features, hide_membership=False
    ).fit(frame, y=LABEL)


@pytest.fixture(scope="module")
def served(frame, model):
    return Served.of(model, frame)


@pytest.fixture
def telling(frame, model):
    """What the platform tells the tax office, and what that has kept, to be spoilt."""
    return record_of(frame, model, "tax"), forest_parts(model)[1]["tax"]


# ------------------------------------------------------------------------------------- reach


def test_one_leaf_is_reachable_and_it_is_the_trees(served, model):
    joint = np.logical_and.reduce(list(served.reaches().values()))
    assert (joint.sum(axis=2) == 1).all()
    owners = set(np.array(model.pooled_.owner)[[*model.state_.trees[0].feature]])
    assert owners <= {"", "tax", "social"}
    assert served.platform.owners == ("tax", "social")
    bins = pooled_bins(served)
    leaf = joint.argmax(axis=2)
    depth = served.platform.depth
    for number, tree in enumerate(model.state_.trees):
        heap = heap_numbers(tree)[tree.apply(bins)]
        level = np.floor(np.log2(heap)).astype(int)
        # The leftmost descendant at full depth.
        np.testing.assert_array_equal((1 << depth) + leaf[:, number], heap << (depth - level))


def pooled_bins(served):
    """Bins of all features in pooled order, from every party's own columns."""
    model, tables = served.model, served.tables()
    columns = [model.own_.matrix(tables["platform"], party="platform")]
    for name in ("tax", "social"):
        record = record_of(served.frame, model, name)
        columns.append(_binned(*_encoders(record), tables[name], name).T)
    return np.hstack(columns)


def slow_reach(part, table):
    """Every leaf of every tree by its path from the root, split by split."""
    bins = [b(table, "someone") for b in part._binners]
    splits = dict(zip(zip(part.tree, part.node, strict=True), part.splits, strict=True))
    reach = np.empty((len(table), part.n_trees, part.n_leaves), np.bool_)
    reach[:] = part._open
    for tree in range(part.n_trees):
        for leaf in range(part.n_leaves):
            node = part.n_leaves + leaf
            while node > 1:
                split = splits.get((tree, node >> 1))
                if split is not None:
                    left = decision_directions(bins[split.feature], split)
                    reach[:, tree, leaf] &= left == (node % 2 == 0)
                node >>= 1
    return reach


def test_reach_is_that_of_the_paths(served):
    seen = set()
    for name, part in served.parts().items():
        table = served.tables()[name]
        np.testing.assert_array_equal(part.reach(table), slow_reach(part, table))
        seen |= {(s.is_categorical, s.default_left, s.missing_bin >= 0) for s in part.splits}
    # Sets of categories, and missing values to either side.
    assert {(True, False, False), (False, False, True), (False, True, True)} <= seen


def test_no_records_and_values_never_seen(served):
    for name, part in served.parts().items():
        table = served.tables()[name].iloc[:4].reset_index(drop=True)
        numeric = table.select_dtypes("number").columns
        table = table.astype(dict.fromkeys(numeric, float))
        table.loc[1, :] = np.nan
        table.loc[2, numeric] = 1e12
        if name == "platform":
            table["town"] = ["nowhere", None, "north", "south"]
        np.testing.assert_array_equal(part.reach(table), slow_reach(part, table))
        assert part.reach(table.iloc[:0]).shape == (0, part.n_trees, part.n_leaves)
    everyone = [
        part.reach(pd.DataFrame(np.nan, index=range(2), columns=list(part.fields)))
        for part in served.parts().values()
    ]
    assert (np.logical_and.reduce(everyone).sum(axis=2) == 1).all()


@pytest.mark.parametrize("dtype", ["category", "string", "str", object])
def test_types_of_texts(served, dtype):
    part, table = served.platform, served.tables()["platform"]
    want = part.reach(table)
    np.testing.assert_array_equal(part.reach(table.assign(town=table["town"].astype(dtype))), want)
    # Texts that are no plain strings go the long way.
    mixed = table["town"].astype(object).where(np.arange(len(table)) > 3, 17)
    assert part.reach(table.assign(town=mixed)).shape == want.shape


@pytest.mark.parametrize("dtype", ["Float64", "float32", "Int32", "int64", "uint8", object])
def test_types_of_numbers(served, dtype):
    part, table = served.providers["social"], served.tables()["social"]
    want = part.reach(table)
    staff = table["staff"].astype(dtype)
    np.testing.assert_array_equal(part.reach(table.assign(staff=staff)), want)


def test_categories_that_are_numbers(served):
    part, table = served.providers["tax"], served.tables()["tax"]
    want = part.reach(table)
    for dtype in ("float64", "Int16", "str", object):
        changed = table.assign(sector=table["sector"].astype(dtype))
        np.testing.assert_array_equal(part.reach(changed), want)


def test_fields_are_the_columns_in_use(frame):
    model = classifier(n_estimators=1, max_depth=1, features=["debt", "tax.paid"])
    served = Served.of(model.fit(frame, y=LABEL), frame)
    used = {name: part.fields for name, part in served.parts().items()}
    assert sum(map(len, used.values())) == 1
    party, fields = next((p, f) for p, f in used.items() if f)
    part, table = served.parts()[party], served.tables()[party]
    np.testing.assert_array_equal(part.reach(table[list(fields)]), part.reach(table))
    with pytest.raises(errors.InputError, match=repr(fields[0])) as caught:
        part.reach(table.drop(columns=list(fields)))
    assert caught.value.party == party
    with pytest.raises(errors.InputError, match="infinite"):
        part.reach(table.assign(**{fields[0]: np.inf}))
    with pytest.raises(errors.InputError, match="not numeric"):
        part.reach(table.assign(**{fields[0]: "secret"}))


# ------------------------------------------------------------------------- padding and scale


def test_a_forest_of_nothing_but_roots(frame):
    model = classifier(n_estimators=3, min_child_samples=390).fit(frame, y=LABEL)
    served = Served.of(model, frame)
    assert (served.platform.depth, served.platform.n_leaves) == (0, 1)
    assert served.platform.owners == ()
    assert positions_of(model) == {}
    scores, ok = served.scores()
    assert ok.all()
    assert np.abs(scores - model.decision_function(frame)).max() <= served.platform.tolerance


def test_leaves_above_full_depth_are_copied(served, model):
    part = served.platform
    early = 0
    start = model.state_.init_score
    for number, tree in enumerate(model.state_.trees):
        heap = heap_numbers(tree)
        for node in tree.leaves:
            level = int(heap[node]).bit_length() - 1
            size = 1 << (part.depth - level)
            first = (int(heap[node]) - (1 << level)) * size
            below = part.leaves[number, first : first + size]
            value = tree.value[node] + (start if number == 0 else 0)
            assert np.abs(below * 2.0**-part.scale_bits - value).max() <= 2.0 ** (
                -part.scale_bits - 1
            )
            assert part._open[number, first : first + size].tolist() == [True] + [False] * (
                size - 1
            )
            early += size > 1
        assert part._open[number].sum() == tree.n_leaves
    assert early


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ([1.0, -2.0], 24),
        ([0.0, 0.0], 24),
        ([40.0, -3.0], 24),
        ([70.0, -3.0], 23),
        ([1e7, -3.0], 6),
        ([1e12, -1e12], -10),
        ([1e-5, -3e-6], 40),
        ([5e-324, 0.0], 1024),
    ],
)
def test_scale(values, bits):
    ends = LeafEnds.rounded([(0, 2, values[0]), (0, 3, values[1])], 1, 1)
    assert ends.scale_bits == bits
    assert np.abs(ends.value).max() < 1 << 30
    back = np.ldexp(ends.value.astype(float), -bits)
    assert np.abs(back - values).max() <= np.ldexp(1.0, -bits - 1)


def test_values_without_a_scale():
    with pytest.raises(errors.InputError, match="too large"):
        LeafEnds.rounded([(0, 1, 1e308), (1, 1, 1e308)], 2, 0)


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e6])
def test_regression_of_any_size(factor):
    parts = tables_with_target(n=300)[0]
    parts["platform"]["amount"] *= factor
    frame = federation(parts).align(on="id")
    model = regressor(n_estimators=3, hide_membership=False).fit(frame, y="amount")
    served = Served.of(model, frame)
    scores, ok = served.scores()
    want = model.predict(frame)
    assert ok.all()
    assert np.abs(scores - want).max() <= served.platform.tolerance * (1 + 1e-9)
    assert served.platform.tolerance < 1e-5 * np.abs(want).max()


def test_early_stopping_leaves_splits_out(frame):
    model = classifier(
        n_estimators=30,
        max_depth=3,
        learning_rate=1.0,
        early_stopping_rounds=2,
        hide_membership=False,
    ).fit(frame, y=LABEL)
    assert model.n_estimators_ < 30
    served = Served.of(model, frame)
    assert served.platform.n_trees == model.n_estimators_
    scores, ok = served.scores()
    assert ok.all()
    assert np.abs(scores - model.decision_function(frame)).max() <= served.platform.tolerance


def test_a_loaded_model_serves_the_same(model, served, tmp_path):
    model.save(tmp_path / "model")
    part, positions = forest_parts(type(model).load(tmp_path / "model"))
    assert part.to_dict() == served.platform.to_dict()
    assert positions == forest_parts(model)[1]


def test_a_model_that_is_not_fitted():
    with pytest.raises(ValueError, match="not fitted"):
        forest_parts(classifier())
    with pytest.raises(ValueError, match="not fitted"):
        positions_of(classifier())


# ------------------------------------------------------------------------------- at rest


def test_parts_at_rest(served):
    for name, part in served.parts().items():
        back = ServedTrees.from_dict(json.loads(json.dumps(part.to_dict())))
        assert back.to_dict() == part.to_dict()
        table = served.tables()[name]
        np.testing.assert_array_equal(back.reach(table), part.reach(table))
    np.testing.assert_array_equal(
        ServedTrees.from_dict(served.platform.to_dict()).leaves, served.platform.leaves
    )


def spoil(data, where, value):
    """Replace or delete one item of nested data."""
    data = copy.deepcopy(data)
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return data


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["n_trees"], 7),
        (["n_trees"], 10**9),
        (["n_trees"], "many"),
        (["depth"], 3),
        (["depth"], 9),
        (["coders"], KeyError),
        (["coders", 0], KeyError),
        (["bins", 0], {}),
        (["bins", 0, "is_categorical"], True),
        (["tree", 0], -1),
        (["tree", 0], 8),
        (["node", 0], 0),
        (["node", 0], 1 << 4),
        (["splits"], []),
        (["splits", 0, "feature"], 99),
        (["splits", 0, "threshold_bin"], 10_000),
        (["splits", 0, "left_bins"], [1]),
        (["splits", 0, "left_bins"], None),
        (["splits", 0, "colour"], 1),
        (["ends"], {}),
        (["ends", "value", 0], 1 << 30),
        (["ends", "value", 0], -(1 << 62)),
        (["ends", "value", 0], KeyError),
        (["ends", "node", 0], 0),
        (["ends", "node", 0], 1 << 5),
        (["ends", "node", 0], 1),
        (["ends", "tree", 0], -1),
        (["ends", "scale_bits"], 10**6),
        (["owners"], None),
    ],
)
def test_damaged_parts(served, where, value):
    with pytest.raises(errors.InputError) as caught:
        ServedTrees.from_dict(spoil(served.platform.to_dict(), where, value))
    assert caught.value.step
    assert caught.value.fix


def test_parts_that_contradict_each_other(served):
    part = served.platform
    early = int(np.flatnonzero(part.ends.node < part.n_leaves)[0])
    tree, node = int(part.ends.tree[early]), int(part.ends.node[early])
    for match, changes in {
        "below a leaf": {"tree": (tree, *part.tree[1:]), "node": (node, *part.node[1:])},
        "another size": {"n_trees": part.n_trees + 1},
        "one position": {
            "tree": (part.tree[1], *part.tree[1:]),
            "node": (part.node[1], *part.node[1:]),
        },
        "out of range": {"tree": part.tree[1:]},
    }.items():
        with pytest.raises(errors.InputError, match=match) as caught:
            dataclasses.replace(part, **changes)
        assert caught.value.party == "platform"


def test_a_provider_has_no_values(served):
    part = served.providers["tax"]
    for name in ("leaves", "scale_bits", "tolerance"):
        with pytest.raises(errors.InputError, match="only the platform"):
            getattr(part, name)
    with pytest.raises(errors.InputError, match="only the platform"):
        part.raw(np.zeros(1, np.int64))


def test_no_value_in_a_repr(served):
    for part in served.parts().values():
        text = repr(part)
        assert len(text) < 200
        assert "Split" not in text
        assert "array" not in text


# --------------------------------------------------------------------------------- positions


def test_a_provider_is_told_the_places_of_its_own_splits_only(frame, model):
    _, told = forest_parts(model)
    for name, positions in told.items():
        assert set(positions) == {"n_trees", "depth", "tree", "node", "split"}
        share = record_of(frame, model, name)["share"]
        assert sorted(positions["split"]) == list(range(len(share["splits"])))
    both = [
        set(zip(told[name]["tree"], told[name]["node"], strict=True)) for name in ("tax", "social")
    ]
    assert not both[0] & both[1]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["n_trees"], 0),
        (["n_trees"], 10**6),
        (["n_trees"], 1),
        (["n_trees"], 8.0),
        (["n_trees"], True),
        (["depth"], -1),
        (["depth"], 9),
        (["depth"], 1),
        (["depth"], KeyError),
        (["tree"], "0"),
        (["tree", 0], -1),
        (["tree", 0], 7),
        (["tree", 0], 8),
        (["tree", 0], KeyError),
        (["node", 0], 0),
        (["node", 0], 16),
        (["node", 0], "1"),
        (["node", 0], True),
        (["split", 0], -1),
        (["split", 0], 1),
        (["split", 0], 10**9),
        (["split", 0], None),
        (["values"], [1]),
    ],
)
def test_positions_that_a_provider_refuses(telling, where, value):
    record, positions = telling
    assert ServedTrees.of_provider("tax", record, positions).splits
    with pytest.raises(errors.PeerProtocolError) as caught:
        ServedTrees.of_provider("tax", record, spoil(positions, where, value))
    assert caught.value.step
    assert caught.value.fix


def test_two_splits_in_one_place(telling):
    record, positions = telling
    same = next(
        (a, b)
        for a in range(len(positions["tree"]))
        for b in range(a)
        if positions["tree"][a] == positions["tree"][b]
    )
    positions["node"][same[0]] = positions["node"][same[1]]
    with pytest.raises(errors.PeerProtocolError, match="one position"):
        ServedTrees.of_provider("tax", record, positions)


@pytest.mark.parametrize("positions", [None, [], "tree", 5])
def test_positions_of_another_kind(telling, positions):
    with pytest.raises(errors.PeerProtocolError):
        ServedTrees.of_provider("tax", telling[0], positions)


@pytest.mark.parametrize("name", ["coders", "bins", "share"])
def test_a_damaged_record(telling, name):
    record, positions = telling
    for damaged in ({**record, name: None}, {k: v for k, v in record.items() if k != name}):
        with pytest.raises(errors.InputError) as caught:
            ServedTrees.of_provider("tax", damaged, positions)
        assert caught.value.fix
    with pytest.raises(errors.InputError):
        ServedTrees.of_provider("tax", {**record, "coders": record["coders"][:1]}, positions)


def test_positions_at_rest(model):
    for positions in positions_of(model).values():
        assert Positions.from_dict(json.loads(json.dumps(positions.to_dict()))) == positions
        assert len(repr(positions)) < 60
