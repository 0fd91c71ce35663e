"""The sessions of a binner at the platform: counting events, releasing weights, counting rows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encsum_profile import MAX_ROWS
from fedcredit.errors import InputError
from fedcredit.models.binner_tables import BinnedFeature, MergeOptions
from fedcredit.models.columns import fit_coders
from fedcredit.models.engine_binning import make_rule
from fedcredit.models.federation import Federation
from fedcredit.models.fitting import JobRows
from fedcredit.models.frame import FederatedFrame
from fedcredit.protocols.binning import (
    BinnedColumn,
    FeatureCounts,
    binning_label_holder,
    count_label_holder,
    woe_label_holder,
)
from fedcredit.protocols.binning_messages import BinJob, CountJob, WoeJob
from fedcredit.wire import Peers

__all__ = ["BinningJob", "count_rows", "release_woe"]

_STEP = "binning"
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BinningJob:
    """Everything that determines which counts a binner is made of.

    Attributes
    ----------
    rows : JobRows
    y : ndarray of int64, shape (n,)
        1 for an event, else 0.
    use : dict of str to tuple of str, or None
        Labels per party; None for all.
    exclude : tuple of str
        Columns of the platform that are no features.
    categorical : tuple of str
        Columns of the platform that are categories whatever their type.
    prebins : int
    splits, special_codes : dict of str to dict of str to tuple of float
        Per party and label.
    options : MergeOptions
    trends : dict of str to dict of str to str
        Per party and label, where it is not ``trend``.
    trend : str
    """

    rows: JobRows
    y: Integers = field(repr=False)
    use: Mapping[str, tuple[str, ...]] | None
    exclude: tuple[str, ...]
    categorical: tuple[str, ...]
    prebins: int
    splits: Mapping[str, Mapping[str, tuple[float, ...]]]
    special_codes: Mapping[str, Mapping[str, tuple[float, ...]]]
    options: MergeOptions
    trends: Mapping[str, Mapping[str, str]]
    trend: str

    @property
    def frame(self) -> FederatedFrame:
        """The rows, in the order of the alignment."""
        return self.rows.frame

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that have a feature."""
        return tuple(p for p in self.frame.providers if self.use is None or p in self.use)

    def run(self) -> tuple[str, list[BinnedFeature]]:
        """Count, in one session with all providers at a time, and merge.

        Returns
        -------
        bin_id : str
            Names the binning at the providers; empty without providers.
        features : list of BinnedFeature
            The platform's first.
        """
        own = self._own_features()
        federation = self.frame.federation
        if not self.providers:
            return "", own
        if len(self.y) > MAX_ROWS:
            # Found out before a provider has entered the pass in its ledger.
            raise InputError(
                f"events are counted over at most {MAX_ROWS} rows.",
                step=_STEP,
                fix="fit on a sample of the rows",
            )

        async def role(peers: Peers) -> tuple[str, dict[str, list[FeatureCounts]]]:
            # A session that is opened anew is a new binning to the providers.
            bin_id = secrets.token_hex(8)
            return bin_id, await binning_label_holder(
                peers,
                {name: self._message(bin_id, name) for name in peers},
                self.y,
                on_progress=federation.on_progress,
            )

        bin_id, counted = federation.run(
            role, providers=self.providers, job=f"bin-{secrets.token_hex(8)}", phase="bin"
        )
        theirs = [
            self._feature(party, counts) for party in self.providers for counts in counted[party]
        ]
        return bin_id, own + theirs

    def _feature(self, party: str, counts: FeatureCounts, **own: Any) -> BinnedFeature:
        return BinnedFeature.of(
            party,
            counts,
            self.options,
            trend=self.trends.get(party, {}).get(counts.label, self.trend),
            keep_bins=counts.label in self.splits.get(party, {}),
            **own,
        )

    def _own_features(self) -> list[BinnedFeature]:
        party = self.frame.federation.platform
        table = self.frame.platform
        coders = fit_coders(
            table,
            party=party,
            exclude=self.exclude,
            features=None if self.use is None else self.use.get(party, ()),
            categorical=self.categorical,
        )
        splits, specials = self.splits.get(party, {}), self.special_codes.get(party, {})
        features = []
        for coder in coders:
            values = coder.transform(table, party=party)
            try:
                rule = make_rule(
                    coder,
                    values,
                    max_bins=self.prebins,
                    floor=1,
                    splits=splits.get(coder.name),
                    special_codes=specials.get(coder.name, ()),
                )
            except InputError as error:
                error.at(party=party)
                raise
            column = BinnedColumn(coder.name, rule, rule.apply(values))
            counts = FeatureCounts.of(column, self.y)
            features.append(self._feature(party, counts, coder=coder, rule=rule))
        return features

    def _message(self, bin_id: str, party: str) -> BinJob:
        split_starts, splits = _flat(self.splits.get(party, {}))
        special_starts, specials = _flat(self.special_codes.get(party, {}))
        return BinJob(
            bin_id=bin_id,
            frame_id=self.frame.frame_id,
            rows=self.frame.rows,
            prebins=self.prebins,
            columns=() if self.use is None else self.use.get(party, ()),
            split_labels=tuple(self.splits.get(party, {})),
            split_starts=split_starts,
            splits=splits,
            special_labels=tuple(self.special_codes.get(party, {})),
            special_starts=special_starts,
            specials=specials,
        )


