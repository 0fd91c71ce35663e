"""Attacks on joint logistic regression, with and without the defences; each prints its yield."""

import numpy as np
import pytest

from fedcredit.errors import InputError
from fedcredit.protocols import logistic_provider as provider_module
from fedcredit.protocols.logistic import LogisticParams
from fedcredit.protocols.logistic_angles import to_angle
from fedcredit.protocols.logistic_moves import Mover
from fedcredit.protocols.logistic_types import MAX_COLUMN_SHARE, LogisticLimits
from fedcredit.wire import Transcript
from tests.support.joint_logistic import Case, fit, synthetic, woe_columns
from tests.support.real_data import load_real

PERIOD = 14.0


def recovered(known, Z, X):
    """R² on the other rows of a regression, on the known rows, of columns on what is seen."""
    F = np.column_stack((Z, np.ones(len(Z))))
    W = np.linalg.lstsq(F[known], X[known], rcond=1e-10)[0]
    rest = np.setdiff1d(np.arange(len(X)), known)
    error = ((X[rest] - F[rest] @ W) ** 2).sum(axis=0)
    return 1 - error / ((X[rest] - X[rest].mean(axis=0)) ** 2).sum(axis=0)


def watched_fit(case, monkeypatch):
    """A fit, the true summed parts at every evaluation, and the angles that were sent."""
    parts = []

    def record(predictor, period):
        parts.append(predictor.copy())
        return to_angle(predictor, period)

    monkeypatch.setattr(provider_module, "to_angle", record)
    transcript = Transcript(keep=True)
    fit(case, transcript)
    k = len(case.providers)
    sums = [sum(parts[at : at + k]) for at in range(0, len(parts), k)]
    angles = {}
    for r in transcript.records:
        if r.message.kind == "logistic.parts":
            angles.setdefault(r.sender, []).append(r.message.angles)
    seen = [
        sum(arrays[1:], start=arrays[0].copy()) for arrays in zip(*angles.values(), strict=True)
    ]
    return np.array(sums), np.array(seen, np.uint16)


def view(angles):
    """Everything a label holder may make of masked angles, as columns."""
    turn = 2 * np.pi * angles.astype(float) / 65536
    change = np.diff(angles.astype(np.int64), axis=0)
    change = (change + 32768) % 65536 - 32768
    waves = [f(k * turn) for k in (1, 2) for f in (np.cos, np.sin)]
    return np.vstack([*waves, change / 65536]).T


def span_case(name):
    if name == "synthetic":
        X, y = synthetic(6000, (2, 5), seed=4)
        return Case(X, y, (2, 5), params=LogisticParams(polish_steps=0, hidden_tol=1e-4))
    frame, y = load_real(name, 6000)
    X = woe_columns(frame.to_numpy(), y)
    X = X[:, np.random.default_rng(0).permutation(X.shape[1])][:, :8]
    owners = (2, X.shape[1] - 2)
    return Case(X, y, owners, params=LogisticParams(polish_steps=0, hidden_tol=1e-4))


@pytest.mark.parametrize(
    "name",
    [
        "synthetic",
        pytest.param("default_credit", marks=pytest.mark.realdata),
        pytest.param("give_me_some_credit", marks=[pytest.mark.realdata, pytest.mark.slow]),
    ],
)
def test_span_attack_on_the_summed_predictor(name, monkeypatch):
    """Recover a provider's columns from some known rows and what each iteration shows."""
    case = span_case(name)
    sums, seen = watched_fit(case, monkeypatch)
    own, theirs = case.X[:, case.columns(0)], case.X[:, case.columns(1)]
    rng = np.random.default_rng(2)
    few = rng.choice(len(own), 55, replace=False)
    many = rng.choice(len(own), 2000, replace=False)
    base = np.column_stack((own, case.y))

    revealed = np.median(recovered(few, sums[1:].T, theirs))
    mask = rng.integers(0, 65536, len(own)).astype(np.uint16)
    reused = np.array([to_angle(s, PERIOD) + mask for s in sums])
    apart = np.diff(reused.astype(np.int64), axis=0)
    apart = (apart + 32768) % 65536 - 32768
    with_reuse = np.median(recovered(many, np.column_stack((apart.T / 65536, base)), theirs))
    fresh = np.median(recovered(many, np.column_stack((view(seen), base)), theirs))
    nothing = np.median(recovered(many, base, theirs))
    one = np.median(recovered(many, np.column_stack((sums[-1], base)), theirs))
    print(
        f"\nspan attack, {name}, {len(sums)} evaluations, {theirs.shape[1]} columns, median R²: "
        f"every predictor revealed {revealed:.3f} (55 known rows); mask reused {with_reuse:.3f}, "
        f"one predictor revealed {one:.3f}, fresh masks {fresh:.3f}, no transcript {nothing:.3f} "
        "(2000 known rows)"
    )
    assert len(sums) > theirs.shape[1]
    assert revealed > 0.98
    assert with_reuse > 0.6
    assert fresh < nothing + 0.02
    assert one < 0.8


