"""Joint training is training on pooled columns, whoever owns them and whatever interrupts it."""

import dataclasses

import numpy as np
import pytest

from fedcredit.errors import InputError, PeerProtocolError, PolicyError
from fedcredit.protocols import gbdt_provider
from fedcredit.protocols.forest import ForestParams, ProviderShare
from fedcredit.protocols.gbdt_provider import ProviderLimits
from fedcredit.stats.tree_params import TreeParams
from fedcredit.stats.trees import LEAF
from fedcredit.wire import Transcript, run_in_process
from tests.support.joint_gbdt import (
    LAYOUTS,
    Checkpoints,
    as_forest,
    assert_same_forest,
    first_columns,
    make_case,
    roles,
    run_until,
    synthetic,
    train,
    train_alone,
)

MODES = pytest.mark.parametrize("hide", [True, False], ids=["hidden", "open"])


def assert_joint_is_pooled(case, splits=1):
    joint = train(case)
    assert_same_forest(joint, train_alone(case))
    assert sum(tree.n_leaves - 1 for tree in joint.state.trees) >= splits
    assert_shares_fit(case, joint)
    return joint


def assert_shares_fit(case, forest):
    """Every split of a provider is in its share, by its number, and nothing else is."""
    pooled, state = forest.pooled, forest.state
    for name in case.providers:
        mine, seen = pooled.of(name), []
        for number, tree in enumerate(state.trees):
            for node in np.flatnonzero(np.isin(tree.feature, mine)):
                place = int(state.split_numbers[number][node])
                seen.append(place)
                split = tree.split(int(node))
                local = dataclasses.replace(split, feature=pooled.local[split.feature])
                assert forest.shares[name].splits[place] == local
                assert forest.shares[name].trees[place] == number
        assert sorted(seen) == list(range(len(forest.shares[name].splits)))
        assert forest.shares[name].n_trees == len(state.trees)
    for tree, numbers in zip(state.trees, state.split_numbers, strict=True):
        owners = [LEAF if f == LEAF else pooled.owner[f] for f in tree.feature.tolist()]
        assert [n >= 0 for n in numbers] == [owner not in (LEAF, "") for owner in owners]


@MODES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_few_bits(layout, hide):
    case = synthetic(layout, hide_membership=hide, precision="packed", weighted=True, seed=1)
    assert_joint_is_pooled(case, splits=15)


@MODES
def test_the_larger_ring(hide):
    case = synthetic("one provider", hide_membership=hide, precision="high", n_estimators=1)
    assert_joint_is_pooled(case, splits=5)


@MODES
@pytest.mark.parametrize("precision", ["exact", "packed"])
def test_samples_of_rows_and_columns(hide, precision):
    case = synthetic(
        n_estimators=5,
        hide_membership=hide,
        precision=precision,
        subsample=0.6,
        colsample=0.4,
        seed=2,
    ).but(seed=3)
    joint = assert_joint_is_pooled(case, splits=20)
    assert {int(tree.count[0]) for tree in joint.state.trees} == {900}
    used = [frozenset(tree.feature.tolist()) for tree in joint.state.trees]
    assert len(set(used)) > 1


@MODES
def test_a_tree_that_uses_no_column_of_a_provider(hide):
    """With one column drawn per tree, two of three parties have nothing to do."""
    case = synthetic(hide_membership=hide, n_estimators=4, colsample=0.01)
    joint = assert_joint_is_pooled(case, splits=8)
    assert len({joint.pooled.owner[tree.feature.max()] for tree in joint.state.trees}) > 1


@MODES
def test_validation_rows_and_early_stopping(hide):
    case = synthetic("one provider", n=500, n_estimators=40, learning_rate=1.0, seed=4)
    held = np.random.default_rng(0).random(500) < 0.3
    case = case.but(is_train=~held, early_stopping_rounds=3, hide_membership=hide)
    joint = assert_joint_is_pooled(case, splits=10)
    losses, kept = joint.state.valid_loss, len(joint.state.trees)
    assert kept < len(losses) < 40
    assert len(losses) == kept + 3
    assert int(np.argmin(losses)) == kept - 1
    score = joint.state.init_score + sum(tree.predict(case.codes) for tree in joint.state.trees)
    np.testing.assert_allclose(joint.state.score, score, rtol=0, atol=1e-12)


def test_validation_rows_teach_nothing():
    """Other labels of the held rows: other losses, the same trees."""
    case = synthetic("one provider", n=600, n_estimators=2)
    held = np.arange(600) % 4 == 0
    one = case.but(is_train=~held)
    other = one.but(y=np.where(held, 1 - case.y, case.y))
    first, second = train(one), train(other)
    assert [t.to_dict() for t in first.state.trees] == [t.to_dict() for t in second.state.trees]
    assert first.state.valid_loss != second.state.valid_loss


