"""Joint training and scoring: whatever a party changes in its messages, the other one refuses."""

import dataclasses
import functools

import numpy as np
import pytest

from fedcredit.errors import (
    CiphertextError,
    FedCreditError,
    PeerProtocolError,
    PolicyError,
)
from fedcredit.protocols import gbdt_provider
from fedcredit.protocols.directions import Directions, SlotMap
from fedcredit.protocols.forest import PooledFeatures, ProviderShare
from fedcredit.protocols.gbdt_messages import PredictJob, PredictLevel, SplitChoices, TreeEnd
from fedcredit.protocols.gbdt_predict import predict_provider
from fedcredit.stats.tree_params import TreeParams
from fedcredit.stats.trees import Split
from fedcredit.wire import Peer, Session
from tests.support.alignment import outcome
from tests.support.joint_gbdt import (
    predict_roles,
    roles,
    synthetic,
    train,
)
from tests.support.replay_gbdt import conversation, replay


def changing(kind, change, turn=0):
    """A tamper function for the ``turn``-th message of a kind, and whom it was sent by."""
    seen, changed = [], []

    def tamper(sender, message):
        if message.kind != kind:
            return None
        seen.append(sender)
        if len(seen) != turn + 1:
            return None
        changed.append(sender)
        new = change(message)
        return new if not isinstance(new, dict) else dataclasses.replace(message, **new)

    return tamper, changed


def assert_refused(made, kind, change, turn=0, kinds=FedCreditError):
    tamper, changed = changing(kind, change, turn)
    ends = outcome(made, tamper)
    assert changed, "the message never came"
    other = {"platform": "tax"}.get(changed[0], "platform")
    error = ends[other]
    assert isinstance(error, kinds), error
    assert error.step
    return error, changed[0]


def i32(*values):
    return np.array(values, np.int32)


def put(array, value, at=0):
    array = array.copy()
    array[at] = value
    return array


def longer(array):
    return np.concatenate([array, array[-1:]])


def splits(**columns):
    """One split in a level's message, with these columns changed."""
    plain = {
        "slots": i32(0),
        "features": i32(0),
        "thresholds": i32(0),
        "default_left": np.zeros(1, np.uint8),
        "starts": i32(0, 0),
        "categories": i32(),
    }
    return lambda _: SplitChoices(**(plain | columns))


# The categorical column of `synthetic("one provider")` that the provider has, by its local index.
CATEGORY = 3

