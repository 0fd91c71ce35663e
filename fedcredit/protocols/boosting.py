"""What boosting does at the label holder alone: samples, gradients, losses, early stopping."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError
from fedcredit.protocols.forest import ForestParams, ForestState, LabelData, PooledFeatures
from fedcredit.stats.quantise import (
    QuantisedGradients,
    initial_logit,
    logistic_gradients,
    squared_error_gradients,
)
from fedcredit.stats.trees import LEAF

__all__ = ["Boosting"]

Bits = npt.NDArray[np.bool_]


class Boosting:
    """The label holder's own part of every tree.

    Parameters
    ----------
    params : ForestParams
    data : LabelData
    pooled : PooledFeatures
        Filled by the caller before the first tree.
    """

    def __init__(self, params: ForestParams, data: LabelData, pooled: PooledFeatures) -> None:
        self.params, self.data, self.pooled = params, data, pooled
        n = len(data.y)
        self._order = np.arange(n) if data.draw_order is None else data.draw_order

    def initial_state(self) -> ForestState:
        """Return a forest without trees: every row has the mean label's score."""
        train = self._order[self.data.is_train[self._order]]
        weight = None if self.data.weight is None else self.data.weight[train]
        if self.params.objective == "binary":
            init = initial_logit(self.data.y[train], weight)
        else:
            init = float(np.average(self.data.y[train], weights=weight))
        return ForestState(init_score=init, score=np.full(len(self.data.y), init))

    def sample(self, index: int) -> tuple[Bits, Bits]:
        """Draw a tree's rows and features; a stream per tree, so a resumed job draws alike.

        Raises
        ------
        InputError
            No feature can be split.
        """
        in_bag = self.data.is_train
        if self.params.subsample < 1:
            rng = np.random.default_rng([self.params.seed, index, 1])
            train = self._order[in_bag[self._order]]
            size = max(1, round(self.params.subsample * len(train)))
            in_bag = np.zeros(len(self.data.y), np.bool_)
            in_bag[rng.choice(train, size, replace=False)] = True
        use = np.array([info.n_bins > 1 for info in self.pooled.infos], np.bool_)
        usable = np.flatnonzero(use)
        if not len(usable):
            raise InputError(
                "no feature has more than one bin.",
                step="train",
                fix="supply features that vary over the training rows",
            )
        if self.params.colsample < 1:
            rng = np.random.default_rng([self.params.seed, index, 2])
            size = max(1, round(self.params.colsample * len(usable)))
            use = np.zeros(len(use), np.bool_)
            use[rng.choice(usable, size, replace=False)] = True
        return in_bag, use

    def gradients(
        self, score: npt.NDArray[np.float64], in_bag: Bits, index: int
    ) -> QuantisedGradients:
        """Return the integer gradients and hessians of tree ``index``."""
        derive = (
            logistic_gradients if self.params.objective == "binary" else squared_error_gradients
        )
        g, h = derive(score, self.data.y, self.data.weight)
        order = self._order
        drawn = self.params.quantiser().quantise(
            g[order], h[order], tree=index, in_bag=in_bag[order]
        )
        g_aligned, h_aligned = np.empty_like(drawn.g), np.empty_like(drawn.h)
        g_aligned[order], h_aligned[order] = drawn.g, drawn.h
        return dataclasses.replace(drawn, g=g_aligned, h=h_aligned)

    def split_budget(self, state: ForestState) -> npt.NDArray[np.int64] | None:
        """Return how many splits each feature may still serve; None without caps."""
        if all(cap < 0 for cap in self.pooled.cap):
            return None
        used = np.zeros(len(self.pooled), np.int64)
        for tree in state.trees:
            used += np.bincount(tree.feature[tree.feature != LEAF], minlength=len(used))
        undone = np.array([feature for _, feature in state.undone], np.int64)
        used += np.bincount(undone, minlength=len(used))
        cap = np.array(self.pooled.cap, np.int64)
        return np.where(cap < 0, np.iinfo(np.int64).max, cap - used)

    def record_losses(self, state: ForestState) -> None:
        """Append the mean losses after a tree, and keep the scores of the best one."""
        train = self.data.is_train
        state.train_loss.append(self._loss(state, train))
        if not train.all():
            state.valid_loss.append(self._loss(state, ~train))
            if int(np.argmin(state.valid_loss)) == len(state.valid_loss) - 1:
                state.best_score = state.score

    def _loss(self, state: ForestState, rows: Bits) -> float:
        weight = None if self.data.weight is None else self.data.weight[rows]
        y, score = self.data.y[rows], state.score[rows]
        if self.params.objective == "regression":
            return float(np.average((y - score) ** 2, weights=weight))
        losses = np.logaddexp(0.0, np.where(y > 0, -score, score))
        return float(np.average(losses, weights=weight))

    def stopped(self, state: ForestState) -> bool:
        """Whether the validation loss has not fallen for the rounds of early stopping."""
        rounds = self.params.early_stopping_rounds
        if rounds is None or not state.valid_loss:
            return False
        return len(state.trees) - 1 - int(np.argmin(state.valid_loss)) >= rounds
