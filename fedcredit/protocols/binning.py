"""Joint binning: events per bin of the providers' features, for weights of evidence.

Every provider bins its own features without labels; the label holder's encrypted labels are summed
over the rows of each bin by :mod:`~fedcredit.protocols.encrypted_sums`. What becomes of the counts
(merging, trends, weights of evidence) is the label holder's own computation::

    label holder                                           each provider
      BinJob{rows, features, fineness}          ------->
                                                             checks its policy, writes its ledger
                                                <-------   BinFeatures{roles and rows per bin}
      keys, encrypted labels (one vector)       ------->
                                                <-------   encrypted sums per bin

      WoeJob{groups of bins, weights}           ------->   (optional)
                                                <-------   WoeAck

      CountJob{other rows, groups of bins}      ------->   (optional)
                                                <-------   GroupCounts{rows per final bin}

What each role learns, beside the sub-protocol's table:

=============  ==========================================================================
role           learns
=============  ==========================================================================
label holder   per feature of a provider: its label (a number unless the provider releases
               names), whether it is constant, the role of every bin (interval, category,
               special code, missing), the number of rows and the number of events in it;
               never where an interval begins, a category's name or in which bin a row is.
               Every bin holds no row or at least the provider's floor. Of other rows: how
               many are in each final bin, those of bins below the floor together
provider       the aligned rows of the job; nothing about the labels, until the label
               holder releases weights of evidence: these give the provider the event rate
               of each of its final bins
=============  ==========================================================================

A label holder that encrypts ``2^i`` instead of 0 or 1 reads from a bin's sum which of those rows
are in it. The plain modulus is therefore the smallest above the number of rows, which a provider
checks: a pass gives the bins of ``log2(n) + 1`` rows this way, and however the labels are coded a
sum carries no more than that many bits. How often a feature is counted is limited by the caller's
ledger; so are row sets that, with earlier ones, would single out the bins of a few rows.

Sources: Siddiqi, *Credit Risk Scorecards*, 2006 (weights of evidence); Huang et al., "Cheetah",
USENIX Security 2022, and Lu et al., "Squirrel", USENIX Security 2023 (the sums).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encsum_keyholder import check_totals
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.errors import CiphertextError, InputError, PeerProtocolError
from fedcredit.protocols.binning_messages import (
    BinFeatures,
    BinJob,
    CountJob,
    GroupCounts,
    WoeAck,
    WoeJob,
)
from fedcredit.protocols.blame import blamed_on
from fedcredit.protocols.encrypted_sums import SumClient, SumServer
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.stats.bin_rules import BinRule
from fedcredit.wire import Peer, Peers

__all__ = [
    "CONSTANT",
    "EMPTY",
    "USABLE",
    "BinnedColumn",
    "FeatureCounts",
    "binning_label_holder",
    "binning_provider",
    "count_label_holder",
    "count_provider",
    "woe_label_holder",
]

_STEP = "count events"
IntArray = npt.NDArray[np.int64]

USABLE, CONSTANT, EMPTY = "usable", "constant", "all missing"
#: What a feature can be for binning; `CONSTANT` also where the floor leaves a single bin.
STATES = (USABLE, CONSTANT, EMPTY)
_ROLES = ("ordered", "category", "special", "missing")
#: Features and bins that a provider may announce.
_MAX_FEATURES, _MAX_BINS = 100_000, 65_535


@dataclass(frozen=True, eq=False)
class FeatureCounts:
    """One feature of a party as the label holder knows it.

    Attributes
    ----------
    label : str
    state : {"usable", "constant", "all missing"}
    roles : tuple of str
        Of every bin, as :attr:`BinRule.roles`.
    count, event : ndarray of int64, shape (n_bins,)
        Rows and events per bin.
    """

    label: str
    state: str
    roles: tuple[str, ...]
    count: IntArray = field(repr=False)
    event: IntArray = field(repr=False)

    @classmethod
    def of(cls, column: BinnedColumn, y: IntArray) -> FeatureCounts:
        """Count the events of a column whose rows and labels are in one hand."""
        size = column.rule.n_bins
        return cls(
            label=column.label,
            state=column.state,
            roles=column.rule.roles,
            count=column.count,
            event=np.bincount(column.codes[y == 1], minlength=size).astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class BinnedColumn:
    """One feature of the party that owns it.

    Attributes
    ----------
    label : str
    rule : BinRule
    codes : ndarray of int64, shape (n,)
        The bin of every row.
    """

    label: str
    rule: BinRule = field(repr=False)
    codes: IntArray = field(repr=False)

    @property
    def count(self) -> IntArray:
        """Rows per bin."""
        return np.bincount(self.codes, minlength=self.rule.n_bins).astype(np.int64)

    @property
    def state(self) -> str:
        """Whether the feature can tell rows apart."""
        filled = np.flatnonzero(self.count)
        if len(filled) > 1:
            return USABLE
        return EMPTY if self.rule.roles[filled[0]] == "missing" else CONSTANT


# ------------------------------------------------------------------------- label holder


async def binning_label_holder(
    peers: Peers,
    jobs: Mapping[str, BinJob],
    y: IntArray,
    *,
    on_progress: Progress = ignore,
) -> dict[str, list[FeatureCounts]]:
    """Count rows and events per bin of the providers' features; the label holder's role.

    Parameters
    ----------
    peers : Peers
        The providers; may be none.
    jobs : mapping of provider to BinJob
    y : ndarray of int64, shape (n,)
        1 for an event, else 0, in the order of the job's rows.
    on_progress : callable (step, done, total)

    Returns
    -------
    dict of str to list of FeatureCounts
        Per provider, in its order.

    Raises
    ------
    InputError
        A label is neither 0 nor 1.
    PeerProtocolError, CiphertextError
        A provider's answer is malformed, or its sums contradict its counts or the labels' total.
    """
    labels = np.asarray(y, np.int64)
    if labels.ndim != 1 or not len(labels) or not np.isin(labels, (0, 1)).all():
        raise InputError(
            "labels are neither 0 nor 1.", step=_STEP, fix="pass 1 for an event and 0 else"
        )
    for name, peer in peers.items():
        await peer.send(jobs[name])
    shapes = {}
    for name, features in (await peers.gather(BinFeatures)).items():
        with blamed_on(peers[name], _STEP):
            shapes[name] = _read_features(features, jobs[name], len(labels))
    askers = Peers(name for name in peers if shapes[name])
    # The rarer class is encrypted: its total fits the centred range of the smallest modulus.
    swapped = 2 * int(labels.sum()) > len(labels)
    client = SumClient(SumProfile.counts(len(labels))) if askers else None
    if client is not None:
        await client.open(askers)
        await client.request(askers, (1 - labels if swapped else labels)[None, :])
    out: dict[str, list[FeatureCounts]] = {name: [] for name in peers}
    for done, name in enumerate(askers, 1):
        assert client is not None
        sizes = [len(roles) for _, _, roles, _ in shapes[name]]
        sums = await client.collect(peers[name], 1, sizes)
        counts = np.concatenate([count for *_, count in shapes[name]])
        with blamed_on(peers[name], _STEP):
            events = counts - sums[0] if swapped else sums[0]
            _check_events(events, counts, sizes, int(labels.sum()))
        ends = np.cumsum(sizes)[:-1]
        out[name] = [
            FeatureCounts(label, state, roles, count, event)
            for (label, state, roles, count), event in zip(
                shapes[name], np.split(events, ends), strict=True
            )
        ]
        on_progress("count events", done, len(askers))
    return out


_Shape = tuple[str, str, tuple[str, ...], IntArray]


def _read_features(message: BinFeatures, job: BinJob, n_rows: int) -> list[_Shape]:
    """Check what a provider says about its bins."""
    k = len(message.labels)
    if len(message.states) != k or len(message.n_bins) != k or len(set(message.labels)) != k:
        raise PeerProtocolError("the features are described in different numbers.")
    if k > _MAX_FEATURES or (k and not 1 <= int(message.n_bins.min()) <= _MAX_BINS):
        raise PeerProtocolError("a feature has an impossible number of bins.")
    if job.columns and set(message.labels) != set(job.columns):
        raise PeerProtocolError("the features are others than were asked for.")
    sizes = message.n_bins.astype(np.int64)
    total = int(sizes.sum())
    if (k and int(sizes.max()) > _MAX_BINS) or len(message.roles) != total:
        raise PeerProtocolError("the bins are described in different numbers.")
    if len(message.counts) != total or (message.states >= len(STATES)).any():
        raise PeerProtocolError("the bins are described in different numbers.")
    if (message.roles >= len(_ROLES)).any() or (total and int(message.counts.min()) < 0):
        raise PeerProtocolError("a bin has an unknown role or a negative count.")
    shapes = []
    start = 0
    for label, state, size in zip(message.labels, message.states, sizes, strict=True):
        part = slice(start, start + int(size))
        start += int(size)
        counts = message.counts[part]
        if int(counts.max()) > n_rows or int(counts.sum()) != n_rows:
            raise PeerProtocolError("the rows of a feature's bins are not those of the job.")
        roles = tuple(_ROLES[role] for role in message.roles[part])
        if roles[-1] != "missing" or list(roles) != sorted(roles, key=_ROLES.index):
            raise PeerProtocolError("a feature's bins are not in their order.")
        shapes.append((label, STATES[state], roles, np.array(counts)))
    return shapes


def _check_events(events: IntArray, counts: IntArray, sizes: Sequence[int], total: int) -> None:
    if (events < 0).any() or (events > counts).any():
        raise CiphertextError(
            "a bin has fewer than no events or more events than rows.",
            fix="bin again; if it happens again, the parties' programs do not fit together",
        )
    check_totals(events[None, :], sizes, [total])


async def woe_label_holder(peers: Peers, jobs: Mapping[str, WoeJob]) -> None:
    """Release weights of evidence to the providers and wait until they are kept.

    Raises
    ------
    PeerProtocolError
        A provider confirms something else.
    """
    for name, peer in peers.items():
        await peer.send(jobs[name])
    for name, ack in (await peers.gather(WoeAck)).items():
        if ack.binner_id != jobs[name].binner_id:
            raise PeerProtocolError(
                "the provider has kept other weights.", party=name, step="release weights"
            )


async def count_label_holder(
    peers: Peers, jobs: Mapping[str, CountJob]
) -> dict[str, list[tuple[IntArray, int]]]:
    """Count other rows in final bins.

    Returns
    -------
    dict of str to list of (counts, small)
        Per provider and feature: rows per final bin, -1 where they are too few to be shown, and
        how many rows those bins have together.

    Raises
    ------
    PeerProtocolError
        A provider's answer is malformed.
    """
    for name, peer in peers.items():
        await peer.send(jobs[name])
    out = {}
    for name, reply in (await peers.gather(GroupCounts)).items():
        sizes = jobs[name].n_groups.astype(np.int64)
        fits = len(reply.counts) == int(sizes.sum()) and len(reply.small) == len(sizes)
        if fits and len(sizes):
            parts = np.split(reply.counts, np.cumsum(sizes)[:-1])
            limit = len(jobs[name].rows)
            fits = all(
                int(part.min()) >= -1
                and int(part.max()) <= limit
                and int(small) >= 0
                and int(part[part > 0].sum()) + int(small) == limit
                for part, small in zip(parts, reply.small, strict=True)
            )
        if not fits:
            raise PeerProtocolError(
                "the counts are not those of the rows and bins asked for.",
                party=name,
                step="count rows",
            )
        out[name] = [(np.array(part), int(s)) for part, s in zip(parts, reply.small, strict=True)]
    return out


# ----------------------------------------------------------------------------- provider


async def binning_provider(
    peer: Peer,
    columns: Sequence[BinnedColumn],
    *,
    n_rows: int,
    floor: int,
    threads: int = 1,
    on_progress: Progress = ignore,
) -> None:
    """Let events be counted in the bins of a provider's features; its role, after the job message.

    Parameters
    ----------
    peer : Peer
        The label holder.
    columns : sequence of BinnedColumn
    n_rows : int
    floor : int
        Rows of a bin that is not empty.
    threads : int
    on_progress : callable (step, done, total)

    Raises
    ------
    InputError
        A bin is below the floor.
    PeerProtocolError
        The label holder's numbers may be larger than counting needs.
    """
    counts = [column.count for column in columns]
    if any(((count > 0) & (count < floor)).any() for count in counts):
        raise InputError(
            "a bin is below the floor.", step=_STEP, fix="make the rules with the same floor"
        )
    roles = [_ROLES.index(role) for column in columns for role in column.rule.roles]
    await peer.send(
        BinFeatures(
            labels=tuple(column.label for column in columns),
            states=np.array([STATES.index(column.state) for column in columns], np.uint8),
            n_bins=np.array([column.rule.n_bins for column in columns], np.int32),
            roles=np.array(roles, np.uint8),
            counts=np.concatenate([np.zeros(0, np.int64), *counts]),
        )
    )
    if not columns:
        return
    server = await SumServer.open(peer, n_rows=n_rows, threads=threads)
    profile = server.profile
    needed = SumProfile.counts(n_rows).plain_bits
    if not isinstance(profile, SumProfile) or profile.is_dense or profile.plain_bits != needed:
        raise PeerProtocolError(
            "the profile carries larger numbers than counting needs.",
            party=peer.name,
            step=_STEP,
            fix="count with SumProfile.counts",
        )
    sizes = np.array([len(count) for count in counts], np.int64)
    codes = np.empty((len(columns), n_rows), np.uint8 if sizes.max() <= 256 else np.uint16)
    for row, column in zip(codes, columns, strict=True):
        row[:] = column.codes
    await server.serve(peer, server.plan(codes, sizes), 1, n_rows)
    on_progress("count events", 1, 1)


async def count_provider(peer: Peer, counts: Sequence[IntArray], *, floor: int) -> None:
    """Answer a :class:`CountJob`; bins below the floor are counted together.

    Parameters
    ----------
    peer : Peer
        The label holder.
    counts : sequence of ndarray of int64
        Rows per final bin of every feature, at least ``floor`` in all.
    floor : int
    """
    shown = [hide_small(count, floor) for count in counts]
    await peer.send(
        GroupCounts(
            counts=np.concatenate([np.zeros(0, np.int64), *(count for count, _ in shown)]),
            small=np.array([small for _, small in shown], np.int64),
        )
    )


def hide_small(count: IntArray, floor: int) -> tuple[IntArray, int]:
    """Replace counts below the floor by -1 and return their total, itself 0 or at the floor.

    If the small bins together are below the floor, the smallest others join them until they are
    not, since the total of all bins is known.
    """
    hidden = (count > 0) & (count < floor)
    for b in np.argsort(count, kind="stable"):
        if not 0 < int(count[hidden].sum()) < floor:
            break
        hidden[b] |= count[b] > 0
    return np.where(hidden, -1, count), int(count[hidden].sum())
