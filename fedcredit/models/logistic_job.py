"""One joint logistic regression at the platform: its sessions for fitting and for scoring."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedcredit.models.federation import Federation
from fedcredit.models.fitting import JobRows
from fedcredit.models.linear_jobs import (
    LinearColumns,
    LinearJob,
    LinearScoreJob,
    LinearStart,
    LinearUnits,
    session_of,
)
from fedcredit.protocols.logistic import logistic_label_holder
from fedcredit.protocols.logistic_types import LogisticData, LogisticOutcome, LogisticParams
from fedcredit.protocols.predictor import predictor_label_holder
from fedcredit.wire import Peers

__all__ = ["MODEL", "JointFit", "LogisticJob", "provider_parts"]

#: Kind under which a store holds finished models.
MODEL = "model"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JointFit:
    """What a fit leaves at the platform.

    Attributes
    ----------
    outcome : LogisticOutcome
    labels : dict of provider to tuple of str
        Its columns, in their order.
    units : dict of provider to LinearUnits
    """

    outcome: LogisticOutcome
    labels: dict[str, tuple[str, ...]]
    units: dict[str, LinearUnits]


@dataclass(frozen=True, eq=False)
class LogisticJob:
    """Everything that determines a fit but the providers' columns.

    Attributes
    ----------
    rows : JobRows
    data : LogisticData
    columns : dict of provider to tuple of str
        The labels to use; empty for all.
    signs : dict of provider to dict of str to int
    params : LogisticParams
    binner_id : str
        Empty for raw columns.
    clip_quantile : float
    """

    rows: JobRows
    data: LogisticData = field(repr=False)
    columns: dict[str, tuple[str, ...]]
    signs: dict[str, dict[str, int]]
    params: LogisticParams
    binner_id: str
    clip_quantile: float

    @property
    def federation(self) -> Federation:
        """The federation of the job's rows."""
        return self.rows.frame.federation

    def run(self, model_id: str) -> JointFit:
        """Fit.

        A backend that opens the session anew makes the role again: the fit then starts over, with
        fresh masks, and the providers' accounts of reveals go on.

        Raises
        ------
        FedCreditError
            With party and step.
        """
        federation = self.federation

        async def role(peers: Peers) -> JointFit:
            job = self._message(model_id, tuple(peers))
            for name, peer in peers.items():
                await peer.send(self._addressed(job, name))
            answers = await peers.gather(LinearColumns)
            labels = {name: tuple(answers[name].labels) for name in peers}
            sizes = {name: len(columns) for name, columns in labels.items()}
            left = min(answer.reveals_left for answer in answers.values())
            allowed = min(self.params.reveals_allowed(sizes), left)
            await peers.broadcast(LinearStart(allowed))
            outcome = await logistic_label_holder(
                peers,
                self.data,
                dataclasses.replace(self.params, max_reveals=allowed),
                sizes,
                salt=session_of(job, also=[job.binner_id]),
                on_progress=federation.on_progress,
            )
            return JointFit(outcome, labels, await peers.gather(LinearUnits))

        return federation.run(
            role, providers=tuple(self.columns), job=f"regress-{model_id}", phase="train"
        )

    def _message(self, model_id: str, participants: tuple[str, ...]) -> LinearJob:
        return LinearJob(
            model_id=model_id,
            frame_id=self.rows.frame.frame_id,
            rows=self.rows.frame.rows,
            salt=secrets.token_bytes(32),
            participants=participants,
            columns=(),
            signed=(),
            signs=(),
            binner_id=self.binner_id,
            clip_quantile=self.clip_quantile,
            C=self.params.C,
            l1_ratio=self.params.l1_ratio,
            reveal_predictor=self.params.reveal_predictor,
            polish_steps=self.params.polish_steps,
            tol=self.params.tol,
            max_iter=self.params.max_iter,
        )

    def _addressed(self, job: LinearJob, name: str) -> LinearJob:
        """Return the job for one provider: its own columns and constraints only."""
        signs = self.signs.get(name, {})
        return dataclasses.replace(
            job, columns=self.columns[name], signed=tuple(signs), signs=tuple(signs.values())
        )


def provider_parts(
    federation: Federation,
    *,
    model_id: str,
    frame_id: str,
    rows: npt.NDArray[np.uint32],
    providers: Sequence[str],
) -> Floats:
    """Return the sum of the providers' parts of a model's log odds, shape (n,).

    It is one reveal for each of these rows, unless the same model was shown for them before.

    Parameters
    ----------
    federation : Federation
    model_id, frame_id : str
    rows : ndarray of uint32, shape (n,)
        Strictly ascending positions in the aligned order.
    providers : sequence of str
        All of the model's.

    Raises
    ------
    BudgetError
        A provider's limit of revealed predictors is reached.
    FedCreditError
        A provider refuses, or cannot be reached.
    """

    async def role(peers: Peers) -> Floats:
        await peers.broadcast(
            LinearScoreJob(model_id, frame_id, rows, secrets.token_bytes(32), tuple(providers))
        )
        return await predictor_label_holder(peers, len(rows))

    return federation.run(role, providers=providers, job=f"predict-{model_id}", phase="predict")