LABEL_HOLDER = {
    # kind, change, turn
    "goes on from an unknown tree": ("gbdt.start", lambda m: {"trees": 1}),
    "goes on from a negative tree": ("gbdt.start", lambda m: {"trees": -1}),
    "tree out of turn": ("gbdt.tree", lambda m: {"tree": 1}),
    "tree again": ("gbdt.tree", lambda m: {"tree": 0}, 1),
    "negative tree": ("gbdt.tree", lambda m: {"tree": -1}),
    "mask of fewer features": ("gbdt.tree", lambda m: {"use": m.use[:-1]}),
    "mask of more features": ("gbdt.tree", lambda m: {"use": longer(m.use)}),
    "no nodes": ("gbdt.level", lambda m: {"slots": 0}),
    "negative nodes": ("gbdt.level", lambda m: {"slots": -1}),
    "two roots": ("gbdt.level", lambda m: {"slots": 2}),
    "three nodes below the root": ("gbdt.level", lambda m: {"slots": 3}, 1),
    "both children summed": ("gbdt.level", lambda m: {"sums": 2, "summed": (0, 1)}, 1),
    "negative sums": ("gbdt.level", lambda m: {"sums": -1}),
    "huge sums": ("gbdt.level", lambda m: {"sums": 1 << 60}),
    "no vectors": ("gbdt.level", lambda m: {"vectors": 0}),
    "many vectors": ("gbdt.level", lambda m: {"vectors": 64}),
    "other vectors than announced": ("gbdt.level", lambda m: {"vectors": 1}),
    "chunk of other vectors": ("sums.chunk", lambda m: {"n_vectors": 1}),
    "chunk cut": ("sums.chunk", lambda m: {"c0": m.c0[:, :-1].copy()}),
    "chunk out of turn": ("sums.chunk", lambda m: {"first_block": 16}),
    "residues out of range": ("sums.chunk", lambda m: {"c0": np.full_like(m.c0, 255)}),
    "split beyond the level": ("gbdt.splits", splits(slots=i32(1))),
    "split of a negative node": ("gbdt.splits", splits(slots=i32(-1))),
    "split of an unknown feature": ("gbdt.splits", splits(features=i32(5))),
    "split of a negative feature": ("gbdt.splits", splits(features=i32(-1))),
    "split beyond the last bin": ("gbdt.splits", splits(thresholds=i32(16))),
    "split at a negative bin": ("gbdt.splits", splits(thresholds=i32(-1))),
    "categories of a numeric feature": (
        "gbdt.splits",
        splits(starts=i32(0, 1), categories=i32(0)),
    ),
    "no categories": ("gbdt.splits", splits(features=i32(CATEGORY))),
    "unknown category": (
        "gbdt.splits",
        splits(features=i32(CATEGORY), starts=i32(0, 1), categories=i32(99)),
    ),
    "category twice": (
        "gbdt.splits",
        splits(features=i32(CATEGORY), starts=i32(0, 2), categories=i32(1, 1)),
    ),
    "splits of two lengths": ("gbdt.splits", splits(thresholds=i32(0, 0))),
    "starts of another length": ("gbdt.splits", splits(starts=i32(0))),
    "starts that do not end": ("gbdt.splits", splits(starts=i32(0, 1))),
    "starts that begin late": ("gbdt.splits", splits(starts=i32(1, 1), categories=i32(0))),
    "starts that wrap around": (
        "gbdt.splits",
        lambda m: splits(
            slots=i32(0, 1, 2, 3),
            features=i32(0, 0, 0, 0),
            thresholds=i32(0, 0, 0, 0),
            default_left=np.zeros(4, np.uint8),
            starts=i32(0, (1 << 31) - 1, -(1 << 31), -1, 0),
        )(m),
        2,
    ),
    "node split twice": (
        "gbdt.splits",
        splits(
            slots=i32(0, 0),
            features=i32(0, 0),
            thresholds=i32(0, 0),
            default_left=np.zeros(2, np.uint8),
            starts=i32(0, 0, 0),
        ),
    ),
    "another message": ("gbdt.level", lambda m: splits()(m)),
    "tree ends before its directions": ("gbdt.splits", lambda m: TreeEnd(0)),
    "more trees than grown": ("gbdt.end", lambda m: {"trees": 99}),
    "fewer than no trees": ("gbdt.end", lambda m: {"trees": -1}),
}
BY_MODE = {
    True: {
        "sums by name": ("gbdt.level", lambda m: {"summed": (0,)}),
        "correction of more lanes": ("directions.correction", lambda m: {"lanes": 2}),
        "correction of fewer rows": ("directions.correction", lambda m: {"n_rows": 9}),
        "correction again": ("directions.correction", lambda m: {"first_row": 0}, 1),
    },
    False: {
        "sum beyond the level": ("gbdt.level", lambda m: {"summed": (1,)}),
        "sum of a negative node": ("gbdt.level", lambda m: {"summed": (-1,)}),
        "sums not named": ("gbdt.level", lambda m: {"summed": ()}),
        "one node summed twice": ("gbdt.level", lambda m: {"sums": 2, "summed": (0, 0)}, 2),
        "map of fewer rows": ("directions.map", lambda m: SlotMap(m.slots[:, 1:].copy())),
        "map of more lanes": ("directions.map", lambda m: SlotMap(np.tile(m.slots, (2, 1)))),
        "an empty node": ("directions.map", lambda m: SlotMap(np.full_like(m.slots, 7))),
        "a small node": (
            "directions.map",
            lambda m: SlotMap(put(m.slots * 0 + 1, 0, np.s_[0, :9])),
        ),
    },
}
CASES = [(True, name) for name in (*LABEL_HOLDER, *BY_MODE[True])]
CASES += [(False, name) for name in BY_MODE[False]]