@MODES
def test_squared_error(hide):
    case = synthetic(weighted=True, hide_membership=hide, objective="regression", n_estimators=3)
    case = case.but(y=case.y * 3 + np.random.default_rng(5).normal(size=len(case.y)))
    joint = assert_joint_is_pooled(case, splits=20)
    assert joint.state.init_score == np.average(case.y, weights=case.weight)
    losses = joint.state.train_loss
    assert losses == sorted(losses, reverse=True)


@MODES
def test_deep_trees_have_several_lanes(hide):
    tree = TreeParams(max_depth=6, min_child_samples=2, min_child_weight=0.0)
    case = synthetic("one provider", n=600, n_estimators=1, tree=tree, hide_membership=hide)
    case = case.but(limits=ProviderLimits(min_node_rows=1))
    joint = assert_joint_is_pooled(case, splits=33)
    assert joint.state.trees[0].n_leaves > 32  # more than fifteen nodes on a level


@MODES
def test_columns_with_many_bins(hide):
    rng = np.random.default_rng(6)
    X = np.column_stack([rng.normal(size=1200), rng.integers(0, 400, 1200)])
    y = (rng.random(1200) < 1 / (1 + np.exp(-X[:, 0] - X[:, 1] / 200))).astype(float)
    case = make_case(X, y, (1, 1), max_bins=300, n_estimators=1, hide_membership=hide)
    assert case.codes.dtype == np.uint16
    assert_joint_is_pooled(case, splits=5)


@MODES
def test_constant_columns_are_left_alone(hide):
    rng = np.random.default_rng(7)
    X = np.column_stack([rng.normal(size=400), np.zeros(400), rng.normal(size=400), np.ones(400)])
    y = (X[:, 0] + X[:, 2] + rng.normal(size=400) > 0).astype(float)
    case = make_case(X, y, (2, 1, 1), n_estimators=2, hide_membership=hide)
    joint = assert_joint_is_pooled(case, splits=6)
    assert not joint.shares["social_security"].splits


def test_nothing_to_split_on():
    case = make_case(np.zeros((100, 2)), np.arange(100) % 2, (1, 1))
    with pytest.raises(InputError, match="more than one bin"):
        train(case)


@MODES
def test_trees_without_a_split(hide):
    tree = TreeParams(max_depth=3, min_split_gain=1e6)
    case = synthetic("one provider", n=300, hide_membership=hide, tree=tree, n_estimators=2)
    joint = assert_joint_is_pooled(case, splits=0)
    assert [tree.n_nodes for tree in joint.state.trees] == [1, 1]
    small = case.but(tree=TreeParams(min_child_samples=200))  # not even a root to sum
    assert [tree.n_nodes for tree in train(small).state.trees] == [1, 1]


@MODES
def test_a_cap_on_splits_per_feature(hide):
    case = synthetic(n=600, n_estimators=5, hide_membership=hide)
    free, capped = train(case), train(case.but(split_cap=2))
    assert_shares_fit(case, capped)

    def served(forest):
        counts = np.zeros(len(case.infos), int)
        for tree in forest.state.trees:
            counts += np.bincount(tree.feature[tree.feature >= 0], minlength=len(counts))
        return counts

    own = case.owners[0]
    assert served(free)[own:].max() > 2
    assert served(capped)[own:].max() == 2
    assert served(capped)[:own].sum() > served(free)[:own].sum()


def test_small_nodes_are_not_summed_with_open_membership():
    tree = TreeParams(max_depth=4, min_child_samples=2)
    case = synthetic("one provider", n=400, hide_membership=False, tree=tree)
    case = case.but(limits=ProviderLimits(min_node_rows=50))
    with pytest.raises(PolicyError, match="fewer than 50 rows"):
        train(case)
    assert_joint_is_pooled(case.but(hide_membership=True))


def test_masks_are_kept_while_the_columns_stay(monkeypatch):
    made = []
    plan = gbdt_provider.SumServer.plan

    def counted(self, *arguments, **keywords):
        made.append(1)
        return plan(self, *arguments, **keywords)

    monkeypatch.setattr(gbdt_provider.SumServer, "plan", counted)
    train(synthetic("one provider", n=300, n_estimators=3))
    assert len(made) == 1


def test_parameters_out_of_range_are_refused():
    for wrong in (
        {"learning_rate": 0.0},
        {"subsample": 0.0},
        {"colsample": 1.5},
        {"objective": "ranking"},
        {"precision": "guess"},
        {"n_estimators": 0},
        {"tree": TreeParams(max_depth=9)},
    ):
        with pytest.raises(InputError):
            ForestParams(**wrong)


# ------------------------------------------------------------------------- interruptions


def interrupted(hide):
    return first_columns(3, hide_membership=hide)


