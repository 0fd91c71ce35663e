"""The messages of joint binning; see :mod:`fedcredit.protocols.binning`."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit.wire import F64x1, I32x1, I64x1, Message, U8x1, U32x1

__all__ = ["BinFeatures", "BinJob", "CountJob", "GroupCounts", "WoeAck", "WoeJob"]

_ROWS_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class BinJob(
    Message,
    kind="bin.job",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="which aligned rows are counted, which features, and how finely they are cut",
):
    """Label holder to provider: bin these rows and let their events be counted.

    ``rows`` (n,) are positions in the aligned order of ``frame_id``, strictly ascending;
    ``columns`` names the features (empty: all), ``prebins`` is the largest number of intervals of
    each.  Feature ``split_labels[i]`` is to be cut at ``splits[split_starts[i]:split_starts[i+1]]``
    and ``special_labels[i]`` has the special codes between the same places of ``specials``; a
    provider refuses both unless its policy allows them.
    """

    bin_id: str
    frame_id: str
    rows: U32x1
    prebins: int
    columns: tuple[str, ...]
    split_labels: tuple[str, ...]
    split_starts: I32x1
    splits: F64x1
    special_labels: tuple[str, ...]
    special_starts: I32x1
    specials: F64x1


@dataclass(frozen=True, eq=False, repr=False)
class BinFeatures(
    Message,
    kind="bin.features",
    version=1,
    max_bytes=16 << 20,
    reveals="per feature: its label (a number unless released), whether it is constant, what its "
    "bins are (intervals, categories, special codes, missing) and how many rows each holds",
):
    """Provider to label holder: its bins without their limits.

    ``labels``, ``states`` and ``n_bins`` have one entry per feature, ``roles`` and ``counts`` one
    per bin, feature after feature. A count is 0 or not below the provider's floor.
    """

    labels: tuple[str, ...]
    states: U8x1
    n_bins: I32x1
    roles: U8x1
    counts: I64x1


@dataclass(frozen=True, eq=False, repr=False)
class WoeJob(
    Message,
    kind="bin.woe",
    version=1,
    max_bytes=16 << 20,
    reveals="how the bins of its own features are merged, and the weight of evidence and "
    "information value of each, from which the events per bin follow",
):
    """Label holder to provider: keep these weights as ``binner_id``, made from ``bin_id``.

    ``labels`` and ``n_groups`` have one entry per feature; ``group_of`` has one per bin that was
    counted, with the number of the final bin, ``woe`` and ``iv`` one per final bin. ``convention``
    says what the sign of a weight means.
    """

    bin_id: str
    binner_id: str
    convention: str
    labels: tuple[str, ...]
    n_groups: I32x1
    group_of: I32x1
    woe: F64x1
    iv: F64x1


@dataclass(frozen=True, eq=False, repr=False)
class WoeAck(
    Message, kind="bin.ack", version=1, max_bytes=4 << 10, reveals="that the weights are kept"
):
    """Provider to label holder: the weights of ``binner_id`` are kept."""

    binner_id: str


@dataclass(frozen=True, eq=False, repr=False)
class CountJob(
    Message,
    kind="bin.count",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="which aligned rows are counted, and how the bins of its features are merged",
):
    """Label holder to provider: count these rows in the final bins of earlier counted features.

    ``rows`` as in :class:`BinJob`; ``labels``, ``n_groups`` and ``group_of`` as in
    :class:`WoeJob`.
    """

    bin_id: str
    frame_id: str
    rows: U32x1
    labels: tuple[str, ...]
    n_groups: I32x1
    group_of: I32x1


@dataclass(frozen=True, eq=False, repr=False)
class GroupCounts(
    Message,
    kind="bin.counts",
    version=1,
    max_bytes=16 << 20,
    reveals="per final bin the number of rows, where it is not below the provider's floor",
):
    """Provider to label holder: rows per final bin, feature after feature.

    Bins too small to be shown have ``counts`` -1 and are counted together in ``small``, one entry
    per feature.
    """

    counts: I64x1
    small: I64x1
