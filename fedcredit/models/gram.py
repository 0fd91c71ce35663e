"""Correlations of the columns of all parties, as the platform sees them."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fedcredit.errors import InputError
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.fitting import JobRows, with_rows
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.linear_jobs import GramJob, LinearColumns
from fedcredit.models.logistic_data import OwnColumns, choose
from fedcredit.protocols.encrypted_sums import SumClient
from fedcredit.protocols.gram import gram_label_holder, gram_profile
from fedcredit.wire import Peers

__all__ = ["correlations"]

_STEP = "correlations"


def correlations(
    frame: FederatedFrame,
    binner: VerticalBinner | None = None,
    features: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the Pearson correlations of columns of all parties over the rows of a frame.

    Parameters
    ----------
    frame : FederatedFrame
    binner : VerticalBinner, optional
        Fitted: correlations are those of its weights of evidence. Without one, columns must be
        numeric and complete.
    features : sequence of str, optional
        ``party.column``; all by default, hence also the label.

    Returns
    -------
    pandas.DataFrame, shape (D, D)
        Symmetric, by ``party.label``, the platform's first; entries between parties are off by up
        to about 1e-4.

    Raises
    ------
    InputError
        A name is unknown, or a column is constant, categorical or incomplete.
    PolicyError
        A provider does not release correlations.
    """
    rows = np.sort(frame.rows)
    if len(rows) < 2 or (rows[1:] == rows[:-1]).any():
        raise InputError(
            "correlations need at least two rows, each of them once.",
            step=_STEP,
            fix="choose distinct rows",
        )
    frame = with_rows(frame, rows)
    federation = frame.federation
    chosen = choose(frame, features=features, signs=None, exclude=(), binner=binner)
    none = np.zeros(0)
    own = OwnColumns.of(
        JobRows(frame, none.astype(np.bool_), none, None),
        chosen.own,
        binner=binner,
        clip_quantile=0.0,
        dependent=True,
    )
    matrix = own.matrix - own.matrix.mean(axis=0)
    matrix /= np.sqrt((matrix**2).mean(axis=0))
    names = [f"{federation.platform}.{label}" for label in own.labels]
    if not chosen.providers:
        return _frame(matrix.T @ matrix / len(matrix), names)
    binner_id = "" if binner is None else binner.publish()

    async def role(peers: Peers) -> tuple[np.ndarray, list[str]]:
        job = GramJob(
            frame_id=frame.frame_id,
            rows=rows,
            salt=secrets.token_bytes(32),
            participants=tuple(peers),
            columns=(),
            binner_id=binner_id,
            own_columns=matrix.shape[1],
        )
        for name, peer in peers.items():
            await peer.send(dataclasses.replace(job, columns=chosen.providers[name]))
        answers = await peers.gather(LinearColumns)
        client = SumClient(gram_profile(len(rows)))
        await client.open(peers)
        sizes = [len(answers[name].labels) for name in peers]
        gram = await gram_label_holder(
            peers, client, matrix, None, sizes, on_progress=federation.on_progress
        )
        return gram, [f"{name}.{label}" for name in peers for label in answers[name].labels]

    gram, theirs = federation.run(
        role, providers=tuple(chosen.providers), job=f"gram-{frame.frame_id}", phase=_STEP
    )
    return _frame(gram / len(rows), names + theirs)


def _frame(gram: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    size = np.sqrt(np.diagonal(gram))
    values = np.clip(gram / np.outer(size, size), -1.0, 1.0)
    np.fill_diagonal(values, 1.0)
    return pd.DataFrame(values, index=list(names), columns=list(names))