@functools.cache
def small_case(hide):
    tree = TreeParams(max_depth=3, min_child_samples=10)
    return synthetic("one provider", n=200, n_estimators=2, tree=tree, hide_membership=hide)


@pytest.mark.parametrize(("hide", "name"), CASES)
def test_a_label_holder_that_breaks_the_rules(hide, name):
    kind, change, *turn = (LABEL_HOLDER | BY_MODE[hide])[name]
    made = roles(small_case(hide))
    kinds = PeerProtocolError | CiphertextError | PolicyError
    assert_refused(made, kind, change, *turn, kinds=kinds)


def test_too_deep_a_tree_is_refused():
    tamper, _ = changing("gbdt.train", lambda m: {"max_depth": 2})
    ends = outcome(roles(small_case(True)), tamper)
    assert isinstance(ends["tax"], PeerProtocolError)
    assert "deeper" in str(ends["tax"])


def test_more_trees_than_the_job_are_refused():
    tamper, _ = changing("gbdt.train", lambda m: {"n_trees": 1})
    ends = outcome(roles(small_case(False)), tamper)
    assert isinstance(ends["tax"], PeerProtocolError)
    assert "out of turn" in str(ends["tax"])


@pytest.mark.parametrize("hide", [True, False])
def test_splits_over_the_cap_are_refused(hide):
    """The label holder does not hear of the cap, or does not care."""
    case = small_case(hide).but(split_cap=1)
    error, _ = assert_refused(
        roles(case), "gbdt.features", lambda m: {"split_cap": -1}, kinds=FedCreditError
    )
    tamper, _ = changing("gbdt.features", lambda m: {"split_cap": -1})
    assert isinstance(outcome(roles(case), tamper)["tax"], PolicyError)
    assert "cap" in str(error) or "at most 1 splits" in str(error)


# ------------------------------------------------------------------------ hostile providers