def _flat(
    values: Mapping[str, Sequence[float]],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    starts = np.cumsum([0, *(len(part) for part in values.values())]).astype(np.int32)
    return starts, np.array([value for part in values.values() for value in part], np.float64)


def _grouped(
    features: Sequence[BinnedFeature],
) -> tuple[tuple[str, ...], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return labels, numbers of final bins and the final bin of every counted one."""
    places = [feature.places() for feature in features]
    return (
        tuple(feature.label for feature in features),
        np.array([len(roles) for _, roles in places], np.int32),
        np.concatenate([place for place, _ in places]).astype(np.int32),
    )


def _by_party(features: Sequence[BinnedFeature]) -> dict[str, list[BinnedFeature]]:
    out: dict[str, list[BinnedFeature]] = {}
    for feature in features:
        out.setdefault(feature.party, []).append(feature)
    return out


def release_woe(
    federation: Federation,
    bin_id: str,
    binner_id: str,
    features: Sequence[BinnedFeature],
    options: MergeOptions,
) -> None:
    """Send each provider the groups and weights of its own features."""
    mine = _by_party(features)

    def message(party: str) -> WoeJob:
        labels, n_groups, group_of = _grouped(mine[party])
        tables = [feature.woe(options) for feature in mine[party]]
        return WoeJob(
            bin_id=bin_id,
            binner_id=binner_id,
            convention=options.convention,
            labels=labels,
            n_groups=n_groups,
            group_of=group_of,
            woe=np.concatenate([table.woe for table in tables]),
            iv=np.concatenate([table.iv for table in tables]),
        )

    async def role(peers: Peers) -> None:
        await woe_label_holder(peers, {name: message(name) for name in peers})

    federation.run(role, providers=tuple(mine), job=f"woe-{binner_id}", phase="publish")


def count_rows(
    frame: FederatedFrame, bin_id: str, features: Sequence[BinnedFeature]
) -> list[Integers]:
    """Count a frame's rows in the final bins of the features of all parties.

    Returns
    -------
    list of ndarray of int64
        Rows per final bin of every feature, in the order given. A provider's bins below its floor
        are -1, and one more number at the end has their rows together.
    """
    federation = frame.federation
    party = federation.platform
    rows = np.unique(frame.rows)
    if len(rows) != len(frame):
        raise InputError(
            "a row occurs twice.", step="stability", fix="count over a frame of distinct rows"
        )
    theirs = _by_party([feature for feature in features if feature.party != party])
    if theirs and not bin_id:
        raise InputError("this binner has no providers.", step="stability", fix="fit it again")
    counted: dict[str, list[tuple[Integers, int]]] = {}
    if theirs:

        def message(name: str) -> CountJob:
            labels, n_groups, group_of = _grouped(theirs[name])
            return CountJob(
                bin_id=bin_id,
                frame_id=frame.frame_id,
                rows=rows,
                labels=labels,
                n_groups=n_groups,
                group_of=group_of,
            )

        async def role(peers: Peers) -> dict[str, list[tuple[Integers, int]]]:
            return await count_label_holder(peers, {name: message(name) for name in peers})

        counted = federation.run(
            role, providers=tuple(theirs), job=f"count-{secrets.token_hex(8)}", phase="count"
        )
    table = frame.platform
    queues = {name: iter(parts) for name, parts in counted.items()}
    out = []
    for feature in features:
        if feature.party == party:
            assert feature.coder is not None
            assert feature.rule is not None
            place, roles = feature.places()
            bins = place[feature.rule.apply(feature.coder.transform(table, party=party))]
            out.append(np.bincount(bins, minlength=len(roles)).astype(np.int64))
        else:
            counts, small = next(queues[feature.party])
            out.append(np.append(counts, small))
    return out