def resume(case, kept):
    return as_forest(run_in_process(roles(case, kept)))


def count_messages(case):
    transcript = Transcript()
    train(case, transcript)
    return sum(entry.messages for entry in transcript.counts.values())


def check_cuts(case, cuts):
    whole = train(case)
    for cut in cuts:
        kept = Checkpoints()
        assert run_until(roles(case, kept), cut) is None
        again = resume(case, kept)
        assert_same_forest(again, whole)
        assert again.shares == whole.shares
        assert_shares_fit(case, again)


@MODES
def test_a_run_that_is_cut_goes_on(hide):
    case = interrupted(hide)
    messages = count_messages(case)
    assert messages > 30
    check_cuts(case, range(1, messages, 11))


@pytest.mark.slow
@MODES
def test_a_run_that_is_cut_anywhere_goes_on(hide):
    case = interrupted(hide)
    check_cuts(case, range(count_messages(case)))
    two = case.but(owners=(1, 1, 2))
    check_cuts(two, range(count_messages(two)))


def test_a_run_that_is_cut_again_and_again():
    case = interrupted(True)
    kept, whole = Checkpoints(), train(case)
    for cut in (30, 30, 35, 3, 30):
        if run_until(roles(case, kept), cut) is not None:
            break
    assert len(kept.state.trees) == 3
    assert_same_forest(resume(case, kept), whole)


def test_samples_are_drawn_alike_after_an_interruption():
    case = interrupted(True).but(subsample=0.5, colsample=0.5, precision="packed", n_estimators=4)
    held = np.arange(len(case.y)) % 5 == 0
    case = case.but(is_train=~held, early_stopping_rounds=2)
    kept = Checkpoints()
    run_until(roles(case, kept), 40)
    assert 0 < len(kept.state.trees) < 4
    assert_same_forest(resume(case, kept), train(case))


@pytest.fixture(scope="module")
def two_trees():
    """Checkpoints after two of three trees, and the forest of an undisturbed run."""
    case = interrupted(True)
    kept = Checkpoints()
    run_in_process(roles(case.but(n_estimators=2), kept))
    return case, kept, train(case)


def copied(kept):
    return Checkpoints(kept.state, dict(kept.shares))


def trees_made(case, kept):
    """How many trees the session that goes on from ``kept`` grows."""
    grown = []
    made = roles(case, kept, train_as_provider=counting(grown))
    return as_forest(run_in_process(made)), len(grown)


def counting(grown):
    async def provider(*arguments, on_tree, **keywords):
        def count(share):
            grown.append(share.n_trees)
            on_tree(share)

        share = await gbdt_provider.train_provider(*arguments, on_tree=count, **keywords)
        grown.pop()  # the end of the training is told as well
        return share

    return provider


def test_both_go_on_from_their_checkpoints(two_trees):
    case, kept, whole = two_trees
    again, grown = trees_made(case, copied(kept))
    assert grown == 1
    assert_same_forest(again, whole)


def test_a_provider_that_is_a_tree_ahead_forgets_it(two_trees):
    case, kept, whole = two_trees
    ahead = copied(kept)
    ahead.shares = dict(whole.shares)
    assert ahead.shares["tax"].n_trees == 3
    again, grown = trees_made(case, ahead)
    assert grown == 1
    assert_same_forest(again, whole)
    assert again.shares == whole.shares


@pytest.mark.parametrize("lost", [1, 2], ids=["a tree behind", "nothing left"])
def test_a_provider_that_is_behind_makes_all_begin_anew(two_trees, lost):
    case, kept, whole = two_trees
    behind = copied(kept)
    share = ProviderShare.from_dict(kept.shares["tax"].to_dict())
    share.truncate(2 - lost)
    behind.shares = {"tax": share}
    again, grown = trees_made(case, behind)
    assert grown == 3
    assert_same_forest(again, whole)
    assert again.shares == whole.shares


def test_a_platform_that_lost_its_checkpoint_begins_anew(two_trees):
    case, kept, whole = two_trees
    again, grown = trees_made(case, Checkpoints(shares=dict(kept.shares)))
    assert grown == 3
    assert_same_forest(again, whole)
    assert again.shares == whole.shares


def test_an_acknowledgement_of_another_number_of_splits_is_noticed(monkeypatch):
    ack = gbdt_provider.TrainAck
    monkeypatch.setattr(gbdt_provider, "TrainAck", lambda splits: ack(splits - 1))
    with pytest.raises(PeerProtocolError, match="another number of splits") as caught:
        train(interrupted(True))
    assert caught.value.party == "tax"


def test_a_share_survives_json():
    share = train(interrupted(False)).shares["tax"]
    assert share.splits
    assert ProviderShare.from_dict(share.to_dict()) == share
