"""The messages of joint tree training and prediction; see :mod:`fedcredit.protocols.gbdt`."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit.wire import I32x1, Message, U8x1, U32x1

__all__ = [
    "Features",
    "LevelStart",
    "PredictEnd",
    "PredictJob",
    "PredictLevel",
    "SplitChoices",
    "TrainAck",
    "TrainEnd",
    "TrainJob",
    "TrainStart",
    "TreeEnd",
    "TreeStart",
]

_ROWS_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class TrainJob(
    Message,
    kind="gbdt.train",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="which aligned rows a model is trained and validated on, and its size limits",
):
    """Label holder to provider: train a model.

    ``rows`` (n,) are positions in the aligned order of ``frame_id``, strictly ascending, train
    and validation rows alike; ``trees`` of them are already in the label holder's checkpoint.
    ``columns`` names the features to use (empty: all), ``monotone`` those with a constraint of
    ``signs``.
    """

    model_id: str
    frame_id: str
    rows: U32x1
    salt: bytes
    n_trees: int
    trees: int
    max_depth: int
    max_bins: int
    hide_membership: bool
    columns: tuple[str, ...]
    monotone: tuple[str, ...]
    signs: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Features(
    Message,
    kind="gbdt.features",
    version=1,
    max_bytes=8 << 20,
    reveals="per feature: number of bins, most frequent bin, whether values are missing, "
    "whether it is categorical, its split cap and its label (a number unless released)",
):
    """Provider to label holder: its binned features, shape (n_features,) each.

    ``split_cap`` is -1 without a cap; ``trees`` is the number of trees in its checkpoint that
    belong to this job.
    """

    labels: tuple[str, ...]
    n_bins: I32x1
    has_missing: U8x1
    is_categorical: U8x1
    most_frequent: I32x1
    monotone: I32x1
    split_cap: int
    trees: int


@dataclass(frozen=True, eq=False, repr=False)
class TrainStart(
    Message, kind="gbdt.start", version=1, max_bytes=4 << 10, reveals="the tree to go on from"
):
    """Label holder to provider: go on after ``trees`` trees; forget later ones."""

    trees: int


@dataclass(frozen=True, eq=False, repr=False)
class TreeStart(
    Message,
    kind="gbdt.tree",
    version=1,
    max_bytes=1 << 20,
    reveals="which of its own features a tree may use",
):
    """Label holder to provider: the next tree. ``use`` (n_features,) is 1 for usable features."""

    tree: int
    use: U8x1


@dataclass(frozen=True, eq=False, repr=False)
class LevelStart(
    Message,
    kind="gbdt.level",
    version=1,
    max_bytes=4 << 10,
    reveals="how many nodes a level has and how many of them are summed; with open membership "
    "also which",
):
    """Label holder to provider: the next level.

    Of ``slots`` nodes, ``sums`` get histograms, each with ``vectors`` encrypted vectors. Their
    slot numbers are in ``summed`` with open membership only: of two siblings it is the one with
    fewer rows.
    """

    slots: int
    sums: int
    vectors: int
    summed: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class SplitChoices(
    Message,
    kind="gbdt.splits",
    version=1,
    max_bytes=4 << 20,
    reveals="which of its own features and bins split nodes of a level",
):
    """Label holder to provider: how its nodes of the level split, shape (k,) each.

    ``slots`` count through the nodes of the level. A numeric split sends bins up to
    ``thresholds`` left and missing values where ``default_left`` says; a categorical one sends
    the bins ``categories[starts[i]:starts[i + 1]]`` left.
    """

    slots: I32x1
    features: I32x1
    thresholds: I32x1
    default_left: U8x1
    starts: I32x1
    categories: I32x1


@dataclass(frozen=True, eq=False, repr=False)
class TreeEnd(
    Message, kind="gbdt.tree_end", version=1, max_bytes=4 << 10, reveals="that a tree is complete"
):
    """Label holder to provider: the tree is complete; checkpoint."""

    tree: int


@dataclass(frozen=True, eq=False, repr=False)
class TrainEnd(
    Message, kind="gbdt.end", version=1, max_bytes=4 << 10, reveals="how many trees are kept"
):
    """Label holder to provider: training is over; keep the splits of the first ``trees``."""

    trees: int


@dataclass(frozen=True, eq=False, repr=False)
class TrainAck(
    Message,
    kind="gbdt.ack",
    version=1,
    max_bytes=4 << 10,
    reveals="how many splits the provider keeps",
):
    """Provider to label holder, after every tree and at the end: its share so far is stored."""

    splits: int


@dataclass(frozen=True, eq=False, repr=False)
class PredictJob(
    Message,
    kind="gbdt.predict",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="which aligned rows are scored, and with which model",
):
    """Label holder to provider: score aligned rows of ``frame_id`` with ``model_id``."""

    model_id: str
    frame_id: str
    rows: U32x1
    salt: bytes
    trees: int
    hide_membership: bool


@dataclass(frozen=True, eq=False, repr=False)
class PredictLevel(
    Message,
    kind="gbdt.predict_level",
    version=1,
    max_bytes=1 << 20,
    reveals="which of the provider's own splits belong to one tree and level",
):
    """Label holder to provider: evaluate own splits, for a block of rows.

    ``rows`` counts the rows of the block (the next ones of the job). Lane l has the splits
    ``splits[starts[l]:starts[l + 1]]``, in the order of its slots.
    """

    first: int
    rows: int
    starts: I32x1
    splits: I32x1


@dataclass(frozen=True, eq=False, repr=False)
class PredictEnd(
    Message, kind="gbdt.predict_end", version=1, max_bytes=4 << 10, reveals="that scoring is over"
):
    """Label holder to provider: scoring is over."""

    trees: int
