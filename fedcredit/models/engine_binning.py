"""A data provider's part in binning: counting events, keeping weights of evidence, using them.

A binning leaves a record of its rules under the id of the job; every release of weights leaves one
more under an id of its own, which no later job can change, so that models keep the weights that
they were trained with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError, PolicyError, ProtocolError
from fedcredit.models.binning_ledger import BinningLedger
from fedcredit.models.columns import ColumnCoder
from fedcredit.protocols.binning import BinnedColumn, binning_provider, count_provider
from fedcredit.protocols.binning_messages import BinJob, CountJob, WoeAck, WoeJob
from fedcredit.stats.bin_rules import BinRule, category_rule, quantile_rule, regroup, user_rule
from fedcredit.stats.woe import Convention
from fedcredit.wire import Peers

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine

__all__ = [
    "KeptColumn",
    "column_names",
    "count_bins",
    "count_events",
    "keep_woe",
    "load_columns",
    "make_rule",
    "own_binning_tables",
    "woe_columns",
]

_KIND = "binner"
_STEP = "binning"
_MAX_PREBINS = 255

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def make_rule(
    coder: ColumnCoder,
    values: Floats,
    *,
    max_bins: int,
    floor: int,
    splits: Sequence[float] | None = None,
    special_codes: Sequence[float] = (),
) -> BinRule:
    """Make the rule of one column, at whichever party holds it.

    Parameters
    ----------
    coder : ColumnCoder
    values : ndarray of float64, shape (n,)
        The column as the coder encodes it.
    max_bins : int
        Largest number of intervals.
    floor : int
        Smallest number of rows in a bin that is not empty.
    splits : sequence of float, optional
        Cut a numeric column here instead of at quantiles.
    special_codes : sequence of float
        Of a numeric column.

    Raises
    ------
    InputError
        Splits or codes for a categorical column, or any of the rules' own.
    """
    if coder.categories is not None:
        if splits is not None or len(special_codes):
            raise InputError(
                f"the column {coder.name!r} is categorical and has no splits or special codes.",
                step=_STEP,
                fix="leave it out of user_splits and special_codes",
            )
        return category_rule(values, len(coder.categories), min_bin_count=floor)
    codes = tuple(float(code) for code in special_codes)
    if splits is not None:
        cuts = np.array(splits, np.float64)
        return user_rule(values, cuts, min_bin_count=floor, special_codes=codes)
    return quantile_rule(values, max_bins=max_bins, min_bin_count=floor, special_codes=codes)


# ------------------------------------------------------------------------------ records


@dataclass
class KeptColumn:
    """One feature in a record: how it is binned, and, once released, its final bins.

    ``place`` has the final bin of every bin of the rule, ``woe`` and ``iv`` one number per final
    bin; ``count`` has the rows per bin of the rule when events were counted.
    """

    label: str
    coder: ColumnCoder
    rule: BinRule
    count: Integers = field(repr=False)
    place: Integers | None = field(default=None, repr=False)
    woe: Floats | None = field(default=None, repr=False)
    iv: Floats | None = field(default=None, repr=False)
    convention: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        arrays = {name: getattr(self, name) for name in ("count", "place", "woe", "iv")}
        return {
            "label": self.label,
            "convention": self.convention,
            "coder": self.coder.to_dict(),
            "rule": self.rule.to_dict(),
            **{name: None if a is None else a.tolist() for name, a in arrays.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KeptColumn:
        """Read what :meth:`to_dict` returned."""

        def numbers(name: str, kind: type[np.generic]) -> Any:
            return None if data[name] is None else np.array(data[name], kind)

        return cls(
            label=data["label"],
            convention=data["convention"],
            coder=ColumnCoder.from_dict(data["coder"]),
            rule=BinRule.from_dict(data["rule"]),
            count=numbers("count", np.int64),
            place=numbers("place", np.int64),
            woe=numbers("woe", np.float64),
            iv=numbers("iv", np.float64),
        )


def _keep(engine: ProviderEngine, key: str, columns: Sequence[KeptColumn]) -> None:
    """Write a record; one that is there already may only be written again as it is."""
    data = json.dumps({"columns": [column.to_dict() for column in columns]}).encode()
    earlier = engine.store.get(_KIND, key)
    if earlier is not None and earlier != data:
        raise ProtocolError(
            "there is another binner with this id.", step=_STEP, fix="bin under a new id"
        )
    engine.store.put(_KIND, key, data)


def load_columns(engine: ProviderEngine, key: str) -> dict[str, KeptColumn]:
    """Read the record of a binner by its id, or by that of its released weights.

    Returns
    -------
    dict of str to KeptColumn
        By label.

    Raises
    ------
    ProtocolError
        There is none.
    """
    data = engine.store.get(_KIND, key)
    if data is None:
        raise ProtocolError(
            "this binner is not known here.",
            step=_STEP,
            fix="bin again or publish again; the party may have lost or cleared its storage",
        )
    columns = [KeptColumn.from_dict(item) for item in json.loads(data)["columns"]]
    return {column.label: column for column in columns}


def _chosen(columns: dict[str, KeptColumn], labels: Sequence[str]) -> list[KeptColumn]:
    unknown = [label for label in labels if label not in columns]
    if unknown or len(set(labels)) != len(labels):
        raise InputError(
            f"the binner has no features {', '.join(unknown)}."
            if unknown
            else "a feature is named twice.",
            step=_STEP,
            fix="use features that were binned",
        )
    return [columns[label] for label in labels]


# ------------------------------------------------------------------------------- handlers


async def count_events(engine: ProviderEngine, peers: Peers, coordinator: str, job: BinJob) -> None:
    """Bin this provider's features and let the platform count events in the bins.

    The pass is in the ledger before the first answer leaves; one that is cut off counts, since
    the labels may be others the next time.
    """
    splits = _per_label(job.split_labels, job.split_starts, job.splits)
    specials = _per_label(job.special_labels, job.special_starts, job.specials)
    if (splits or specials) and not engine.policy.allow_user_splits:
        raise PolicyError(
            "the platform may not choose split points or special codes here.",
            step=_STEP,
            fix="leave the provider's features out of user_splits and special_codes, or ask it to "
            "set allow_user_splits in its policy",
        )
    if not 2 <= job.prebins <= _MAX_PREBINS:
        raise ProtocolError(f"a feature is cut into 2 to {_MAX_PREBINS} bins.", step=_STEP)
    frame = engine.rows(job.frame_id, job.rows)
    offered = list(frame.columns)
    names = engine.chosen(job.columns, offered)
    labels = {name: label for label, name in engine.labels(offered).items()}
    foreign = {*splits, *specials} - {labels[name] for name in names}
    if foreign:
        raise InputError(
            f"split points or special codes name features that are not binned: "
            f"{', '.join(sorted(foreign))}.",
            step=_STEP,
            fix="use the labels in frame.columns",
        )
    engine.permit(names, rows=len(job.rows))
    floor = engine.floor(names)
    columns, binned = [], []
    with engine.only_labels(frame):
        for coder in engine.coders(frame, names):
            label = labels[coder.name]
            values = coder.transform(frame, party=engine.party)
            rule = make_rule(
                coder,
                values,
                max_bins=job.prebins,
                floor=floor,
                splits=splits.get(label),
                special_codes=specials.get(label, ()),
            )
            column = BinnedColumn(label, rule, rule.apply(values))
            binned.append(column)
            columns.append(KeptColumn(label, coder, rule, column.count))
    _ledger(engine, floor).charge(
        {column.label: column.coder.name for column in columns},
        engine.row_ids(job.frame_id, job.rows),
        events=True,
    )
    _keep(engine, job.bin_id, columns)
    await binning_provider(
        peers[coordinator],
        binned,
        n_rows=len(job.rows),
        floor=floor,
        threads=engine.threads,
        on_progress=engine.progress,
    )


def _ledger(engine: ProviderEngine, floor: int) -> BinningLedger:
    return BinningLedger(
        engine.store,
        max_passes=engine.policy.max_binnings_per_feature,
        floor=floor,
    )


def _per_label(
    labels: Sequence[str], starts: npt.NDArray[np.int32], values: Floats
) -> dict[str, list[float]]:
    places = starts.astype(np.int64)
    fits = len(places) == len(labels) + 1 and places[0] == 0 and places[-1] == len(values)
    if not fits or (np.diff(places) < 0).any() or len(set(labels)) != len(labels):
        raise ProtocolError("split points or special codes are malformed.", step=_STEP)
    parts = np.split(values, places[1:-1]) if len(labels) else []
    return {label: part.tolist() for label, part in zip(labels, parts, strict=True)}


async def keep_woe(engine: ProviderEngine, peers: Peers, coordinator: str, job: WoeJob) -> None:
    """Keep the weights of evidence that the platform releases."""
    columns = _chosen(load_columns(engine, job.bin_id), job.labels)
    engine.permit([column.coder.name for column in columns])
    places = _places(columns, job.n_groups, job.group_of)
    total = int(job.n_groups.astype(np.int64).sum())
    if len(job.woe) != total or len(job.iv) != total:
        raise ProtocolError("the weights are not one per bin.", step=_STEP)
    if job.convention not in get_args(Convention):
        raise ProtocolError("the weights' sign has no known meaning.", step=_STEP)
    if not (np.isfinite(job.woe).all() and np.isfinite(job.iv).all()):
        raise ProtocolError("a weight is not a finite number.", step=_STEP)
    start = 0
    for column, place, size in zip(columns, places, job.n_groups.tolist(), strict=True):
        column.place, column.convention = place, job.convention
        column.woe = job.woe[start : start + size].copy()
        column.iv = job.iv[start : start + size].copy()
        start += size
    _keep(engine, job.binner_id, columns)
    await peers[coordinator].send(WoeAck(job.binner_id))


def _places(
    columns: Sequence[KeptColumn],
    n_groups: npt.NDArray[np.int32],
    group_of: npt.NDArray[np.int32],
) -> list[Integers]:
    """Check how bins are merged and return the final bin of each, per feature."""
    sizes = [column.rule.n_bins for column in columns]
    if len(n_groups) != len(columns) or len(group_of) != sum(sizes):
        raise ProtocolError("the groups are not those of the features' bins.", step=_STEP)
    places, start = [], 0
    for column, size, n_final in zip(columns, sizes, n_groups.tolist(), strict=True):
        place = group_of[start : start + size].astype(np.int64)
        start += size
        if not 1 <= n_final <= size or int(place.min()) < 0 or int(place.max()) >= n_final:
            raise ProtocolError("a bin is in a group that is not there.", step=_STEP)
        groups = [np.flatnonzero(place == g).tolist() for g in range(n_final)]
        expected, roles = regroup(column.rule.roles, groups)
        if len(roles) != n_final or not np.array_equal(expected, place):
            raise ProtocolError("groups of bins are out of order.", step=_STEP)
        places.append(place)
    return places


async def count_bins(engine: ProviderEngine, peers: Peers, coordinator: str, job: CountJob) -> None:
    """Count other rows in final bins, without labels."""
    if not job.labels:
        raise ProtocolError("there is nothing to count.", step=_STEP)
    columns = _chosen(load_columns(engine, job.bin_id), job.labels)
    names = [column.coder.name for column in columns]
    engine.permit(names, rows=len(job.rows))
    floor = engine.floor(names)
    places = _places(columns, job.n_groups, job.group_of)
    frame = engine.rows(job.frame_id, job.rows)
    with engine.only_labels(frame):
        counts = [
            np.bincount(place[_bins(engine, column, frame)], minlength=n_final).astype(np.int64)
            for column, place, n_final in zip(columns, places, job.n_groups.tolist(), strict=True)
        ]
    _ledger(engine, floor).charge(
        {column.label: column.coder.name for column in columns},
        engine.row_ids(job.frame_id, job.rows),
        events=False,
    )
    await count_provider(peers[coordinator], counts, floor=floor)


def _bins(engine: ProviderEngine, column: KeptColumn, frame: pd.DataFrame) -> Integers:
    return column.rule.apply(column.coder.transform(frame, party=engine.party))


# ------------------------------------------------------------------------------- use at home


def column_names(engine: ProviderEngine, binner_id: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the table's columns that features of a binner are made of; see :func:`woe_columns`."""
    columns = _chosen(load_columns(engine, binner_id), labels)
    return tuple(column.coder.name for column in columns)


