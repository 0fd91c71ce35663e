"""The same linear score by other means: TenSEAL CKKS, Paillier, and, apart, Concrete ML.

All of them assume one client that holds all features of an enterprise and the key, and one server
that holds the weights: no second party with data, no consent, no log, no network. What is timed is
encryption, evaluation, decryption, and turning ciphertexts into bytes and back.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FEATURES = 23
#: Enterprises of a batch; as many slots has a CKKS ciphertext of ring dimension 8,192.
BATCH = 4096
_SLOTS_RING, _ROW_RING = 8192, 4096
_PAILLIER_BITS = 2048
_SCRIPT = Path(__file__).with_name("scoring_concrete.py")

Floats = npt.NDArray[np.float64]


def data(rows: int) -> tuple[Floats, Floats, float]:
    """Features, weights and an intercept."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((rows, FEATURES)), rng.standard_normal(FEATURES), 0.5


def _repeated(one: Callable[[int], float], expected: Floats, repeats: int) -> dict[str, Any]:
    one(0)
    seconds, worst = [], 0.0
    for k in range(repeats):
        started = time.perf_counter()
        found = one(k)
        seconds.append(time.perf_counter() - started)
        worst = max(worst, abs(found - float(expected[k])))
    return {
        "p50_ms": float(np.median(seconds)) * 1e3,
        "scores_per_s": 1 / float(np.mean(seconds)),
        "max_error": worst,
        "n": repeats,
    }


def ckks_row(repeats: int, *, precise: bool) -> dict[str, Any]:
    """One enterprise per ciphertext and a dot product with rotations.

    Parameters as in TenSEAL's tutorial on the evaluation of logistic regression on encrypted data
    (ring dimension 4,096, primes of 40, 20 and 40 bits, scale 2^20), whose errors reach whole
    units here; or, ``precise``, ring dimension 8,192 and scale 2^40. Galois keys in both cases.
    """
    import tenseal as ts

    X, w, b = data(repeats)
    ring, primes, bits = (
        (_SLOTS_RING, [60, 40, 60], 40) if precise else (_ROW_RING, [40, 20, 40], 20)
    )
    context = ts.context(ts.SCHEME_TYPE.CKKS, ring, coeff_mod_bit_sizes=primes)
    context.global_scale = 2.0**bits
    context.generate_galois_keys()
    weights = w.tolist()
    sizes = [0, 0]

    def one(k: int) -> float:
        sent = ts.ckks_vector(context, X[k].tolist()).serialize()
        back = (ts.ckks_vector_from(context, sent).dot(weights) + b).serialize()
        sizes[:] = len(sent), len(back)
        return float(ts.ckks_vector_from(context, back).decrypt()[0])

    figures = _repeated(one, X @ w + b, repeats)
    return {"ring": ring, **figures, "sent_bytes": sizes[0], "received_bytes": sizes[1]}


def ckks_columns(repeats: int) -> dict[str, Any]:
    """4,096 enterprises at once: a ciphertext per feature, one slot per enterprise, no rotation."""
    import tenseal as ts

    X, w, b = data(BATCH)
    context = ts.context(ts.SCHEME_TYPE.CKKS, _SLOTS_RING, coeff_mod_bit_sizes=[60, 40, 60])
    context.global_scale = 2.0**40
    expected = X @ w + b
    seconds, worst, sizes = [], 0.0, (0, 0)
    for _ in range(repeats + 1):
        started = time.perf_counter()
        sent = [ts.ckks_vector(context, column.tolist()).serialize() for column in X.T]
        total = None
        for column, weight in zip(sent, w, strict=True):
            term = ts.ckks_vector_from(context, column) * float(weight)
            total = term if total is None else total + term
        assert total is not None
        back = (total + [b] * BATCH).serialize()
        found = np.array(ts.ckks_vector_from(context, back).decrypt())
        seconds.append(time.perf_counter() - started)
        worst = max(worst, float(np.abs(found - expected).max()))
        sizes = (sum(map(len, sent)), len(back))
    median = float(np.median(seconds[1:]))
    return {
        "ring": _SLOTS_RING,
        "batch": BATCH,
        "p50_ms": median * 1e3,
        "scores_per_s": BATCH / median,
        "max_error": worst,
        "sent_bytes": sizes[0],
        "received_bytes": sizes[1],
        "n": repeats,
    }


def paillier(repeats: int) -> dict[str, Any]:
    """One enterprise: 23 encrypted features times plain weights (python-phe, 2,048 bits)."""
    from phe import paillier as phe

    X, w, b = data(repeats)
    public, private = phe.generate_paillier_keypair(n_length=_PAILLIER_BITS)

    def one(k: int) -> float:
        sent = [public.encrypt(float(value)) for value in X[k]]
        total = sent[0] * float(w[0])
        for value, weight in zip(sent[1:], w[1:], strict=True):
            total = total + value * float(weight)
        return float(private.decrypt(total + b))

    figures = _repeated(one, X @ w + b, repeats)
    size = _PAILLIER_BITS // 4
    return {
        "bits": _PAILLIER_BITS,
        **figures,
        "sent_bytes": FEATURES * size,
        "received_bytes": size,
    }


def concrete(python: str, *, trees: bool) -> dict[str, Any]:
    """Concrete ML in its own environment, whose dependencies differ from ours."""
    words = [python, str(_SCRIPT), *(["--trees"] if trees else [])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def baselines(*, quick: bool, python: str | None) -> dict[str, Any]:
    """Measure all that are installed."""
    out: dict[str, Any] = {
        "ckks_row_tutorial": ckks_row(10 if quick else 200, precise=False),
        "ckks_row": ckks_row(10 if quick else 200, precise=True),
        "ckks_columns": ckks_columns(1 if quick else 5),
        "paillier": paillier(1 if quick else 10),
    }
    if python:
        out["concrete_ml"] = concrete(python, trees=False)
    return out
