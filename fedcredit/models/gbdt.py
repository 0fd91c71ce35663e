"""Gradient-boosted trees over a federated frame, as scikit-learn estimators."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from fedcredit.errors import InputError
from fedcredit.models.federation import Federation
from fedcredit.models.fitting import (
    Columns,
    JobRows,
    OwnFeatures,
    choose_columns,
    choose_rows,
    fit_own,
    label_data,
    with_rows,
)
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.local import local_frame
from fedcredit.models.report import Summary, TrainingReport, TreeCost
from fedcredit.models.shares import StoredForest
from fedcredit.protocols.forest import ForestParams, ForestState, LabelData, PooledFeatures
from fedcredit.protocols.gbdt import ForestHooks, train_label_holder
from fedcredit.protocols.gbdt_messages import PredictJob, TrainJob
from fedcredit.protocols.gbdt_predict import predict_label_holder
from fedcredit.stats.tree_params import TreeParams
from fedcredit.wire import Peers

__all__ = ["VerticalGBDTClassifier", "VerticalGBDTRegressor"]

Floats = npt.NDArray[np.float64]
_CHECKPOINT = "checkpoint"
_MODEL = "model"


class _VerticalGBDT(BaseEstimator):
    _objective = "binary"

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        learning_rate: float = 0.1,
        max_depth: int = 5,
        max_bins: int = 32,
        min_child_samples: int = 20,
        min_child_weight: float = 1e-3,
        min_split_gain: float = 0.0,
        reg_lambda: float = 0.0,
        subsample: float = 1.0,
        colsample_bytree: float = 1.0,
        features: Sequence[str] | None = None,
        categorical_features: Sequence[str] = (),
        monotone_constraints: Mapping[str, int] | None = None,
        early_stopping_rounds: int | None = None,
        validation_fraction: float = 0.1,
        hide_membership: bool = True,
        precision: str = "packed",
        gradient_bits: int = 8,
        block: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.max_bins = max_bins
        self.min_child_samples = min_child_samples
        self.min_child_weight = min_child_weight
        self.min_split_gain = min_split_gain
        self.reg_lambda = reg_lambda
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.features = features
        self.categorical_features = categorical_features
        self.monotone_constraints = monotone_constraints
        self.early_stopping_rounds = early_stopping_rounds
        self.validation_fraction = validation_fraction
        self.hide_membership = hide_membership
        self.precision = precision
        self.gradient_bits = gradient_bits
        self.block = block
        self.random_state = random_state

    # ---------------------------------------------------------------------- fitting

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: FederatedFrame | None = None,
        resume: str | None = None,
    ) -> Self:
        """Train.

        Parameters
        ----------
        X : FederatedFrame, or table of one party (n, k)
        y : str or array of shape (n,)
            The platform's label column, or the labels in the frame's order.
        sample_weight : str or array of shape (n,), optional
            A column of the platform, or weights.
        validation : FederatedFrame, optional
            Rows of the same alignment for early stopping, with ``y`` a column name; by default
            a share of ``X``.
        resume : str, optional
            ``model_id_`` of an interrupted fit on the same frame with the same parameters.

        Returns
        -------
        self

        Raises
        ------
        InputError
            Labels, weights, columns or parameters that cannot be used.
        ProtocolError, TransportError
            The providers refuse, or cannot be reached.
        """
        if isinstance(X, FederatedFrame):
            frame = X
            self.n_features_in_ = len(X.columns) - isinstance(y, str)
        else:
            frame, y = self._local(X, y)
        params = self._params()
        early = self.early_stopping_rounds is not None
        rows = choose_rows(
            frame,
            y,
            sample_weight,
            validation,
            fraction=self.validation_fraction if early else None,
            stratify=self._objective == "binary",
            seed=params.seed,
        )
        target = self._target(rows.y)
        columns = choose_columns(frame, self.features, self.monotone_constraints)
        own = fit_own(
            rows,
            columns,
            exclude=[name for name in (y, sample_weight) if isinstance(name, str)],
            categorical=self.categorical_features,
            max_bins=self.max_bins,
        )
        self._train(rows, label_data(rows, own, columns, target), own, columns, params, resume)
        self.target_ = y if isinstance(y, str) else "y"
        self.train_rows_ = rows
        return self

    def _local(self, X: Any, y: Any) -> tuple[FederatedFrame, Any]:
        if y is None:
            raise InputError(
                "this estimator requires y to be passed, but the target y is None.", step="train"
            )
        text = isinstance(X, pd.DataFrame) and any(
            not pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes
        )
        if text:
            validate_data(self, np.zeros((len(X), X.shape[1])), reset=True)
            return local_frame(X), np.asarray(y)
        X, y = validate_data(
            self,
            X,
            y,
            dtype=np.float64,
            ensure_all_finite="allow-nan",
            y_numeric=self._objective == "regression",
        )
        return local_frame(X), y

    def _target(self, y: npt.NDArray[Any]) -> Floats:
        raise NotImplementedError

    def _train(
        self,
        rows: JobRows,
        data: LabelData,
        own: OwnFeatures,
        columns: Columns,
        params: ForestParams,
        resume: str | None,
    ) -> None:
        federation = rows.frame.federation
        names = [
            name for name in rows.frame.providers if columns.use is None or name in columns.use
        ]
        self.federation_, self.own_, self.providers_ = federation, own, tuple(names)
        self.model_id_ = resume or secrets.token_hex(8)
        self.tree_costs_: list[TreeCost] = []
        costs = _Costs(federation, self.tree_costs_)

        def keep(state: ForestState, pooled: PooledFeatures) -> None:
            costs.tree_done(len(state.trees) - 1)
            stored = StoredForest.of(state, pooled, {"params": repr(params)})
            federation.store.put(_CHECKPOINT, self.model_id_, stored.to_bytes())

        async def role(peers: Peers) -> tuple[ForestState, PooledFeatures]:
            state = self._checkpoint(federation, params) if resume or costs.begun else None
            costs.begin()
            job = TrainJob(
                model_id=self.model_id_,
                frame_id=rows.frame.frame_id,
                rows=rows.frame.rows,
                salt=secrets.token_bytes(32),
                n_trees=params.n_estimators,
                trees=len(state.trees) if state else 0,
                max_depth=params.tree.max_depth,
                max_bins=self.max_bins,
                hide_membership=params.hide_membership,
                columns=(),
                monotone=(),
                signs=(),
            )
            jobs = {name: _for_provider(job, name, columns) for name in peers}
            return await train_label_holder(
                peers,
                jobs,
                data,
                params,
                state or ForestState(),
                ForestHooks(on_tree=keep, on_progress=federation.on_progress),
                own_labels=[coder.name for coder in own.coders],
            )

        self.state_, self.pooled_ = federation.run(
            role, providers=names, job=f"train-{self.model_id_}", phase="train"
        )
        self.params_ = params
        self.n_estimators_ = len(self.state_.trees)
        federation.store.put(_MODEL, self.model_id_, self._stored().to_bytes())
        federation.store.delete(_CHECKPOINT, self.model_id_)

    def _checkpoint(self, federation: Federation, params: ForestParams) -> ForestState | None:
        data = federation.store.get(_CHECKPOINT, self.model_id_)
        if data is None:
            return None
        state, _, extra = StoredForest.read(data).unpack()
        if extra["params"] != repr(params):
            raise InputError(
                "the checkpoint belongs to a fit with other parameters.",
                step="train: resume",
                fix="resume with the parameters and the random_state of the interrupted fit",
            )
        return state

    def _params(self) -> ForestParams:
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        return ForestParams(
            objective=self._objective,  # type: ignore[arg-type]
            n_estimators=self.n_estimators,
            learning_rate=self.learning_rate,
            tree=TreeParams(
                max_depth=self.max_depth,
                lambda_l2=self.reg_lambda,
                min_child_samples=self.min_child_samples,
                min_child_weight=self.min_child_weight,
                min_split_gain=self.min_split_gain,
            ),
            subsample=self.subsample,
            colsample=self.colsample_bytree,
            hide_membership=self.hide_membership,
            precision=self.precision,  # type: ignore[arg-type]
            gradient_bits=self.gradient_bits,
            block=self.block,
            seed=int(seed),
            early_stopping_rounds=self.early_stopping_rounds,
        )

    # ------------------------------------------------------------------- prediction

    def _raw(self, X: Any) -> Floats:
        check_is_fitted(self, "state_")
        if isinstance(X, FederatedFrame):
            frame = X
        else:
            if self.providers_:
                raise InputError(
                    "this model needs the columns of other parties.",
                    step="predict",
                    fix="pass a federated frame",
                )
            if not (isinstance(X, pd.DataFrame) and hasattr(self, "own_names_")):
                X = validate_data(
                    self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan"
                )
            frame = local_frame(X)
        rows, back = np.unique(frame.rows, return_inverse=True)
        federation = frame.federation
        missing = sorted(set(self.providers_) - set(frame.providers))
        if missing:
            raise InputError(
                f"the frame lacks the providers {', '.join(missing)}.",
                step="predict",
                fix="align with every provider that the model was trained with",
            )
        table = with_rows(frame, rows).platform
        bins = self.own_.matrix(table, party=federation.platform)

        async def role(peers: Peers) -> Floats:
            job = PredictJob(
                model_id=self.model_id_,
                frame_id=frame.frame_id,
                rows=rows,
                salt=secrets.token_bytes(32),
                trees=self.n_estimators_,
                hide_membership=self.params_.hide_membership,
            )
            return await predict_label_holder(
                peers, job, bins, self.pooled_, self.state_, on_progress=federation.on_progress
            )

        used = [name for name in self.providers_ if self._serves(name)]
        score = federation.run(
            role, providers=used, job=f"predict-{self.model_id_}", phase="predict"
        )
        return score[back]

    def _serves(self, name: str) -> bool:
        mine = self.pooled_.of(name)
        return any(bool(np.isin(tree.feature, mine).any()) for tree in self.state_.trees)

    # ------------------------------------------------------------------- inspection

    @property
    def feature_importances_(self) -> Floats:
        """Share of the total gain per feature, in the order of :attr:`feature_labels_`."""
        table = self.importance()
        total = float(table["gain"].sum())
        gains = table["gain"].to_numpy(np.float64)
        return gains / total if total else gains

    @property
    def feature_labels_(self) -> list[str]:
        """``party.label`` of every feature, the platform's first."""
        check_is_fitted(self, "state_")
        platform = self.federation_.platform
        return [
            f"{owner or platform}.{label}"
            for owner, label in zip(self.pooled_.owner, self.pooled_.labels, strict=True)
        ]

    def importance(self) -> pd.DataFrame:
        """Gain and number of splits per feature, by ``party.label``."""
        labels = self.feature_labels_
        gain, splits = np.zeros(len(labels)), np.zeros(len(labels), np.int64)
        for tree in self.state_.trees:
            inner = tree.feature >= 0
            np.add.at(gain, tree.feature[inner], tree.gain[inner])
            np.add.at(splits, tree.feature[inner], 1)
        platform = self.federation_.platform
        return pd.DataFrame(
            {
                "party": [owner or platform for owner in self.pooled_.owner],
                "gain": gain,
                "splits": splits,
            },
            index=pd.Index(labels, name="feature"),
        )

    def report(self, test: FederatedFrame | None = None, **options: Any) -> TrainingReport:
        """Measure the model and collect everything about the run; see :func:`build_report`."""
        from fedcredit.models.training_report import build_report

        check_is_fitted(self, "state_")
        return build_report(self, test, **options)

    def summary(self) -> Summary:
        """Tables about the model and its training, for terminals and notebooks."""
        return self.report().summary()

    # --------------------------------------------------------------------- at rest

    def _stored(self) -> StoredForest:
        extra = {
            "estimator": type(self).__name__,
            "arguments": dict(self.get_params().items()),
            "own": self.own_.to_dict(),
            "providers": list(self.providers_),
            "model_id": self.model_id_,
            "classes": np.asarray(getattr(self, "classes_", [])).tolist(),
            "n_features_in": self.n_features_in_,
        }
        return StoredForest.of(self.state_, self.pooled_, extra)

    def fingerprint(self) -> str:
        """SHA-256 over the platform's share of the model, in hexadecimal."""
        check_is_fitted(self, "state_")
        stored = self._stored()
        header = json.loads(stored.header)
        header["extra"].pop("model_id")
        return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the platform's share of the model; every provider keeps its own."""
        check_is_fitted(self, "state_")
        Path(path).write_bytes(self._stored().to_bytes())

    @classmethod
    def load(cls, source: str | Path | bytes, federation: Federation | None = None) -> Self:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        source : path or bytes
        federation : Federation, optional
            Whose providers hold the other shares; not needed for a model of one party.

        Raises
        ------
        InputError
            The file is not a model of this class.
        """
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        state, pooled, extra = StoredForest.read(data).unpack()
        if extra.get("estimator") != cls.__name__:
            raise InputError(
                f"the file holds a {extra.get('estimator')}, not a {cls.__name__}.",
                step="load model",
            )
        model = cls(**extra["arguments"])
        model.state_, model.pooled_ = state, pooled
        model.own_ = OwnFeatures.from_dict(extra["own"])
        model.providers_ = tuple(extra["providers"])
        model.model_id_ = extra["model_id"]
        model.n_features_in_ = extra["n_features_in"]
        model.n_estimators_ = len(state.trees)
        model.params_ = model._params()
        model.tree_costs_ = []
        if extra["classes"]:
            model.classes_ = np.array(extra["classes"])
        model.federation_ = federation or local_frame(np.zeros((1, 1))).federation
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _for_provider(job: TrainJob, name: str, columns: Columns) -> TrainJob:
    """Address the job to one provider: its own columns and constraints only."""
    signs = columns.monotone.get(name, {})
    return dataclasses.replace(
        job,
        columns=() if columns.use is None else columns.use.get(name, ()),
        monotone=tuple(signs),
        signs=tuple(signs.values()),
    )


class _Costs:
    """Seconds and bytes of every tree."""

    def __init__(self, federation: Federation, costs: list[TreeCost]) -> None:
        self._federation, self._costs = federation, costs
        self.begun = False

    def begin(self) -> None:
        self.begun = True
        self._mark = self._now()

    def _now(self) -> tuple[float, int, int]:
        counts = self._federation.session_counts()
        platform = self._federation.platform
        up = sum(c.bytes for (sender, _, _), c in counts.items() if sender == platform)
        down = sum(c.bytes for (_, recipient, _), c in counts.items() if recipient == platform)
        return time.perf_counter(), up, down

    def tree_done(self, index: int) -> None:
        now = self._now()
        seconds, up, down = (b - a for a, b in zip(self._mark, now, strict=True))
        del self._costs[index:]
        self._costs.append(TreeCost(index, float(seconds), int(up), int(down)))
        self._mark = now


class VerticalGBDTClassifier(ClassifierMixin, _VerticalGBDT):
    """Binary classification by gradient-boosted trees over a federated frame.

    On equal bins and gradients the trees are those of LightGBM on pooled data.

    Parameters
    ----------
    n_estimators : int, default 100
        Trees.
    learning_rate : float, default 0.1
    max_depth : int, default 5
        Levels of splits, at most 8.
    max_bins : int, default 32
        Bins per feature, the missing bin included.
    min_child_samples : int, default 20
        Smallest number of rows in a child; a privacy floor as well.
    min_child_weight : float, default 1e-3
        Smallest sum of hessians in a child.
    min_split_gain, reg_lambda : float, default 0.0
    subsample, colsample_bytree : float, default 1.0
        Share of rows and of features drawn for each tree.
    features : sequence of str, optional
        ``"party.column"`` to use; all by default.
    categorical_features : sequence of str
        Numeric columns of the platform that are categories. Providers declare their own.
    monotone_constraints : mapping of ``"party.column"`` to -1 or 1, optional
    early_stopping_rounds : int, optional
        Stop after so many trees without a smaller validation loss.
    validation_fraction : float, default 0.1
        Share of the rows held out for early stopping.
    hide_membership : bool, default True
        Keep from the providers which rows are in a node. False is faster and shows them.
    precision : {"packed", "exact", "high"}
        Encrypted-sum profile: few-bit gradients, 17-bit gradients, or the larger ring with the
        smallest statistical distance.
    gradient_bits : int, default 8
        Bits of a packed gradient, with stochastic rounding.
    block : int, optional
        Rows per ciphertext; a larger block means fewer bytes and more provider work.
    random_state : int, optional

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
    n_estimators_ : int
        Trees kept.
    feature_importances_ : ndarray
    model_id_ : str
        Names the model at every party.

    Examples
    --------
    >>> import fedcredit as fc
    >>> population = fc.datasets.make_sme_population(2_000, seed=1)
    >>> fed = fc.simulate(platform=population.platform, tax=population.tax)
    >>> frame = fed.align(on="uscc")
    >>> model = fc.VerticalGBDTClassifier(n_estimators=2, max_depth=2, random_state=0)
    >>> model.fit(frame, y="default").n_estimators_
    2
    """

    _objective = "binary"

    def _target(self, y: npt.NDArray[Any]) -> Floats:
        check_classification_targets(y)
        if pd.isna(y).any():
            raise InputError(
                "the label has missing values.", step="train", fix="drop the rows without a label"
            )
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) == 1:
            raise InputError(
                "the classifier can't train when only one class is present.",
                step="train",
                fix="choose rows with and without the event",
            )
        if len(self.classes_) > 2:
            raise InputError(
                "only binary classification is supported. The type of the target is multiclass.",
                step="train",
                fix="merge the classes into two",
            )
        return codes.astype(np.float64)

    def decision_function(self, X: Any) -> Floats:
        """Log odds of the second class; shape (n,)."""
        return self._raw(X)

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of both classes; shape (n, 2)."""
        p = expit(self._raw(X))
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the more probable class of each row."""
        codes = (self._raw(X) > 0).astype(np.int64)
        return self.classes_[codes]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy, as in scikit-learn; ``y`` may name a column of the platform."""
        if isinstance(X, FederatedFrame) and isinstance(y, str):
            y = X.column(y).to_numpy()
        return float(super().score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class VerticalGBDTRegressor(RegressorMixin, _VerticalGBDT):
    """Regression with squared error by gradient-boosted trees over a federated frame.

    Parameters and attributes are those of :class:`VerticalGBDTClassifier`.
    """

    _objective = "regression"

    def _target(self, y: npt.NDArray[Any]) -> Floats:
        try:
            target = y.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError("the target is not numeric.", step="train") from None
        if not np.isfinite(target).all():
            raise InputError(
                "the target has missing or infinite values.",
                step="train",
                fix="drop the rows without a target",
            )
        return target

    def predict(self, X: Any) -> Floats:
        """Return the predicted values; shape (n,)."""
        return self._raw(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R squared, as in scikit-learn; ``y`` may name a column of the platform."""
        if isinstance(X, FederatedFrame) and isinstance(y, str):
            y = X.column(y).to_numpy()
        return float(super().score(X, y, sample_weight))