def woe_columns(
    engine: ProviderEngine, binner_id: str, labels: Sequence[str], frame: pd.DataFrame
) -> Floats:
    """Encode rows by released weights of evidence.

    A category that did not occur when the rule was made counts as missing. A missing value where
    none was counted has weight 0.

    Parameters
    ----------
    engine : ProviderEngine
    binner_id : str
        Of a release, as :meth:`VerticalBinner.publish` returns it.
    labels : sequence of str
        The features, in the order of the columns.
    frame : pandas.DataFrame
        This provider's columns, as :meth:`ProviderEngine.rows` returns them.

    Returns
    -------
    ndarray of float64, shape (n, len(labels))

    Raises
    ------
    ProtocolError
        The binner is not known here.
    InputError
        A feature is not in it, or the column is missing or of another type.
    PolicyError
        The platform keeps the weights to itself.
    """
    columns = _chosen(load_columns(engine, binner_id), labels)
    out = np.empty((len(frame), len(columns)))
    with engine.only_labels(frame):
        for j, column in enumerate(columns):
            if column.place is None or column.woe is None:
                raise PolicyError(
                    "the platform has not released weights of evidence of this binner.",
                    step="weights of evidence",
                    fix="publish a VerticalBinner with release_woe=True",
                )
            out[:, j] = column.woe[column.place[_bins(engine, column, frame)]]
    return out


