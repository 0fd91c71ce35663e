"""Joint training of trees in one process, and the same training on pooled columns.

A `Case` has one matrix of binned columns and says whose each column is. `train` grows its forest
with real ciphertexts through the codec, `train_alone` with the same code and no provider.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from dataclasses import dataclass, field

import numpy as np

from fedcredit.protocols.forest import (
    ForestParams,
    ForestState,
    LabelData,
    PooledFeatures,
    ProviderData,
    ProviderShare,
)
from fedcredit.protocols.gbdt import ForestHooks, train_label_holder
from fedcredit.protocols.gbdt_messages import PredictJob, TrainJob
from fedcredit.protocols.gbdt_predict import predict_label_holder, predict_provider
from fedcredit.protocols.gbdt_provider import ProviderLimits, train_provider
from fedcredit.stats.binning import bin_matrix, fit_bins
from fedcredit.stats.tree_params import FeatureInfo, TreeParams
from fedcredit.wire import Peers, Session, run_in_process
from tests.support.lightgbm_twin import Boosting

NAMES = ("tax", "social_security", "housing")
# Columns of `population`, and the owners of runs of them: the platform first.
N_COLUMNS = 9
ONE_HOT, MANY = 3, 7
LAYOUTS = {
    "one provider": (4, 5),
    "two providers": (3, 3, 3),
    "three providers": (2, 2, 2, 3),
    "a platform without columns": (0, 5, 4),
}
MONOTONE = [1, -1, 0, 0, 1, 0, -1, 0, 1]
_salts = itertools.count()


def population(n=1500, seed=0):
    """Numeric columns, with little and much missing, and two categorical ones."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, N_COLUMNS))
    X[rng.random(n) < 0.2, 1] = np.nan
    X[:, 2] = np.where(rng.random(n) < 0.7, 0.0, X[:, 2])
    X[:, ONE_HOT] = rng.integers(0, 3, n)
    X[rng.random(n) < 0.6, 5] = np.nan
    X[:, 6] = np.round(2 * X[:, 6])
    X[:, MANY] = np.minimum(rng.geometric(0.15, n), 20)
    z = X[:, 0] + 0.8 * np.isnan(X[:, 1]) + X[:, 2] + 0.9 * (X[:, ONE_HOT] == 1) - 0.8 * X[:, 4]
    z += np.nan_to_num(X[:, 5]) + 0.5 * X[:, 6] + rng.normal(size=21)[X[:, MANY].astype(int)]
    z += 0.6 * X[:, 8] - 1
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    weight = rng.integers(1, 9, n) / 4.0
    return X, y, weight


