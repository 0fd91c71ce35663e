"""Joint scoring: each row's leaf values, the same as on pooled columns."""

import numpy as np
import pytest

from fedcredit.protocols import gbdt_predict
from fedcredit.protocols.gbdt_provider import ProviderLimits
from fedcredit.stats.tree_params import TreeParams
from fedcredit.wire import Transcript, run_in_process
from tests.support.joint_gbdt import (
    LAYOUTS,
    N_COLUMNS,
    predict,
    predict_roles,
    synthetic,
    train,
    train_alone,
)

MODES = pytest.mark.parametrize("hide", [True, False], ids=["hidden", "open"])


@pytest.fixture(scope="module", params=LAYOUTS)
def trained(request):
    case = synthetic(request.param, n=700, n_estimators=4, seed=8, hide_membership=False)
    return case, train(case)


def other_rows(case, n=500):
    rng = np.random.default_rng(9)
    columns = [rng.integers(0, info.n_bins, n) for info in case.infos]
    return np.column_stack(columns).astype(case.codes.dtype)


def on_pooled_bins(forest, codes):
    score = np.full(len(codes), forest.state.init_score)
    for tree in forest.state.trees:
        score += tree.predict(codes)
    return score


@MODES
def test_the_training_rows_get_their_training_scores(trained, hide):
    case, forest = trained
    score = predict(case.but(hide_membership=hide), forest, case.codes)
    np.testing.assert_array_equal(score, forest.state.score)


@MODES
def test_other_rows_get_the_scores_of_pooled_columns(trained, hide):
    case, forest = trained
    codes = other_rows(case)
    score = predict(case.but(hide_membership=hide), forest, codes)
    np.testing.assert_array_equal(score, on_pooled_bins(forest, codes))


@MODES
def test_a_single_row(trained, hide):
    case, forest = trained
    codes = other_rows(case, 1)
    score = predict(case.but(hide_membership=hide), forest, codes)
    np.testing.assert_array_equal(score, on_pooled_bins(forest, codes))


@MODES
def test_rows_are_scored_in_blocks(trained, hide, monkeypatch):
    case, forest = trained
    monkeypatch.setattr(gbdt_predict, "_CELLS", 300)
    codes = other_rows(case, 333)
    transcript = Transcript(keep=True)
    score = predict(case.but(hide_membership=hide), forest, codes, transcript)
    np.testing.assert_array_equal(score, on_pooled_bins(forest, codes))
    asked = [r.message for r in transcript.records if r.message.kind == "gbdt.predict_level"]
    assert len({message.first for message in asked}) > 3


@MODES
def test_more_nodes_of_a_level_than_a_lane_holds(hide):
    tree = TreeParams(max_depth=6, min_child_samples=1, min_child_weight=0.0)
    case = synthetic("one provider", n=700, n_estimators=1, tree=tree, hide_membership=hide)
    case = case.but(limits=ProviderLimits(min_node_rows=1), owners=(0, N_COLUMNS))
    forest = train(case)
    (grown,) = forest.state.trees
    assert ((gbdt_predict._node_depths(grown) == 5) & (grown.feature >= 0)).sum() > 15
    codes = other_rows(case)
    np.testing.assert_array_equal(predict(case, forest, codes), on_pooled_bins(forest, codes))


def test_a_model_of_stumps_and_of_nothing():
    stumps = synthetic("one provider", n=300, n_estimators=2, tree=TreeParams(max_depth=1))
    forest = train(stumps)
    codes = other_rows(stumps)
    np.testing.assert_array_equal(predict(stumps, forest, codes), on_pooled_bins(forest, codes))
    bare = stumps.but(tree=TreeParams(min_split_gain=1e9))
    forest = train(bare)
    score = predict(bare, forest, codes)
    assert len(np.unique(score)) == 1
    np.testing.assert_array_equal(score, on_pooled_bins(forest, codes))


def test_a_label_holder_alone():
    case = synthetic("one provider", n=300, n_estimators=3)
    forest = train_alone(case)
    alone = case.but(owners=(N_COLUMNS,))
    np.testing.assert_array_equal(predict(alone, forest, case.codes), forest.state.score)


def test_what_a_provider_sees_does_not_depend_on_where_rows_go(trained):
    """With hidden membership two sets of rows look alike, but for masked slots."""
    case, forest = trained
    seen = []
    for seed in (1, 2):
        codes = other_rows(case)[np.random.default_rng(seed).permutation(500)]
        own = case.columns(0)
        codes[:, own] = other_rows(case)[:, own]
        transcript = Transcript(keep=True)
        predict(case.but(hide_membership=True), forest, codes, transcript)
        seen.append(
            [
                (r.recipient, r.message.kind, r.message.starts.tolist(), r.message.splits.tolist())
                for r in transcript.between(sender="platform")
                if r.message.kind == "gbdt.predict_level"
            ]
        )
    assert seen[0]
    assert seen[0] == seen[1]


def test_a_provider_counts_the_rows_that_it_answered_for(trained):
    case, forest = trained
    results = run_in_process(predict_roles(case, forest, other_rows(case, 77)))
    for name in case.providers:
        assert results[name] == (77 if forest.shares[name].splits else 0)