def own_binning_tables(engine: ProviderEngine, binner_id: str) -> dict[str, pd.DataFrame]:
    """Return this provider's bins with their limits, for the owner's eyes only.

    Parameters
    ----------
    engine : ProviderEngine
    binner_id : str
        Of a release, or of a binning whose weights were not released.

    Returns
    -------
    dict of str to pandas.DataFrame
        By column name: Bin, Count and Count (%) of every bin with rows, and WoE and IV if the
        platform has released them; ``attrs["convention"]`` then says what their sign means.

    Raises
    ------
    ProtocolError
        The binner is not known here.
    """
    return {c.coder.name: _own_table(c) for c in load_columns(engine, binner_id).values()}


def _own_table(column: KeptColumn) -> pd.DataFrame:
    rule, count = column.rule, column.count
    if column.place is not None:
        groups = [np.flatnonzero(column.place == g).tolist() for g in range(rule.n_bins)]
        rule = rule.merged(groups)
        count = np.bincount(column.place, weights=count, minlength=rule.n_bins).astype(np.int64)
    table = pd.DataFrame(
        {
            "Bin": rule.describe(column.coder.categories),
            "Count": count,
            "Count (%)": count / count.sum(),
        }
    )
    if column.woe is not None:
        table["WoE"], table["IV"] = column.woe, column.iv
        table.attrs["convention"] = column.convention
    return table[table["Count"] > 0].reset_index(drop=True)
