"""What crosses the wire while trees are grown, held to the tables of the protocol files."""

import numpy as np
import pytest

from fedcredit.stats.quantise import logistic_gradients
from fedcredit.stats.tree_params import TreeParams
from fedcredit.wire import Transcript, message_class
from tests.support.joint_gbdt import first_columns, predict, synthetic, train

MODES = pytest.mark.parametrize("hide", [True, False], ids=["hidden", "open"])
PRECISIONS = pytest.mark.parametrize("precision", ["exact", "packed"])

COMMON_DOWN = {
    "gbdt.train",
    "gbdt.start",
    "sums.keys",
    "gbdt.tree",
    "gbdt.level",
    "sums.chunk",
    "gbdt.splits",
    "gbdt.tree_end",
    "gbdt.end",
}
COMMON_UP = {"gbdt.features", "sums.reply", "gbdt.ack"}
KINDS = {
    # membership hidden?: what a provider receives, what it sends
    True: (
        COMMON_DOWN | {"directions.offer", "directions.seeds", "directions.correction"},
        COMMON_UP | {"directions.reply", "directions.masked"},
    ),
    False: (COMMON_DOWN | {"directions.map"}, COMMON_UP | {"directions.open"}),
}
#: Fields that are encrypted, masked or keys; all others are in the clear.
CLOSED = {
    "sums.keys": {"public_key", "galois_keys"},
    "sums.chunk": {"seeds", "c0"},
    "sums.reply": {"c0", "c1"},
    "directions.offer": {"data"},
    "directions.reply": {"data"},
    "directions.seeds": {"data"},
    "directions.correction": {"columns", "checks"},
    "directions.masked": {"pads"},
    "gbdt.train": {"salt"},
    "gbdt.predict": {"salt"},
}


def record(case):
    transcript = Transcript(keep=True)
    return train(case, transcript), transcript.records


def clear(records, recipient):
    """Everything a party receives, in order, closed fields by their size alone."""
    seen = []
    for entry in records:
        if entry.recipient != recipient:
            continue
        fields = {}
        for name, value in vars(entry.message).items():
            if name in CLOSED.get(entry.message.kind, ()):
                # SEAL compresses its keys, whose sizes therefore differ by a few bytes.
                closed = value.shape if isinstance(value, np.ndarray) else "bytes"
                fields[name] = closed
            else:
                fields[name] = value.tolist() if isinstance(value, np.ndarray) else value
        seen.append((entry.sender, entry.message.kind, fields))
    return seen


@MODES
@PRECISIONS
def test_the_kinds_of_messages_are_those_of_the_tables(hide, precision):
    case = synthetic(n=300, n_estimators=2, hide_membership=hide, precision=precision)
    _, records = record(case)
    down, up = KINDS[hide]
    for name in case.providers:
        assert {r.message.kind for r in records if r.recipient == name} == down
        assert {r.message.kind for r in records if r.sender == name} == up
    assert all("platform" in (r.sender, r.recipient) for r in records)
    for kind in down | up:
        assert message_class(kind).reveals


# ------------------------------------------------------------------- what is not on the wire


def encodings(values):
    """Bytes per 64 rows of a vector in every type that somebody could have sent it in."""
    values = np.asarray(values)
    for dtype in ("<f8", "<f4", "<i8", "<i4", "<i2", "u1", ">f8", ">i4"):
        with np.errstate(invalid="ignore"):
            encoded = values.astype(dtype)
        if dtype[1] == "f" or np.array_equal(encoded, values):
            yield encoded.tobytes(), 64 * encoded.itemsize
    if set(np.unique(values)) <= {0, 1}:
        for order in ("big", "little"):
            for bits in (values.astype(np.uint8), 1 - values.astype(np.uint8)):
                yield np.packbits(bits, bitorder=order).tobytes(), 8


def found(wire, values):
    """Whether 64 consecutive rows of the vector, in any encoding, are in the bytes.

    For labels a chance hit has probability 2^-64 per place; a constant column proves nothing.
    """
    if np.unique(values, return_counts=True)[1].max() > 0.8 * len(values):
        return False
    return any(
        data[at : at + size] in wire
        for data, size in encodings(values)
        for at in range(0, len(data) - size + 1, size)
    )


