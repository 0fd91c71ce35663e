"""LightGBM on pooled bins as the oracle of every tree that fedcredit grows.

`fit_pooled` boosts with `TreeGrower` on a plaintext matrix, `fit_lightgbm` boosts with LightGBM on
the same bins, gradients and quantiser; `assert_same_trees` compares them split for split. A joint
computation compares its trees in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np

from fedcredit.stats.grower import TreeGrower
from fedcredit.stats.histograms import local_histograms
from fedcredit.stats.quantise import (
    Quantiser,
    initial_logit,
    logistic_gradients,
    squared_error_gradients,
)
from fedcredit.stats.tree_params import FeatureInfo, TreeParams
from fedcredit.stats.trees import LEAF, Tree, decision_directions

Gradients = Callable[..., tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Boosting:
    """Everything that both sides of a twin share."""

    codes: np.ndarray
    infos: Sequence[FeatureInfo]
    y: np.ndarray
    params: TreeParams
    n_trees: int
    quantiser: Quantiser
    learning_rate: float = 0.1
    weight: np.ndarray | None = None
    objective: str = "logistic"

    def initial_score(self) -> float:
        if self.objective == "logistic":
            return initial_logit(self.y, self.weight)
        return float(np.average(self.y, weights=self.weight))

    def gradients(self, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        by_name: dict[str, Gradients] = {
            "logistic": logistic_gradients,
            "squared": squared_error_gradients,
        }
        return by_name[self.objective](score, self.y, self.weight)


def fit_pooled(
    work: Boosting, in_bag: Sequence[np.ndarray] | None = None
) -> tuple[list[Tree], np.ndarray]:
    """Boost on the pooled matrix; return the trees and the training rows' raw scores.

    ``in_bag[t]`` restricts tree t to a sample of the rows.
    """
    score = np.full(len(work.y), work.initial_score())
    trees = []
    everything = np.ones(len(work.y), np.bool_)
    for number in range(work.n_trees):
        bag = everything if in_bag is None else in_bag[number]
        q = work.quantiser.quantise(*work.gradients(score), tree=number)
        grower = TreeGrower(bag, q.g, q.h, q.g_scale, q.h_scale, work.infos, work.params)
        while not grower.done:
            for node in grower.histogram_work():
                grower.supply(
                    node.node,
                    *local_histograms(work.codes, node.rows, q.g, q.h, grower.features.offsets),
                )
            for decision in grower.decide():
                column = work.codes[decision.rows, decision.feature]
                grower.partition(decision.node, decision_directions(column, decision))
        tree = grower.finish(work.learning_rate)
        score += tree.value[grower.leaf_of_row]
        trees.append(tree)
    return trees, score


def lightgbm_matrix(codes: np.ndarray, infos: Sequence[FeatureInfo]) -> np.ndarray:
    """Turn bin numbers into values that LightGBM bins identically.

    The missing bin, and bin 0 of a categorical feature, become NaN.
    """
    values = codes.astype(np.float64)
    for f, info in enumerate(infos):
        if info.is_categorical:
            values[codes[:, f] == 0, f] = np.nan
        elif info.has_missing:
            values[codes[:, f] == info.n_bins - 1, f] = np.nan
    return values


def lightgbm_params(
    params: TreeParams, learning_rate: float, infos: Sequence[FeatureInfo], **extra: Any
) -> dict[str, Any]:
    """Translate parameters so that LightGBM neither samples, bundles nor re-bins."""
    translated: dict[str, Any] = {
        "num_leaves": 2**params.max_depth,
        "max_depth": params.max_depth,
        "learning_rate": learning_rate,
        "min_data_in_leaf": params.min_child_samples,
        "min_sum_hessian_in_leaf": params.min_child_weight,
        "lambda_l1": 0.0,
        "lambda_l2": params.lambda_l2,
        "min_gain_to_split": params.min_split_gain,
        "max_cat_to_onehot": params.max_cat_to_onehot,
        "cat_smooth": params.cat_smooth,
        "cat_l2": params.cat_l2,
        "max_cat_threshold": params.max_cat_threshold,
        "min_data_per_group": params.min_data_per_group,
        "max_bin": max(info.n_bins for info in infos) + 2,
        "min_data_in_bin": 1,
        "bin_construct_sample_cnt": 1_000_000,
        "feature_pre_filter": False,
        "enable_bundle": False,
        "is_enable_sparse": False,
        "use_missing": True,
        "zero_as_missing": False,
        "boost_from_average": False,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        "seed": 1,
    }
    if any(info.monotone for info in infos):
        translated["monotone_constraints"] = [info.monotone for info in infos]
        translated["monotone_constraints_method"] = "basic"
        translated["monotone_penalty"] = 0.0
    return translated | extra


def fit_lightgbm(work: Boosting, **extra: Any) -> tuple[lgb.Booster, np.ndarray]:
    """Boost with LightGBM on the same bins; return the booster and the rows' raw scores."""
    categorical = [f for f, info in enumerate(work.infos) if info.is_categorical]
    values = lightgbm_matrix(work.codes, work.infos)
    initial = work.initial_score()
    data = lgb.Dataset(
        values,
        label=work.y,
        init_score=np.full(len(work.y), initial),
        categorical_feature=categorical or "auto",
        free_raw_data=False,
    )
    calls = iter(range(work.n_trees + 1))

    def objective(score: np.ndarray, _: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
        q = work.quantiser.quantise(*work.gradients(score), tree=next(calls))
        return q.g * q.g_scale, q.h * q.h_scale

    params = lightgbm_params(work.params, work.learning_rate, work.infos, objective=objective)
    booster = lgb.train(params | extra, data, work.n_trees)
    return booster, booster.predict(values, raw_score=True) + initial


def fit_lightgbm_bagged(
    work: Boosting, in_bag: Sequence[np.ndarray]
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Boost with LightGBM, every tree on a given sample of the rows.

    Returns the trees' roots and the raw scores of all rows.
    """
    categorical = [f for f, info in enumerate(work.infos) if info.is_categorical]
    values = lightgbm_matrix(work.codes, work.infos)
    score = np.full(len(work.y), work.initial_score())
    params = lightgbm_params(work.params, work.learning_rate, work.infos)
    full = lgb.Dataset(
        values,
        label=work.y,
        categorical_feature=categorical or "auto",
        free_raw_data=False,
        params=params,
    ).construct()
    roots = []
    for number in range(work.n_trees):
        rows = np.flatnonzero(in_bag[number])
        q = work.quantiser.quantise(*work.gradients(score), tree=number)
        g, h = (q.g * q.g_scale)[rows], (q.h * q.h_scale)[rows]
        sample = full.subset(rows.tolist())
        objective = {"objective": lambda *_, gh=(g, h): gh}
        booster = lgb.train(params | objective, sample, 1)
        roots += dumped_trees(booster)
        score += booster.predict(values, raw_score=True)
    return roots, score


def dumped_trees(booster: lgb.Booster) -> list[dict[str, Any]]:
    """Return the root node of each of LightGBM's trees."""
    return [info["tree_structure"] for info in booster.dump_model()["tree_info"]]


def assert_same_tree(
    tree: Tree, root: dict[str, Any], infos: Sequence[FeatureInfo], name: str = "tree"
) -> int:
    """Compare one tree split for split and leaf for leaf; return the number of splits."""
    splits = 0
    pairs = [(0, root)]
    while pairs:
        node, theirs = pairs.pop()
        where = f"{name}, node {node}"
        if "split_feature" not in theirs:
            assert tree.feature[node] == LEAF, f"{where}: LightGBM has a leaf, we split"
            if node > 0:
                np.testing.assert_allclose(
                    tree.value[node], theirs["leaf_value"], rtol=1e-12, atol=1e-15, err_msg=where
                )
            continue
        assert tree.feature[node] != LEAF, f"{where}: LightGBM splits, we have a leaf"
        split = tree.split(node)
        splits += 1
        assert split.feature == theirs["split_feature"], f"{where}: feature"
        info = infos[split.feature]
        if info.is_categorical:
            bins = tuple(sorted(int(v) for v in str(theirs["threshold"]).split("||")))
            assert split.left_bins == bins, f"{where}: categories"
        else:
            threshold = theirs["threshold"]
            # A split of the missing values from all others has a threshold beyond any value.
            last = info.n_bins - 2
            assert split.threshold_bin == (
                int(np.floor(threshold)) if threshold < 1e200 else last
            ), f"{where}: threshold"
            if info.has_missing:
                assert split.default_left == theirs["default_left"], f"{where}: missing values"
        assert tree.count[node] == theirs["internal_count"], f"{where}: count"
        np.testing.assert_allclose(tree.gain[node], theirs["split_gain"], rtol=1e-5)
        pairs.append((int(tree.left[node]), theirs["left_child"]))
        pairs.append((int(tree.right[node]), theirs["right_child"]))
    return splits


def assert_same_trees(
    trees: Sequence[Tree], booster: lgb.Booster, infos: Sequence[FeatureInfo]
) -> int:
    """Compare all trees; return the total number of splits, so that a test can demand some.

    LightGBM does not keep a tree without a split, unless it is the first.
    """
    kept = [(number, tree) for number, tree in enumerate(trees) if tree.n_nodes > 1 or number == 0]
    dumped = dumped_trees(booster)
    assert len(kept) == len(dumped), "number of trees with a split"
    return sum(
        assert_same_tree(tree, root, infos, f"tree {number}")
        for (number, tree), root in zip(kept, dumped, strict=True)
    )
