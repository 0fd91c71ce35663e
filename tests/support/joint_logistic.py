"""Joint logistic regressions in one process, and the pooled fits that they must equal."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit

from fedcredit.protocols.logistic import LogisticData, LogisticParams, logistic_label_holder
from fedcredit.protocols.logistic_provider import logistic_provider
from fedcredit.protocols.logistic_types import LogisticLimits
from fedcredit.wire import Peers, run_in_process

NAMES = ("tax", "social_security", "housing")
PLATFORM = "platform"
_salts = itertools.count()


@dataclass(frozen=True)
class Case:
    """Columns of all parties; ``owners[i]`` of them belong to party i, the platform first."""

    X: np.ndarray
    y: np.ndarray
    owners: tuple[int, ...]
    params: LogisticParams = field(default_factory=LogisticParams)
    limits: LogisticLimits | None = None
    weight: np.ndarray | None = None
    offset: np.ndarray | None = None
    signs: tuple[int, ...] | None = None
    on_reveal: object = None

    @property
    def allowed(self):
        """What providers allow: unless a test says so, what the parameters need."""
        exact = self.params.reveal_predictor
        return self.limits or LogisticLimits(max_reveals=20, exact_predictors=exact)

    @property
    def providers(self):
        return NAMES[: len(self.owners) - 1]

    def columns(self, party):
        ends = np.cumsum((0, *self.owners))
        return slice(int(ends[party]), int(ends[party + 1]))

    def signs_of(self, party):
        return None if self.signs is None else self.signs[self.columns(party)]


def roles(case):
    """The coroutines of all parties, by name."""
    salt = next(_salts).to_bytes(16, "big")
    sizes = dict(zip(case.providers, case.owners[1:], strict=True))
    data = LogisticData(
        np.ascontiguousarray(case.X[:, case.columns(0)]),
        case.y,
        case.weight,
        case.offset,
        case.signs_of(0),
    )
    out = {
        PLATFORM: logistic_label_holder(Peers(case.providers), data, case.params, sizes, salt=salt)
    }
    for number, name in enumerate(case.providers, 1):
        others = [PLATFORM, *(other for other in case.providers if other != name)]
        options = {} if case.on_reveal is None else {"on_reveal": case.on_reveal}
        out[name] = logistic_provider(
            Peers(others),
            PLATFORM,
            case.providers,
            name,
            np.ascontiguousarray(case.X[:, case.columns(number)]),
            case.params,
            case.allowed,
            salt=salt,
            signs=case.signs_of(number),
            **options,
        )
    return out


@dataclass(frozen=True)
class Fit:
    """A joint fit: all coefficients in the order of the columns, the intercept last."""

    outcome: object
    shares: dict
    coef: np.ndarray
    standard_error: np.ndarray


def fit(case, transcript=None):
    results = run_in_process(roles(case), transcript=transcript)
    outcome = results[PLATFORM]
    shares = {name: results[name] for name in case.providers}
    coef = np.concatenate(
        [outcome.coef, *(share.coef for share in shares.values()), [outcome.intercept]]
    )
    nothing = np.full(len(coef), np.nan)
    if outcome.covariance_own is not None:
        own = np.sqrt(np.diag(outcome.covariance_own))
        error = [own[:-1], *(share.standard_error for share in shares.values()), own[-1:]]
        nothing = np.concatenate(error)
    return Fit(outcome, shares, coef, nothing)


def newton(X, y, weight=None, offset=None, l2=0.0, iterations=50):
    """Pooled optimum and covariance with a ridge penalty ``l2/2·‖β‖²``, the intercept last."""
    A = np.column_stack((X, np.ones(len(X))))
    w = np.ones(len(X)) if weight is None else weight
    o = np.zeros(len(X)) if offset is None else offset
    penalty = np.full(A.shape[1], l2)
    penalty[-1] = 0
    b = np.zeros(A.shape[1])
    b[-1] = logit(w @ y / w.sum())
    for _ in range(iterations):
        p = expit(A @ b + o)
        H = (A * (w * p * (1 - p))[:, None]).T @ A + np.diag(penalty)
        step = np.linalg.solve(H, A.T @ (w * (y - p)) - penalty * b)
        b = b + step
        if np.abs(step).max() < 1e-13:
            break
    return b, np.linalg.inv(H)


def synthetic(n=2000, owners=(2, 3), seed=0, strength=0.6):
    """Correlated columns of different scales and labels from a logistic model."""
    rng = np.random.default_rng(seed)
    d = sum(owners)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d))
    X = X * np.exp(rng.normal(scale=0.5, size=d)) + rng.normal(size=d)
    z = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(scale=strength, size=d)
    y = (rng.random(n) < expit(z - 1.2)).astype(float)
    return X, y


def woe_columns(X, y, bins=8, smoothing=0.5):
    """Weights of evidence by quantile bins, missing values in a bin of their own."""
    out = np.empty(X.shape)
    for f in range(X.shape[1]):
        x = X[:, f]
        edges = np.unique(np.nanquantile(x, np.arange(1, bins) / bins))
        code = np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, side="right"))
        count = np.bincount(code, minlength=len(edges) + 2)
        event = np.bincount(code, weights=y, minlength=len(edges) + 2)
        bad = (event + smoothing) / event.sum()
        good = (count - event + smoothing) / (count - event).sum()
        out[:, f] = np.log(bad / good)[code]
    return out[:, np.ptp(out, axis=0) > 0]