PROVIDER = {
    "a label too many": ("gbdt.features", lambda m: {"labels": (*m.labels, "x")}),
    "labels that repeat": ("gbdt.features", lambda m: {"labels": ("x",) * len(m.labels)}),
    "a column of bins too short": ("gbdt.features", lambda m: {"n_bins": m.n_bins[:-1]}),
    "no bins": ("gbdt.features", lambda m: {"n_bins": put(m.n_bins, 0)}),
    "negative bins": ("gbdt.features", lambda m: {"n_bins": put(m.n_bins, -5)}),
    "too many bins": ("gbdt.features", lambda m: {"n_bins": put(m.n_bins, 70_000)}),
    "bins without end": ("gbdt.features", lambda m: {"n_bins": m.n_bins * 0 + (1 << 30)}),
    "most frequent bin beyond": ("gbdt.features", lambda m: {"most_frequent": m.n_bins}),
    "most frequent bin negative": (
        "gbdt.features",
        lambda m: {"most_frequent": put(m.most_frequent, -1)},
    ),
    "missing categories": ("gbdt.features", lambda m: {"has_missing": m.has_missing * 0 + 1}),
    "a constraint nobody asked for": ("gbdt.features", lambda m: {"monotone": put(m.monotone, 1)}),
    "no direction at all": ("gbdt.features", lambda m: {"monotone": put(m.monotone, 7)}),
    "a negative cap": ("gbdt.features", lambda m: {"split_cap": -2}),
    "sums of other vectors": ("sums.reply", lambda m: {"n_vectors": 1}),
    "sums of other bins": ("sums.reply", lambda m: {"total_bins": m.total_bins + 1}),
    "sums cut": ("sums.reply", lambda m: {"c0": m.c0[:, :-1].copy()}),
    "sums of something else": ("sums.reply", lambda m: {"c0": m.c0 ^ np.uint8(1)}),
    "another acknowledgement": ("gbdt.ack", lambda m: {"splits": m.splits + 1}),
    "another message": ("sums.reply", lambda m: TreeEnd(0)),
}
PROVIDER_BY_MODE = {
    True: {
        "directions of other nodes": ("directions.masked", lambda m: {"slots": (14,)}),
        "no directions": (
            "directions.masked",
            lambda m: {"slots": (), "pads": np.zeros((0, m.pads.shape[1]), np.uint8)},
        ),
        "directions cut": ("directions.masked", lambda m: {"pads": m.pads[:, :-1].copy()}),
        "directions turned": ("directions.masked", lambda m: {"pads": ~m.pads}),
    },
    False: {
        "directions cut": ("directions.open", lambda m: Directions(m.bits[:-1])),
        "directions too long": ("directions.open", lambda m: Directions(longer(m.bits))),
        "directions turned": ("directions.open", lambda m: Directions(~m.bits)),
        "one direction turned": ("directions.open", lambda m: Directions(put(m.bits, ~m.bits[0]))),
    },
}
PROVIDER_CASES = [(True, name) for name in (*PROVIDER, *PROVIDER_BY_MODE[True])]
PROVIDER_CASES += [(False, name) for name in PROVIDER_BY_MODE[False]]


@pytest.mark.parametrize(("hide", "name"), PROVIDER_CASES)
def test_a_provider_that_breaks_the_rules(hide, name):
    kind, change = (PROVIDER | PROVIDER_BY_MODE[hide])[name]
    made = roles(small_case(hide).but(owners=(0, 9)))
    kinds = PeerProtocolError | CiphertextError
    error, sender = assert_refused(made, kind, change, kinds=kinds)
    # What another message than expected is, the session sees before the role does.
    assert error.party == ("platform" if name == "another message" else sender)


def test_a_provider_must_describe_the_columns_it_was_asked_for():
    case, _, _, up = conversation()
    job = case.job(1, 0, b"a salt of sixteen")
    pooled = PooledFeatures()
    pooled.read("tax", up[0], dataclasses.replace(job, columns=("f3", "f2")))
    assert pooled.labels == ["f2", "f3"]
    for columns in (("f2",), ("f2", "f3", "f4"), ("f4", "f5")):
        with pytest.raises(PeerProtocolError, match="not what the job asked for") as caught:
            PooledFeatures().read("tax", up[0], dataclasses.replace(job, columns=columns))
        assert caught.value.party == "tax"


def lying(change):
    """A provider whose sums are those of other bins."""

    class Liar(gbdt_provider._Provider):
        async def _sum(self, level):
            self.data = dataclasses.replace(self.data, bins=change(self.data.bins))
            self._plan = None
            await super()._sum(level)

    async def provider(peer, job, data, share, limits, *, salt, on_tree):
        return await Liar(peer, job, data, share, limits).run(salt, on_tree, lambda *_: None)

    return provider


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("precision", ["exact", "packed"])
def test_wrong_sums_are_noticed_and_the_provider_is_named(hide, precision):
    case = small_case(hide).but(owners=(0, 4, 5), precision=precision)

    def no_bin(bins):
        bins = bins.copy()
        bins[0, 3] = 200
        return bins

    ends = outcome(roles(case, train_as_provider=lying(no_bin)))
    error = ends["platform"]
    assert isinstance(error, CiphertextError)
    assert (error.party, error.step) == ("tax", "train: histograms")
    assert "do not add up" in error.reason


