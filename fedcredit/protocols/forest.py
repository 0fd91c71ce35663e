"""What the two roles of joint tree training keep: parameters, features and model shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.paillier_profile import PaillierProfile
from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.protocols.gbdt_messages import Features, TrainJob
from fedcredit.protocols.sum_schemes import AnyProfile
from fedcredit.stats.quantise import Quantiser
from fedcredit.stats.tree_params import FeatureInfo, TreeParams
from fedcredit.stats.trees import Split, Tree

__all__ = [
    "PAIR_BITS",
    "ForestParams",
    "ForestState",
    "LabelData",
    "PooledFeatures",
    "ProviderData",
    "ProviderShare",
]

#: Width of the lower, signed digit of a packed pair, which holds sums of gradients.
PAIR_BITS = 21
#: Width of the upper digit, which holds sums of hessians; the pair has a sign bit above it.
_HESSIAN_BITS = 20
#: Bins of all features of a provider: bounds what a description can make the label holder allocate.
_MAX_TOTAL_BINS = 1 << 20
_FEATURES = "train: features"

Objective = Literal["binary", "regression"]
Precision = Literal["packed", "exact", "high"]
Backend = Literal["bfv", "paillier"]


@dataclass(frozen=True)
class ForestParams:
    """Parameters of a forest; see the estimators for their meaning.

    ``precision`` names the encrypted-sum profile: ``"packed"`` (a few bits, gradient and hessian
    in one plaintext), ``"exact"`` (17 bits, two plaintexts) or ``"high"`` (packed at the larger
    ring, with a smaller statistical distance). ``backend`` is the scheme: ``"bfv"``, or
    ``"paillier"`` as a slow reference without ``"high"`` and ``block``, which are of BFV's ring.
    Without ``block``, the cost model chooses it for a link of ``mbit_per_second``.
    """

    objective: Objective = "binary"
    n_estimators: int = 100
    learning_rate: float = 0.1
    tree: TreeParams = field(default_factory=TreeParams)
    subsample: float = 1.0
    colsample: float = 1.0
    hide_membership: bool = True
    precision: Precision = "packed"
    backend: Backend = "bfv"
    gradient_bits: int = 8
    block: int | None = None
    mbit_per_second: float = 1000.0
    seed: int = 0
    early_stopping_rounds: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.mbit_per_second < np.inf:
            raise InputError("mbit_per_second is positive.", step="train: parameters")
        for name in ("learning_rate", "subsample", "colsample"):
            value = getattr(self, name)
            if not (0 < value <= 1 or (name == "learning_rate" and 0 < value < np.inf)):
                raise InputError(f"{name} is out of range.", step="train: parameters")
        if self.objective not in ("binary", "regression"):
            raise InputError("objective is 'binary' or 'regression'.", step="train: parameters")
        if self.precision not in ("packed", "exact", "high"):
            raise InputError("precision is 'packed', 'exact' or 'high'.", step="train: parameters")
        if self.backend not in ("bfv", "paillier"):
            raise InputError("backend is 'bfv' or 'paillier'.", step="train: parameters")
        if self.backend == "paillier" and (self.precision == "high" or self.block is not None):
            raise InputError(
                "Paillier has neither precision 'high' nor a block size.",
                step="train: parameters",
                fix="use precision 'packed' or 'exact' without block, or backend 'bfv'",
            )
        if self.n_estimators < 1:
            raise InputError("n_estimators is at least 1.", step="train: parameters")
        if self.tree.max_depth > 8:
            raise InputError(
                "max_depth is at most 8 in joint training.",
                step="train: parameters",
                fix="use more, shallower trees",
            )

    @property
    def block_is_free(self) -> bool:
        """Whether the rows per ciphertext are to be chosen by the cost model."""
        return self.backend == "bfv" and self.precision != "high" and self.block is None

    def profile(self, n_rows: int, block: int | None = None) -> AnyProfile:
        """Return the encrypted-sum parameters for ``n_rows`` rows; ``block`` if none is set."""
        block = self.block if self.block is not None else block
        if self.backend == "paillier":
            if self.precision == "exact":
                return PaillierProfile.exact(n_rows, value_bits=18)
            return PaillierProfile.packed(n_rows)
        if self.precision == "exact":
            # Hessians have 17 bits without a sign, so 18 with one.
            return SumProfile.exact(n_rows, block, value_bits=18)
        if self.precision == "high":
            return SumProfile.high_assurance(n_rows, block)
        return SumProfile.packed(n_rows, block)

    def quantiser(self) -> Quantiser:
        """Return the rounding of gradients and hessians that the precision calls for."""
        if self.precision == "exact":
            return Quantiser.exact()
        return Quantiser.packed(
            self.gradient_bits, seed=self.seed, g_digit=PAIR_BITS, h_digit=_HESSIAN_BITS
        )


@dataclass(frozen=True, eq=False)
class LabelData:
    """What the label holder brings: targets and its own binned features.

    Attributes
    ----------
    y : ndarray of float64, shape (n,)
    weight : ndarray of float64, shape (n,), or None
    is_train : ndarray of bool, shape (n,)
        False for validation rows.
    bins : ndarray of uint8 or uint16, shape (n, own features), row-major
    infos : sequence of FeatureInfo
        Its own features.
    draw_order : ndarray of int64, shape (n,), optional
        The rows in the order in which random numbers are drawn for them (the label holder's
        own), so that the draws do not depend on the random order of the alignment.
    """

    y: npt.NDArray[np.float64] = field(repr=False)
    weight: npt.NDArray[np.float64] | None = field(repr=False)
    is_train: npt.NDArray[np.bool_] = field(repr=False)
    bins: npt.NDArray[np.unsignedinteger[Any]] = field(repr=False)
    infos: Sequence[FeatureInfo] = ()
    draw_order: npt.NDArray[np.int64] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class ProviderData:
    """What a provider brings: its binned features of the job's rows.

    Attributes
    ----------
    bins : ndarray of uint8 or uint16, shape (features, n), column-major use
    infos : sequence of FeatureInfo
    labels : tuple of str
        What the label holder may call the features.
    split_cap : int or None
        Splits that one feature may serve in the model.
    """

    bins: npt.NDArray[np.unsignedinteger[Any]] = field(repr=False)
    infos: Sequence[FeatureInfo]
    labels: tuple[str, ...]
    split_cap: int | None = None


@dataclass
class PooledFeatures:
    """All features of a job in one order: the label holder's, then each provider's.

    Attributes
    ----------
    infos : list of FeatureInfo
    owner : list of str
        Party of each feature; the empty string for the label holder.
    local : list of int
        Its index at the owner.
    labels : list of str
    cap : list of int
        Splits the feature may serve in the whole model; -1 without a cap.
    """

    infos: list[FeatureInfo] = field(default_factory=list)
    owner: list[str] = field(default_factory=list)
    local: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    cap: list[int] = field(default_factory=list)

    def read(self, owner: str, reply: Features, job: TrainJob) -> None:
        """Append the features that a provider has described for a job.

        Raises
        ------
        PeerProtocolError
            The description is impossible or not what the job asked for.
        """
        columns = (
            reply.n_bins,
            reply.has_missing,
            reply.is_categorical,
            reply.most_frequent,
            reply.monotone,
        )
        signs = dict(zip(job.monotone, job.signs, strict=True))
        fitting = (
            all(len(column) == len(reply.labels) for column in columns)
            and len(set(reply.labels)) == len(reply.labels)
            and (not job.columns or set(reply.labels) == set(job.columns))
            and reply.monotone.tolist() == [signs.get(label, 0) for label in reply.labels]
            and int(reply.n_bins.sum(dtype=np.int64)) <= _MAX_TOTAL_BINS
            and reply.split_cap >= -1
        )
        if not fitting:
            raise PeerProtocolError(
                "the description of the features is not what the job asked for.",
                party=owner,
                step=_FEATURES,
            )
        try:
            infos = [
                FeatureInfo(
                    n_bins=int(bins),
                    has_missing=bool(missing),
                    is_categorical=bool(categorical),
                    most_frequent_bin=int(frequent),
                    monotone=int(sign),
                )
                for bins, missing, categorical, frequent, sign in zip(*columns, strict=True)
            ]
        except InputError as error:
            raise PeerProtocolError(
                f"a feature description is impossible: {error.reason}", party=owner, step=_FEATURES
            ) from None
        self.add(owner, infos, reply.labels, reply.split_cap)

    def add(
        self, owner: str, infos: Sequence[FeatureInfo], labels: Sequence[str], cap: int = -1
    ) -> None:
        """Append a party's features."""
        for index, (info, label) in enumerate(zip(infos, labels, strict=True)):
            self.infos.append(info)
            self.owner.append(owner)
            self.local.append(index)
            self.labels.append(label)
            self.cap.append(cap)

    def of(self, owner: str) -> npt.NDArray[np.int64]:
        """Return the pooled indices of a party's features."""
        return np.flatnonzero(np.array([name == owner for name in self.owner], np.bool_))

    def offsets(self) -> npt.NDArray[np.int64]:
        """Return where each feature's bins begin in a pooled histogram."""
        return np.concatenate([[0], np.cumsum([info.n_bins for info in self.infos])]).astype(
            np.int64
        )

    def __len__(self) -> int:
        return len(self.infos)


