"""Fitting, scoring, inspecting and storing a forest over a federated frame."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import InputError
from fedcredit.models.at_rest import (
    check_class,
    describe,
    json_able,
    read_bytes,
    reading_model,
    restore,
    write_bytes,
)
from fedcredit.models.federation import Federation
from fedcredit.models.fitting import (
    OwnFeatures,
    choose_columns,
    choose_rows,
    fit_own,
    label_columns,
    label_data,
    with_rows,
)
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.gbdt_job import ForestJob, interrupted_seed
from fedcredit.models.gbdt_params import forest_params
from fedcredit.models.local import checked_table, checked_training, local_frame
from fedcredit.models.report import Summary, TrainingReport
from fedcredit.models.shares import StoredForest
from fedcredit.protocols.gbdt_messages import PredictJob
from fedcredit.protocols.gbdt_predict import predict_label_holder
from fedcredit.wire import Peers

__all__ = ["BaseVerticalGBDT"]

Floats = npt.NDArray[np.float64]


class BaseVerticalGBDT(BaseEstimator):
    """What the classifier and the regressor share; see :mod:`fedcredit.models.gbdt`."""

    _objective = "binary"

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        learning_rate: float = 0.1,
        max_depth: int = 5,
        max_bins: int = 32,
        min_child_samples: int = 20,
        min_child_rows: int = 10,
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
        backend: str = "bfv",
        gradient_bits: int = 8,
        block: int | None = None,
        mbit_per_second: float = 1000.0,
        random_state: int | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.max_bins = max_bins
        self.min_child_samples = min_child_samples
        self.min_child_rows = min_child_rows
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
        self.backend = backend
        self.gradient_bits = gradient_bits
        self.block = block
        self.mbit_per_second = mbit_per_second
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
            a share of ``X``. Bins are cut on training and validation rows together.
        resume : str, optional
            ``model_id_`` of an interrupted fit on the same frame with the same arguments. A seed
            that was drawn then (``random_state=None``) is used again.

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
        self.__dict__.pop("state_", None)
        if isinstance(X, FederatedFrame):
            frame = X
            self.__dict__.pop("feature_names_in_", None)
        else:
            table, y = checked_training(self, X, y, numeric=self._objective == "regression")
            frame = local_frame(table)
        store = frame.federation.store
        params = forest_params(self, interrupted_seed(store, resume) if resume else None)
        rows = choose_rows(
            frame,
            y,
            sample_weight,
            validation,
            fraction=self.validation_fraction if params.early_stopping_rounds else None,
            stratify=self._objective == "binary",
            seed=params.seed,
        )
        target = self._target(rows.y)
        columns = choose_columns(frame, self.features, self.monotone_constraints)
        exclude = label_columns(rows, y, sample_weight) if frame is X else ()
        own = fit_own(
            rows,
            columns,
            exclude=exclude,
            categorical=self.categorical_features,
            max_bins=self.max_bins,
        )
        job = ForestJob(
            rows, label_data(rows, own, columns, target), own, columns, params, self.max_bins
        )
        self.model_id_ = resume or secrets.token_hex(8)
        job.begin(self.model_id_, resume=resume is not None)
        training = job.train(self.model_id_)
        self.pooled_, self.tree_costs_, self.plan_ = training.pooled, training.trees, training.plan
        if frame is X:
            self.n_features_in_ = len(frame.columns) - len(exclude)
        self.federation_, self.platform_ = frame.federation, frame.federation.platform
        self.own_, self.providers_ = own, job.providers
        self.params_ = dataclasses.replace(params, block=training.block)
        self.target_ = y if isinstance(y, str) else "y"
        self.train_rows_ = rows
        self.n_estimators_ = len(training.state.trees)
        self.state_ = training.state
        job.finish(self.model_id_, self._stored().to_bytes())
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "state_")

    def _target(self, y: npt.NDArray[Any]) -> Floats:
        raise NotImplementedError

    # ------------------------------------------------------------------- prediction

    def _raw(self, X: Any) -> Floats:
        check_is_fitted(self)
        frame = X if isinstance(X, FederatedFrame) else self._own_frame(X)
        if not len(frame):
            raise InputError(
                "the frame has no rows.", step="predict", fix="choose at least one row"
            )
        used = [name for name in self.providers_ if self._serves(name)]
        missing = sorted(set(used) - set(frame.providers))
        if missing:
            raise InputError(
                f"the frame lacks the providers {', '.join(missing)}.",
                step="predict",
                fix="align with every provider that the model was trained with",
            )
        rows, back = np.unique(frame.rows, return_inverse=True)
        federation = frame.federation
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

        score = federation.run(
            role, providers=used, job=f"predict-{self.model_id_}", phase="predict"
        )
        return score[back]

    def _own_frame(self, X: Any) -> FederatedFrame:
        """Return the frame of a plain table, which holds one party's columns only."""
        if self.providers_:
            raise InputError(
                "this model needs the columns of other parties.",
                step="predict",
                fix="pass a federated frame",
            )
        return local_frame(checked_table(self, X, reset=False))

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
        check_is_fitted(self)
        platform = self.platform_
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
        platform = self.platform_
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

        check_is_fitted(self)
        if not hasattr(self, "federation_"):
            raise InputError(
                "this copy of the model knows no federation.",
                step="report",
                fix="load it with load(path, federation)",
            )
        return build_report(self, test, **options)

    def summary(self) -> Summary:
        """Tables about the model and its training, for terminals and notebooks."""
        return self.report().summary()

    # --------------------------------------------------------------------- at rest

    def _stored(self) -> StoredForest:
        extra = {
            **describe(self),
            "arguments": json_able(self.get_params(deep=False)),
            "own": self.own_.to_dict(),
            "providers": list(self.providers_),
            "platform": self.platform_,
            "model_id": self.model_id_,
            "target": self.target_,
        }
        return StoredForest.of(self.state_, self.pooled_, extra)

    def fingerprint(self) -> str:
        """SHA-256 over what determines the scores at the platform, in hexadecimal.

        Trees, bins and classes; not the model's name, arguments or losses. The same tables, seed
        and parameters give the same fingerprint in every alignment and in both membership modes.
        """
        check_is_fitted(self)
        header = json.loads(self._stored().header)
        scoring = {name: header[name] for name in ("trees", "init_score", "pooled")}
        scoring |= {name: header["extra"][name] for name in ("estimator", "own", "classes")}
        return hashlib.sha256(json.dumps(scoring, sort_keys=True).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the platform's share of the model; every provider keeps its own.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        check_is_fitted(self)
        write_bytes(path, self._stored().to_bytes(), step="save model")

    @classmethod
    def load(cls, source: str | Path | bytes, federation: Federation | None = None) -> Self:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        source : path or bytes
        federation : Federation, optional
            Whose providers hold the other shares; only reports need it.

        Raises
        ------
        InputError
            The file is not a model of this class.
        StorageError
            The file cannot be read.
        """
        data = read_bytes(source, step="load model")
        state, pooled, extra = StoredForest.read(data).unpack()
        check_class(cls, extra.get("estimator"), step="load model")
        with reading_model():
            model = cls(**extra["arguments"])
            model.pooled_ = pooled
            model.own_ = OwnFeatures.from_dict(extra["own"])
            model.providers_ = tuple(extra["providers"])
            model.platform_ = str(extra["platform"])
            model.model_id_ = str(extra["model_id"])
            model.target_ = str(extra["target"])
            restore(model, extra)
            model.params_ = forest_params(model)
        model.n_estimators_ = len(state.trees)
        model.tree_costs_, model.plan_ = [], []
        if federation is not None:
            model.federation_ = federation
        model.state_ = state
        return model

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold the model, not the tables and rows that it was trained on.
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("federation_", None)
        state.pop("train_rows_", None)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