@pytest.mark.parametrize("hide", [True, False])
def test_sums_that_contradict_each_other_end_in_a_model_or_an_error(hide):
    """Right totals, other bins on every level: nothing can tell, and nothing breaks."""
    rng = np.random.default_rng(20)

    def shuffled(bins):
        return np.ascontiguousarray(bins[:, rng.permutation(bins.shape[1])])

    for _ in range(3):
        ends = outcome(roles(small_case(hide), train_as_provider=lying(shuffled)))
        for end in ends.values():
            assert isinstance(end, tuple | FedCreditError) or end.n_trees == 2


# --------------------------------------------------------------------------------- scoring


@functools.cache
def scored():
    tree = TreeParams(max_depth=2, min_child_samples=10)
    case = synthetic("one provider", n=200, n_estimators=2, tree=tree).but(owners=(0, 9))
    return case, train(case)


def level(**changes):
    return lambda message: {name: change(message) for name, change in changes.items()}


PREDICT = {
    "unknown split": level(splits=lambda m: put(m.splits, 6)),
    "negative split": level(splits=lambda m: put(m.splits, -1)),
    "a split twice": level(splits=lambda m: m.splits * 0),
    "rows beyond the job": level(rows=lambda m: m.rows + 1),
    "no rows": level(rows=lambda m: 0),
    "negative rows": level(rows=lambda m: -1),
    "rows without end": level(rows=lambda m: 1 << 62),
    "negative first row": level(first=lambda m: -1),
    "first row beyond": level(first=lambda m: 1 << 40),
    "another first row": level(first=lambda m: 1),
    "no lanes": level(starts=lambda m: m.starts[:1], splits=lambda m: m.splits[:0]),
    "no starts": level(starts=lambda m: m.starts[:0]),
    "an empty lane": level(starts=lambda m: np.concatenate([m.starts[:1], m.starts])),
    "starts that do not end": level(starts=lambda m: put(m.starts, 9, -1)),
    "starts that begin late": level(starts=lambda m: m.starts + 1),
    "starts that go back": level(starts=lambda m: m.starts[::-1].copy()),
    "too many splits in a lane": lambda m: PredictLevel(
        m.first, m.rows, i32(0, 300), np.arange(300, dtype=np.int32)
    ),
    "too many lanes": lambda m: PredictLevel(
        m.first, m.rows, np.arange(100_001, dtype=np.int32), np.zeros(100_000, np.int32)
    ),
}


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("name", PREDICT)
def test_a_request_outside_the_job_is_refused(name, hide):
    case, forest = scored()
    made = predict_roles(case.but(hide_membership=hide), forest, case.codes)
    error, sender = assert_refused(
        made, "gbdt.predict_level", PREDICT[name], kinds=PeerProtocolError
    )
    assert (error.party, error.step) == (sender, "predict")


def test_a_split_is_answered_once_for_a_row():
    """The second level asks for the splits of the first again, or goes back to its rows."""
    case, forest = scored()
    first = []

    def again(sender, message):
        if message.kind == "gbdt.predict_level":
            first.append(message)
            return first[0]
        return None

    ends = outcome(predict_roles(case, forest, case.codes), again)
    assert isinstance(ends["tax"], PeerProtocolError)
    assert "twice" in str(ends["tax"])


def test_too_many_lanes_for_the_memory_are_refused():
    n = 1 << 20
    share = ProviderShare([Split(feature=0, threshold_bin=0)] * 3, [0, 1, 2], 3)
    job = PredictJob("model", "frame", np.arange(n, dtype=np.uint32), b"salt", 3, False)
    bins = np.zeros((1, n), np.uint8)
    role = predict_provider(Peer("platform"), job, bins, share, salt=b"a salt of sixteen")
    session = Session(role, party="tax")
    request = PredictLevel(0, n, i32(0, 1, 2, 3), i32(0, 1, 2))
    error = replay(session, "platform", [request])
    assert isinstance(error, PeerProtocolError)
