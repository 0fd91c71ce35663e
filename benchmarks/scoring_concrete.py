"""Score under TFHE with Concrete ML; runs in an environment that has it and not this project.

    python -m venv concrete && concrete/bin/pip install concrete-ml
    concrete/bin/python benchmarks/scoring_concrete.py --trees

Client and server are in one process; quantised inputs are encrypted, evaluated and decrypted.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from typing import Any

import numpy as np

FEATURES, ROWS = 23, 2_000


def measure(model: Any, X: Any, y: Any, repeats: int) -> dict[str, Any]:
    """Fit, compile, and time one row at a time."""
    model.fit(X, y)
    started = time.perf_counter()
    circuit = model.compile(X[:500])
    compiling = time.perf_counter() - started
    started = time.perf_counter()
    circuit.client.keygen(force=True)
    keys = time.perf_counter() - started
    seconds = []
    for k in range(repeats + 1):
        started = time.perf_counter()
        model.predict(X[k : k + 1], fhe="execute")
        seconds.append(time.perf_counter() - started)
    return {
        "p50_ms": float(np.median(seconds[1:])) * 1e3,
        "compile_s": compiling,
        "keygen_s": keys,
        "n": repeats,
    }


def main() -> None:
    from concrete.ml.sklearn import LogisticRegression, XGBClassifier

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", action="store_true", help="100 trees of depth 5 too")
    options = parser.parse_args()
    rng = np.random.default_rng(3)
    X = rng.standard_normal((ROWS, FEATURES)).astype(np.float32)
    y = (X @ rng.standard_normal(FEATURES) + rng.standard_normal(ROWS) > 0).astype(int)
    out: dict[str, Any] = {"version": version("concrete-ml")}
    out["logistic"] = measure(LogisticRegression(n_bits=8), X, y, 20)
    if options.trees:
        trees = XGBClassifier(n_bits=6, n_estimators=100, max_depth=5)
        out["trees_100x5"] = measure(trees, X, y, 1)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
