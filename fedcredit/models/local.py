"""Frames of one party: what an estimator makes of plain arrays and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fedcredit.models.backend import InProcessBackend
from fedcredit.models.columns import to_pandas
from fedcredit.models.federation import Federation
from fedcredit.models.frame import FederatedFrame

__all__ = ["PLATFORM", "local_frame"]

PLATFORM = "platform"


def local_frame(table: Any) -> FederatedFrame:
    """Return a frame of a single party's table, in its own order.

    Parameters
    ----------
    table : pandas.DataFrame, Arrow table, or array of shape (n, k)
    """
    if isinstance(table, np.ndarray):
        table = pd.DataFrame(table, columns=[f"x{i}" for i in range(table.shape[1])])
    frame = to_pandas(table, party=PLATFORM)
    federation = Federation(InProcessBackend(PLATFORM, {}), frame)
    return FederatedFrame(
        federation,
        frame_id="local",
        key="",
        order=np.arange(len(frame), dtype=np.int64),
        providers=(),
    )