def secrets_of(case, forest, raw):
    """Vectors that must not leave their owner, by a name for the message of the test."""
    q = case.params.quantiser()
    score = np.full(len(case.y), forest.state.init_score)
    yield "labels", case.y
    for number, tree in enumerate(forest.state.trees):
        g, h = logistic_gradients(score, case.y, case.weight)
        rounded = q.quantise(g, h, tree=number)
        yield "gradients", g
        yield "hessians", h
        yield "rounded gradients", rounded.g
        yield "rounded hessians", rounded.h
        yield "scores", score
        score = score + tree.predict(case.codes)
    for f in range(case.codes.shape[1]):
        yield f"bins of column {f}", case.codes[:, f]
        yield f"values of column {f}", raw[:, f]
    yield "weights", case.weight


@MODES
def test_no_label_gradient_score_value_or_bin_is_on_the_wire(hide):
    rng = np.random.default_rng(12)
    precision = "packed" if hide else "exact"
    case = synthetic(
        n=400, n_estimators=2, hide_membership=hide, precision=precision, weighted=True
    )
    # Bins without order or repetition stand out; the raw values are any that fall into them.
    raw = case.codes + rng.random(case.codes.shape)
    transcript = Transcript(keep=True)
    forest = train(case, transcript)
    predict(case, forest, case.codes, transcript)
    wire = b"|".join(r.data.to_pybytes() for r in transcript.records)
    # The search sees what is there: the rows of the job and, in the open, the slots.
    assert found(wire, np.arange(400))
    if not hide:
        level = next(r.message for r in transcript.records if r.message.kind == "directions.map")
        assert level.slots.tobytes() in wire
    for what, vector in secrets_of(case, forest, raw):
        assert not found(wire, vector), what
    for tree in forest.state.trees:
        for value in tree.value[1:]:  # the root has none
            assert value.tobytes() not in wire


def test_the_search_finds_each_encoding():
    rng = np.random.default_rng(13)
    for values in ((rng.random(400) < 0.3).astype(float), rng.normal(size=400)):
        for data, _ in encodings(values):
            assert found(b"head" + data + b"tail", values)
            assert not found(b"head" + data[::-1] + b"tail", values)


# ------------------------------------------------------------ hidden membership stays hidden


def same_tree_other_rows():
    """Two jobs: the platform's columns and labels are permuted among a provider's equal rows.

    All sums are the same, hence the trees; the rows of the nodes are others.
    """
    rng = np.random.default_rng(15)
    one = first_columns(3, tree=TreeParams(max_depth=3)).but(owners=(2, 2))
    theirs = one.codes[:, one.columns(1)]
    _, kinds = np.unique(theirs, axis=0, return_inverse=True)
    moved = np.arange(len(one.y))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        moved[rows] = rng.permutation(rows)
    codes = one.codes.copy()
    codes[:, one.columns(0)] = one.codes[moved][:, one.columns(0)]
    return one, one.but(codes=codes, y=one.y[moved])


def test_a_provider_sees_the_same_whichever_rows_are_in_a_node():
    one, other = same_tree_other_rows()
    first, records = record(one)
    second, moved_records = record(other)
    for a, b in zip(first.state.trees, second.state.trees, strict=True):
        assert a.to_dict() == b.to_dict()
    leaves = [
        [tree.apply(case.codes) for tree in forest.state.trees]
        for case, forest in ((one, first), (other, second))
    ]
    assert (np.array(leaves[0]) != np.array(leaves[1])).mean() > 0.2
    used = {f for tree in first.state.trees for f in tree.feature if f >= 0}
    assert used & {0, 1}
    assert used & {2, 3}
    assert clear(records, "tax") == clear(moved_records, "tax")


def test_open_membership_does_show_the_rows():
    """The price of the faster mode, as its table says."""
    one, other = (case.but(hide_membership=False) for case in same_tree_other_rows())
    assert clear(record(one)[1], "tax") != clear(record(other)[1], "tax")