@dataclass(frozen=True)
class Case:
    """A job on binned columns; ``owners[i]`` columns belong to party i, the platform first."""

    codes: np.ndarray
    infos: list[FeatureInfo]
    owners: tuple[int, ...]
    y: np.ndarray
    params: ForestParams
    weight: np.ndarray | None = None
    is_train: np.ndarray | None = None
    split_cap: int | None = None
    limits: ProviderLimits = field(default_factory=lambda: ProviderLimits(cache_bytes=1 << 28))

    @property
    def providers(self) -> tuple[str, ...]:
        return NAMES[: len(self.owners) - 1]

    def columns(self, party: int) -> slice:
        ends = np.cumsum((0, *self.owners))
        return slice(int(ends[party]), int(ends[party + 1]))

    @property
    def labels(self) -> list[str]:
        return [f"f{number}" for number in range(len(self.infos))]

    def label_data(self, columns: slice) -> LabelData:
        train = np.ones(len(self.y), np.bool_) if self.is_train is None else self.is_train
        bins = np.ascontiguousarray(self.codes[:, columns])
        return LabelData(self.y, self.weight, train, bins, self.infos[columns])

    def provider_data(self, party: int) -> ProviderData:
        columns = self.columns(party)
        bins = np.ascontiguousarray(self.codes[:, columns].T)
        labels = tuple(self.labels[columns])
        return ProviderData(bins, self.infos[columns], labels, self.split_cap)

    def job(self, party: int, trees: int, salt: bytes) -> TrainJob:
        columns = self.columns(party)
        signed = [
            (label, info.monotone)
            for label, info in zip(self.labels[columns], self.infos[columns], strict=True)
            if info.monotone
        ]
        return TrainJob(
            model_id="model",
            frame_id="frame",
            rows=np.arange(len(self.y), dtype=np.uint32),
            salt=salt,
            n_trees=self.params.n_estimators,
            trees=trees,
            max_depth=self.params.tree.max_depth,
            max_bins=32,
            hide_membership=self.params.hide_membership,
            columns=(),
            monotone=tuple(label for label, _ in signed),
            signs=tuple(sign for _, sign in signed),
        )

    def boosting(self) -> Boosting:
        """The same job for `fit_pooled` and `fit_lightgbm`."""
        return Boosting(
            self.codes,
            self.infos,
            self.y,
            self.params.tree,
            self.params.n_estimators,
            self.params.quantiser(),
            self.params.learning_rate,
            self.weight,
            "logistic" if self.params.objective == "binary" else "squared",
        )

    def but(self, **changes) -> Case:
        """Change fields of the case or, by the same names, of its parameters."""
        own = {f.name for f in dataclasses.fields(self)}
        params = {name: changes.pop(name) for name in list(changes) if name not in own}
        new = dataclasses.replace(self, **changes)
        return dataclasses.replace(new, params=dataclasses.replace(new.params, **params))


def make_case(X, y, owners, *, categorical=(), monotone=None, weight=None, max_bins=16, **params):
    bins = [
        fit_bins(X[:, f], is_categorical=f in categorical, max_bins=max_bins)
        for f in range(X.shape[1])
    ]
    infos = [b.info(monotone[f] if monotone else 0) for f, b in enumerate(bins)]
    defaults = {"precision": "exact", "n_estimators": 3, "tree": TreeParams(max_depth=3)}
    forest = ForestParams(**(defaults | params))
    return Case(bin_matrix(bins, X), infos, tuple(owners), y, forest, weight)


def synthetic(layout="two providers", *, n=1500, seed=0, weighted=False, constrained=False, **kw):
    X, y, weight = population(n, seed)
    kw.setdefault("tree", TreeParams(max_depth=3, min_data_per_group=20, cat_smooth=5.0))
    return make_case(
        X,
        y,
        LAYOUTS[layout],
        categorical={ONE_HOT, MANY},
        monotone=MONOTONE if constrained else None,
        weight=weight if weighted else None,
        **kw,
    )


@dataclass
class Checkpoints:
    """What each party has on disk: written after every tree, read when a session begins."""

    state: ForestState = field(default_factory=ForestState)
    shares: dict[str, ProviderShare] = field(default_factory=dict)

    def share(self, name: str) -> ProviderShare:
        return copy.deepcopy(self.shares.get(name, ProviderShare()))


def roles(case: Case, kept: Checkpoints | None = None, train_as_provider=train_provider):
    """The coroutines of a training session, by party; ``kept`` is read now and written to."""
    kept = Checkpoints() if kept is None else kept
    salt = b"training session, number %08d" % next(_salts)
    state = copy.deepcopy(kept.state)
    jobs = {
        name: case.job(party, len(state.trees), salt)
        for party, name in enumerate(case.providers, 1)
    }

    def keep_state(state, pooled):
        kept.state = copy.deepcopy(state)

    async def provider(party, name):
        peer = Peers(["platform"])["platform"]
        job = await peer.recv(TrainJob)

        def keep_share(share):
            kept.shares[name] = copy.deepcopy(share)

        return await train_as_provider(
            peer,
            job,
            case.provider_data(party),
            # A platform that begins anew makes its providers do so.
            kept.share(name) if job.trees else ProviderShare(),
            case.limits,
            salt=job.salt + name.encode(),
            on_tree=keep_share,
        )

    own = case.columns(0)
    platform = train_label_holder(
        Peers(case.providers),
        jobs,
        case.label_data(own),
        case.params,
        state,
        ForestHooks(on_tree=keep_state),
        own_labels=case.labels[own],
    )
    others = {name: provider(party, name) for party, name in enumerate(case.providers, 1)}
    return {"platform": platform, **others}


