"""The benchmark of the service runs from end to end, and its answers are the models' own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_quick_run_writes_every_figure(tmp_path: Path):
    out = tmp_path / "scoring.json"
    words = ["-m", "benchmarks.scoring", "--quick", "--no-baselines", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(out.read_text())
    asked = {(one["model"], one["mode"]) for one in found["single"]}
    assert asked == {
        (model, mode)
        for model in ("sme-card@1", "sme-trees@1")
        for mode in ("homomorphic", "masked")
    }
    assert len(found["batch"]) == 3
    assert {one["kind"] for one in found["verify"]} == {"menu", "declared"}
    for one in (*found["single"], *found["batch"], *found["verify"]):
        assert 0 < one["p50_ms"] <= one["p99_ms"]
        # Every party works for a score, and it is the institution that is answered.
        assert one["sent_bytes"] > 0
        assert one["received_bytes"] > 0
    assert found["audit"]["appends_per_s"] > 0
    # The same size to whoever counts bytes, whatever is verified.
    menu, declared = found["verify"]
    assert menu["sent_bytes"] == declared["sent_bytes"]
    assert menu["received_bytes"] == declared["received_bytes"]
