"""A fitted logistic regression at the platform: scoring, inspecting and storing it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

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
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.federation import Federation
from fedcredit.models.fitting import with_rows
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.linear_share import LinearShare, StoredLinear
from fedcredit.models.local import checked_table, local_frame
from fedcredit.models.logistic_job import provider_parts
from fedcredit.stats.glm import wald

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedcredit.models.report import Summary

__all__ = ["TRACE", "FittedLogistic"]

Floats = npt.NDArray[np.float64]
#: Columns of a trace.
TRACE = ["iteration", "gradient_norm", "step", "phase", "revealed"]


class FittedLogistic(BaseEstimator):
    """What can be done with a fitted model; see :mod:`fedcredit.models.logistic`."""

    binner: VerticalBinner | None
    classes_: npt.NDArray[Any]
    train_rows_: npt.NDArray[np.uint32]

    def _adopt(self, share: LinearShare) -> None:
        """Set what can be read off the share."""
        self.platform_, self.providers_ = share.platform, tuple(share.labels)
        self.feature_labels_ = share.names
        self.coef_, self.intercept_ = share.coef[None, :], np.array([share.intercept])
        self.covariance_ = share.covariance
        self.share_ = share

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "share_")

    # ------------------------------------------------------------------- prediction

    def decision_function(self, X: Any) -> Floats:
        """Log odds of the second class; shape (n,).

        The platform gets the sum of the providers' parts for these rows. It counts in their
        budgets once per row and model: rows that were scored before, and training rows if the fit
        revealed their final predictor, are free. Unless their policies allow exact predictors,
        providers round their parts at random to multiples of 1/32.

        Raises
        ------
        InputError
            A provider of the model, or a column, is missing.
        BudgetError
            A provider's limit of revealed predictors is reached.
        """
        check_is_fitted(self)
        frame = X if isinstance(X, FederatedFrame) else self._own_frame(X)
        if not len(frame):
            raise InputError(
                "the frame has no rows.", step="predict", fix="choose at least one row"
            )
        missing = sorted(set(self.providers_) - set(frame.providers))
        if missing:
            raise InputError(
                f"the frame lacks the providers {', '.join(missing)}.",
                step="predict",
                fix="align with every provider that the model was trained with",
            )
        rows, back = np.unique(frame.rows, return_inverse=True)
        known = self._known(frame.frame_id, rows)
        if known is not None:
            return known[back]
        score = self._own_part(with_rows(frame, rows)) + self.share_.constant
        if self.providers_:
            score = score + provider_parts(
                frame.federation,
                model_id=self.model_id_,
                frame_id=frame.frame_id,
                rows=rows,
                providers=self.providers_,
            )
        return score[back]

    def _known(self, frame_id: str, rows: npt.NDArray[np.uint32]) -> Floats | None:
        """Return the log odds of training rows, if the fit revealed them."""
        if frame_id != self.frame_id_ or not len(self.train_rows_):
            return None
        places = np.minimum(np.searchsorted(self.train_rows_, rows), len(self.train_rows_) - 1)
        if (self.train_rows_[places] != rows).any():
            return None
        return self.train_predictor_[places]

    def _own_part(self, frame: FederatedFrame) -> Floats:
        share = self.share_
        if self.binner_ is not None:
            names = [f"{share.platform}.{label}" for label in share.own_labels]
            columns = self.binner_.transform_own(frame, names)[names].to_numpy(np.float64)
        else:
            assert share.numeric is not None
            columns = share.numeric.matrix(frame.platform, party=frame.federation.platform)
        part: Floats = columns @ share.weights
        return part

    def _own_frame(self, X: Any) -> FederatedFrame:
        """Return the frame of a plain table, which holds one party's columns only."""
        if self.providers_:
            raise InputError(
                "this model needs the columns of other parties.",
                step="predict",
                fix="pass a federated frame",
            )
        return local_frame(checked_table(self, X, reset=False))

    # ------------------------------------------------------------------- inspection

    def coefficient_table(self, level: float = 0.95) -> pd.DataFrame:
        """Return coefficients with their Wald statistics, the intercept last.

        Parameters
        ----------
        level : float
            Of the confidence interval.

        Returns
        -------
        pandas.DataFrame
            Indexed by ``party.label``: party, feature, coefficient, standard error, z, p-value,
            lower, upper; NaN where a provider keeps its coefficients to itself, or where no
            exact step was made.

        Notes
        -----
        After a penalised fit the standard errors are those of the penalised information (ridge),
        or take the chosen columns as given (lasso).
        """
        check_is_fitted(self)
        share = self.share_
        coef = np.append(share.coef, share.intercept)
        table = wald(coef, np.diag(share.standard_error**2), level)
        labels = [name.partition(".")[2] for name in share.names]
        return pd.DataFrame(
            {
                "party": [*share.parties, share.platform],
                "feature": [*labels, "intercept"],
                "coefficient": coef,
                "standard error": share.standard_error,
                "z": table.z,
                "p-value": table.p_value,
                "lower": table.lower,
                "upper": table.upper,
            },
            index=pd.Index([*share.names, "intercept"], name="name"),
        )

    def summary(self) -> Summary:
        """Tables about the model, for terminals and notebooks."""
        from fedcredit.models.logistic_summary import LogisticSummary

        check_is_fitted(self)
        return LogisticSummary(self)

    def plot_trace(self) -> Figure:
        """Draw the norm of the gradient per iteration, by phase.

        Raises
        ------
        InputError
            The model is of one party, and was fitted without iterations to show.
        """
        from fedcredit.models.logistic_summary import plot_trace

        check_is_fitted(self)
        return plot_trace(self.trace_)

    # --------------------------------------------------------------------- at rest

    def _stored(self) -> StoredLinear:
        arguments = self.get_params(deep=False)
        has_binner = arguments.pop("binner") is not None
        extra = {
            **describe(self),
            "arguments": json_able(arguments),
            "has_binner": has_binner,
            "model_id": self.model_id_,
            "frame_id": self.frame_id_,
            "target": self.target_,
            "n_iter": self.n_iter_,
            "converged": self.converged_,
            "revealed": self.revealed_,
            "trace": self.trace_.to_dict("list"),
        }
        return StoredLinear.of(
            self.share_,
            extra,
            binner=b"" if self.binner_ is None else self.binner_.to_bytes(),
            rows=self.train_rows_,
            predictor=self.train_predictor_,
        )

    def fingerprint(self) -> str:
        """SHA-256 over what determines the scores, in hexadecimal.

        The platform's coefficients, columns and classes, and the model's name at the providers.
        """
        check_is_fitted(self)
        share = self.share_
        parts = (
            type(self).__name__,
            self.model_id_ if self.providers_ else "",
            share.names,
            share.numeric and share.numeric.to_dict(),
            share.weights.tolist(),
            share.constant,
            [str(value) for value in self.classes_],
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

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
            Whose providers hold the other shares.

        Raises
        ------
        InputError
            The file is not a model of this class.
        StorageError
            The file cannot be read.
        """
        stored = StoredLinear.read(read_bytes(source, step="load model"))
        share, extra = stored.unpack()
        check_class(cls, extra.get("estimator"), step="load model")
        binner = stored.binner.tobytes()
        with reading_model():
            model = cls(**extra["arguments"])
            model.binner_ = VerticalBinner.load(binner, federation) if binner else None
            if extra["has_binner"]:
                model.binner = model.binner_
            model.model_id_, model.frame_id_ = str(extra["model_id"]), str(extra["frame_id"])
            model.target_ = str(extra["target"])
            restore(model, extra)
            model.n_iter_, model.converged_ = int(extra["n_iter"]), bool(extra["converged"])
            model.revealed_ = int(extra["revealed"])
            model.trace_ = pd.DataFrame(extra["trace"], columns=TRACE)
        model.train_rows_ = np.array(stored.rows)
        model.train_predictor_ = np.array(stored.predictor)
        if federation is not None:
            model.federation_ = federation
        model._adopt(share)
        return model

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold the model, not the tables that it was trained on.
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("federation_", None)
        return state