@dataclass
class ForestState:
    """The label holder's share of a forest, and what it needs to go on after an interruption.

    Attributes
    ----------
    trees : list of Tree
        Splits by pooled feature and bin number, leaf values.
    split_numbers : list of ndarray of int32
        Per tree and node: the number of the split at the provider that owns it, else -1.
    undone : list of (int, int)
        Tree and pooled feature of providers' splits that were undone: they are in a provider's
        share, but in no tree.
    init_score : float
    score : ndarray of float64, shape (n,)
        Raw scores of the job's rows after the trees.
    best_score : ndarray of float64, shape (n,)
        Raw scores after the tree with the smallest validation loss.
    train_loss, valid_loss : list of float
        After each tree; validation losses only if there are validation rows.
    """

    trees: list[Tree] = field(default_factory=list)
    split_numbers: list[npt.NDArray[np.int32]] = field(default_factory=list)
    undone: list[tuple[int, int]] = field(default_factory=list)
    init_score: float = 0.0
    score: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    best_score: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)

    def best(self) -> ForestState:
        """Return the state after the tree with the smallest validation loss."""
        if not self.valid_loss:
            return self
        kept = int(np.argmin(self.valid_loss)) + 1
        return dataclasses.replace(
            self,
            trees=self.trees[:kept],
            split_numbers=self.split_numbers[:kept],
            undone=[item for item in self.undone if item[0] < kept],
            score=self.best_score,
        )


@dataclass
class ProviderShare:
    """A provider's share of a forest: its splits in the order they were made.

    Attributes
    ----------
    splits : list of Split
        By local feature index and bin.
    trees : list of int
        The tree of each split.
    n_trees : int
        Complete trees.
    """

    splits: list[Split] = field(default_factory=list)
    trees: list[int] = field(default_factory=list)
    n_trees: int = 0

    def truncate(self, n_trees: int) -> None:
        """Forget the splits of tree ``n_trees`` and later."""
        keep = sum(tree < n_trees for tree in self.trees)
        del self.splits[keep:], self.trees[keep:]
        self.n_trees = min(self.n_trees, n_trees)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "n_trees": self.n_trees,
            "trees": list(self.trees),
            "splits": [dataclasses.asdict(split) for split in self.splits],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ProviderShare:
        """Rebuild from :meth:`to_dict`."""
        splits = [Split(**{**s, "left_bins": tuple(s["left_bins"])}) for s in data["splits"]]
        return cls(splits, [int(t) for t in data["trees"]], int(data["n_trees"]))