def test_one_revealed_predictor_of_the_default_is_far_from_the_columns():
    """The default reveals at most two predictors: what is left unknown is still most of it."""
    X, y = synthetic(4000, (2, 8), seed=6, strength=0.4)
    joint = fit(Case(X, y, (2, 8)))
    part = X[:, 2:] @ joint.coef[2:-1]
    known = np.random.default_rng(0).choice(len(X), 1000, replace=False)
    r2 = recovered(known, np.column_stack((part, X[:, :2], y)), X[:, 2:])
    print(f"\none revealed predictor of 8 columns: median R² {np.median(r2):.3f}")
    assert joint.outcome.revealed == 1
    assert np.median(r2) < 0.5


# --------------------------------------------------------------------------- labels at a provider


def one_row_columns(n, count, seed=0):
    """A provider that makes up columns, each of which stands for one row."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(n, count, replace=False)
    columns = np.zeros((n, count))
    columns[rows, np.arange(count)] = 1.0
    return rows, columns


def stolen_labels(case, rows, monkeypatch):
    """What the gradient at the start tells a provider about the labels of its rows."""
    taken = []
    begin = Mover.begin

    def record(self, gradient, *, smooth):
        taken.append((self.block, gradient.copy()))
        begin(self, gradient, smooth=smooth)

    monkeypatch.setattr(Mover, "begin", record)
    fit(case)
    block, gradient = next(t for t in taken if t[0].d == len(rows))
    residual = block._inverse.T @ gradient * len(case.y)  # centred columns: p̄ − y, about
    return (residual < (residual.min() + residual.max()) / 2).astype(float)


def test_labels_from_one_row_columns(monkeypatch):
    n, count = 600, 20
    X, y = synthetic(n, (2, 2))
    rows, columns = one_row_columns(n, count)
    made_up = np.column_stack((X[:, :2], columns))
    params = LogisticParams(C=1.0, polish_steps=0)
    dishonest = LogisticLimits(max_reveals=1, min_rows=1)
    case = Case(made_up, y, (2, count), params=params, limits=dishonest)
    stolen = stolen_labels(case, rows, monkeypatch)
    hit = (stolen == y[rows]).mean()
    print(f"\none-row columns: {hit:.0%} of the labels of {count} rows, {count / n:.1%} of all")
    assert hit == 1.0
    # With the provider's own rule the columns do not take part.
    monkeypatch.undo()
    honest = Case(made_up, y, (2, count), params=params, limits=LogisticLimits(max_reveals=1))
    with pytest.raises(InputError, match="labels its gradient would tell"):
        fit(honest)
    # Against one without the rule, the label holder bounds the share of rows.
    most = int(MAX_COLUMN_SHARE * n)
    _, columns = one_row_columns(n, most + 1)
    wide = Case(
        np.column_stack((X[:, :2], columns)), y, (2, most + 1), params=params, limits=dishonest
    )
    with pytest.raises(InputError, match="would tell labels"):
        fit(wide)
    print(f"with the label holder's bound: no more than {most / n:.0%} of all labels")


def test_labels_of_other_rows_stay_at_chance(monkeypatch):
    """Honest columns: guessing labels from all gradients of a fit is no better than the model."""
    X, y = synthetic(4000, (2, 6), strength=0.3)
    taken = []
    for name in ("begin", "take"):
        original = getattr(Mover, name)

        def record(self, gradient, original=original, **options):
            taken.append((self.block, gradient.copy()))
            original(self, gradient, **options)

        monkeypatch.setattr(Mover, name, record)
    joint = fit(Case(X, y, (2, 6), params=LogisticParams(polish_steps=0)))
    block = next(b for b, _ in taken if b.d == 6)
    gradients = np.array([g for b, g in taken if b is block])
    # The least-norm residual that explains every gradient of the provider.
    residual = -(block.V @ gradients[0]) / len(y)
    order = np.argsort(residual)
    guess = np.zeros(len(y))
    guess[order[-int(y.sum()) :]] = 1
    own = block.X @ joint.coef[2:-1]
    model = np.zeros(len(y))
    model[np.argsort(own)[-int(y.sum()) :]] = 1
    hit, baseline = (guess == y).mean(), (model == y).mean()
    rank = np.linalg.matrix_rank(gradients, tol=1e-9)
    print(f"\nlabels from honest gradients: {hit:.3f} right, own model {baseline:.3f}")
    assert rank <= 6
    assert hit < baseline + 0.02