def test_which_sibling_is_smaller_does_not_show():
    _, records = record(synthetic("one provider", n=400, n_estimators=2))
    levels = [r.message for r in records if r.message.kind == "gbdt.level"]
    assert {level.sums for level in levels} > {1}
    assert all(level.summed == () for level in levels)


@PRECISIONS
def test_sizes_depend_on_the_shape_of_the_trees_alone(precision):
    """Labels of another kind of task: where the trees have the same shape, so have messages."""
    case = first_columns(2, tree=TreeParams(max_depth=1), precision=precision)
    rng = np.random.default_rng(16)
    other = case.but(y=(rng.random(len(case.y)) < 0.5).astype(float))
    shapes = []
    for job in (case, other):
        forest, records = record(job)
        assert [tree.n_nodes for tree in forest.state.trees] == [3, 3]
        shapes.append(
            [
                (r.message.kind, r.data.size)
                for r in records
                if r.recipient == "tax" and r.message.kind not in ("sums.keys", "gbdt.splits")
            ]
        )
    assert shapes[0] == shapes[1]


def test_masked_and_encrypted_fields_look_uniform_and_are_fresh():
    case = synthetic("one provider", n=1200, n_estimators=2)
    runs = [record(case)[1] for _ in range(2)]
    for kind, names in CLOSED.items():
        if kind in ("sums.keys", "gbdt.train", "gbdt.predict") or kind.startswith(
            ("directions.offer", "directions.reply")
        ):
            continue  # SEAL's own format, salts of the test, and group elements
        for name in names:
            pieces = []
            for records in runs:
                values = [getattr(r.message, name) for r in records if r.message.kind == kind]
                assert values, kind
                pieces.append(b"".join(v if isinstance(v, bytes) else v.tobytes() for v in values))
            for piece in pieces:
                data = np.frombuffer(piece, np.uint8)
                if kind == "directions.masked":
                    data = trimmed(runs[pieces.index(piece)])
                counts = np.bincount(data, minlength=256)
                mean = data.size / 256
                statistic = ((counts - mean) ** 2 / mean).sum()
                assert abs(statistic - 255) < 6 * (2 * 255) ** 0.5, (kind, name)
            windows = [{p[at : at + 16] for at in range(0, len(p) - 16, 16)} for p in pieces]
            assert not windows[0] & windows[1], (kind, name)


def trimmed(records):
    """Pads without their last byte, which is filled up with zeros."""
    pads = [r.message.pads[:, :-1] for r in records if r.message.kind == "directions.masked"]
    return np.concatenate([p.reshape(-1) for p in pads])


# --------------------------------------------------------- what the label holder does receive


@MODES
def test_the_label_holder_learns_directions_of_splitting_nodes_only(hide):
    """Rows that are in no splitting node of the provider read as zero, whatever its values."""
    case = synthetic(n=500, n_estimators=2, hide_membership=hide)
    forest, records = record(case)
    for name in case.providers:
        opened = [r.message for r in records if r.sender == name]
        if hide:
            masked = [m for m in opened if m.kind == "directions.masked"]
            splits = [len(m.slots) for m in masked]
            assert sum(splits) == len(forest.shares[name].splits)
            continue
        answers = iter(m for m in opened if m.kind == "directions.open")
        for message in (r.message for r in records if r.recipient == name):
            if message.kind == "directions.map":
                slots = message.slots
            elif message.kind == "gbdt.splits":
                bits = np.unpackbits(next(answers).bits, count=500).astype(bool)
                assert not bits[~np.isin(slots[0], message.slots)].any()


def test_features_are_described_by_bins_alone():
    case = synthetic(n=300, n_estimators=1)
    _, records = record(case)
    for number, name in enumerate(case.providers, 1):
        (message,) = (
            r.message for r in records if (r.sender, r.message.kind) == (name, "gbdt.features")
        )
        infos = case.infos[case.columns(number)]
        assert message.n_bins.tolist() == [info.n_bins for info in infos]
        assert vars(message).keys() == {
            "labels",
            "n_bins",
            "has_missing",
            "is_categorical",
            "most_frequent",
            "monotone",
            "split_cap",
            "trees",
        }