@dataclass(frozen=True)
class Forest:
    """What a training leaves at every party."""

    state: ForestState
    pooled: PooledFeatures
    shares: dict[str, ProviderShare] = field(default_factory=dict)


def as_forest(results) -> Forest:
    state, pooled = results["platform"]
    return Forest(state, pooled, {k: v for k, v in results.items() if k != "platform"})


def train(case: Case, transcript=None) -> Forest:
    return as_forest(run_in_process(roles(case), transcript=transcript))


def train_alone(case: Case) -> Forest:
    """Train on the pooled columns: the label holder owns them all."""
    alone = train_label_holder(
        Peers(()),
        {},
        case.label_data(slice(0, len(case.infos))),
        case.params,
        ForestState(),
        own_labels=case.labels,
    )
    return as_forest(run_in_process({"platform": alone}))


def predict_roles(case: Case, forest: Forest, codes: np.ndarray):
    """The coroutines of a scoring session of rows with these bins."""
    job = PredictJob(
        model_id="model",
        frame_id="frame",
        rows=np.arange(len(codes), dtype=np.uint32),
        salt=b"scoring session, number %08d" % next(_salts),
        trees=len(forest.state.trees),
        hide_membership=case.params.hide_membership,
    )

    async def provider(party, name):
        peer = Peers(["platform"])["platform"]
        got = await peer.recv(PredictJob)
        bins = np.ascontiguousarray(codes[:, case.columns(party)].T)
        salt = got.salt + name.encode()
        return await predict_provider(peer, got, bins, forest.shares[name], salt=salt)

    own = np.ascontiguousarray(codes[:, case.columns(0)])
    platform = predict_label_holder(Peers(case.providers), job, own, forest.pooled, forest.state)
    others = {name: provider(party, name) for party, name in enumerate(case.providers, 1)}
    return {"platform": platform, **others}


def predict(case: Case, forest: Forest, codes: np.ndarray, transcript=None) -> np.ndarray:
    return run_in_process(predict_roles(case, forest, codes), transcript=transcript)["platform"]


def assert_same_forest(one: Forest, other: Forest) -> None:
    """Same splits, leaf values, gains, scores and losses, to the last bit."""
    assert len(one.state.trees) == len(other.state.trees)
    for ours, theirs in zip(one.state.trees, other.state.trees, strict=True):
        assert ours.to_dict() == theirs.to_dict()
    np.testing.assert_array_equal(one.state.score, other.state.score)
    assert one.state.train_loss == other.state.train_loss
    assert one.state.valid_loss == other.state.valid_loss


def first_columns(n_trees, **params):
    """A job of a few columns and bins, for tests that run it many times."""
    X, y, _ = population(200, 10)
    params = {"tree": TreeParams(max_depth=2), "max_bins": 6} | params
    return make_case(X[:, [0, 2, 4, 8]], y, (2, 2), n_estimators=n_trees, **params)


def run_until(made, limit):
    """Run the roles and cut every connection after ``limit`` messages.

    Returns
    -------
    dict or None
        The results if the roles ended before.
    """
    sessions = {name: Session(role, party=name) for name, role in made.items()}
    sent = 0
    while not all(session.done for session in sessions.values()):
        moved = False
        for name, session in sessions.items():
            if session.done:
                continue
            for recipient, message in session.outgoing():
                if sent == limit:
                    for each in sessions.values():
                        each.close()
                    return None
                sent += 1
                sessions[recipient].deliver(name, message)
                moved = True
                break
            moved = moved or session.done
        assert moved, "every role waits"
    return {name: session.result for name, session in sessions.items()}
