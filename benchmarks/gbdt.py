"""Measure joint tree training between a label holder and data providers in processes of their own.

    python -m benchmarks.gbdt                       # 30k and 150k rows, depth 3 and 5, both modes
    python -m benchmarks.gbdt --rows 1000000 --depth 5 --trees 2 --modes open
    python -m benchmarks.gbdt --json runs/gbdt.json

The label holder has 10 features, the provider 13 (or two providers share them), of 32 bins each.
Every message goes through codec, signature and a TCP socket. The first tree loads compiled code
and is not counted. LightGBM on the pooled columns runs in the same process as the label holder,
with the joint run over, and the joint trees' raw scores are compared with those of the same trees
grown on pooled data.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import platform
import resource
import secrets
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.table import Table

from benchmarks.link import Node, accept, free_port
from fedcredit.protocols.cost import TreeEstimate
from fedcredit.protocols.forest import (
    ForestParams,
    ForestState,
    LabelData,
    ProviderData,
    ProviderShare,
)
from fedcredit.protocols.gbdt import ForestHooks, train_label_holder
from fedcredit.protocols.gbdt_messages import TrainJob
from fedcredit.protocols.gbdt_provider import ProviderLimits, train_provider
from fedcredit.stats.tree_params import FeatureInfo, TreeParams
from fedcredit.wire import Peers, Transcript, new_session, run_in_process

LABEL = "platform"
OWN, OTHER, BINS = 10, 13, 32


def make_data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bins (features, rows) and labels at a rate of about 10 %."""
    rng = np.random.default_rng(7)
    bins = rng.integers(0, BINS, (OWN + OTHER, rows)).astype(np.uint8)
    scaled = (bins - BINS / 2) / BINS
    logit = 2 * scaled[0] + 2 * scaled[OWN] + 3 * scaled[OWN + 1] * scaled[1] - 2.4
    return bins, (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float64)


def shares(providers: int) -> list[range]:
    """Split the providers' features."""
    cuts = np.linspace(OWN, OWN + OTHER, providers + 1).astype(int)
    return [range(a, b) for a, b in itertools.pairwise(cuts)]


def make_params(case: dict[str, Any]) -> ForestParams:
    return ForestParams(
        n_estimators=case["trees"],
        tree=TreeParams(max_depth=case["depth"]),
        hide_membership=case["mode"] == "hidden",
        precision=case["precision"],
        block=case["block"],
    )


def infos(count: int) -> list[FeatureInfo]:
    return [FeatureInfo(n_bins=BINS) for _ in range(count)]


def usage() -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu": time.process_time(), "wall": time.perf_counter(), "peak": peak}


def label_data(case: dict[str, Any], own: int) -> LabelData:
    bins, y = make_data(case["rows"])
    train = np.ones(case["rows"], np.bool_)
    return LabelData(y, None, train, np.ascontiguousarray(bins[:own].T), infos(own))


def label_holder(node: Node, case: dict[str, Any], keys: Any, session: bytes) -> dict[str, Any]:
    """Train with the providers; figures are per tree, without the first one."""
    names = case["names"]
    marks: list[dict[str, float]] = []
    transcript = Transcript()

    def mark(*_: object) -> None:
        sent = sum(k.bytes for key, k in transcript.counts.items() if key[0] == LABEL)
        got = sum(k.bytes for key, k in transcript.counts.items() if key[1] == LABEL)
        marks.append({**usage(), "sent": sent, "received": got})

    plan: list[TreeEstimate] = []
    blocks = [case["block"]]

    def planned(estimates: Any, chosen: TreeEstimate) -> None:
        plan[:], blocks[:] = estimates, [chosen.block]

    job = TrainJob(
        "bench",
        "bench",
        np.arange(case["rows"], dtype=np.uint32),
        secrets.token_bytes(32),
        case["trees"],
        0,
        case["depth"],
        BINS,
        case["mode"] == "hidden",
        (),
        (),
        (),
    )
    role = train_label_holder(
        Peers(names),
        dict.fromkeys(names, job),
        label_data(case, OWN),
        make_params(case),
        ForestState(),
        ForestHooks(on_tree=mark, on_plan=planned),
        own_labels=[f"own{i}" for i in range(OWN)],
    )
    state, _ = node.drive(role, session, keys, transcript)
    pooled = grow_pooled(case)
    counted = len(marks) - 1
    return {
        "wall": (marks[-1]["wall"] - marks[0]["wall"]) / counted,
        "cpu": (marks[-1]["cpu"] - marks[0]["cpu"]) / counted,
        "up": (marks[-1]["sent"] - marks[0]["sent"]) / counted,
        "down": (marks[-1]["received"] - marks[0]["received"]) / counted,
        "peak": marks[-1]["peak"],
        "block": blocks[0],
        "plan": [dataclasses.asdict(estimate) for estimate in plan],
        "difference": float(np.abs(pooled - state.score).max()),
        "lightgbm": lightgbm_seconds(case),
    }


def grow_pooled(case: dict[str, Any]) -> np.ndarray:
    """Raw scores of the same trees with all features at the label holder."""
    role = train_label_holder(
        Peers([]),
        {},
        label_data(case, OWN + OTHER),
        make_params(case),
        ForestState(),
        own_labels=[f"f{i}" for i in range(OWN + OTHER)],
    )
    return run_in_process({LABEL: role})[LABEL][0].score


def lightgbm_seconds(case: dict[str, Any]) -> float:
    """Seconds per tree of LightGBM on the pooled columns, all cores."""
    import lightgbm

    bins, y = make_data(case["rows"])
    data = lightgbm.Dataset(bins.T.astype(np.float64), y, free_raw_data=False)
    settings = {
        "objective": "binary",
        "num_leaves": 2 ** case["depth"],
        "max_depth": case["depth"],
        "max_bin": BINS,
        "verbosity": -1,
        "num_threads": os.cpu_count(),
    }
    marks: list[float] = []
    lightgbm.train(settings, data, 21, callbacks=[lambda _: marks.append(time.perf_counter())])
    return (marks[-1] - marks[0]) / (len(marks) - 1)


def provider(node: Node, case: dict[str, Any], keys: Any, session: bytes) -> dict[str, Any]:
    """Serve one training job."""
    mine = shares(len(case["names"]))[case["names"].index(node.party)]
    bins = make_data(case["rows"])[0][mine.start : mine.stop].copy()
    marks: list[dict[str, float]] = []

    async def role() -> ProviderShare:
        peer = Peers([LABEL])[LABEL]
        job = await peer.recv(TrainJob)
        return await train_provider(
            peer,
            job,
            ProviderData(bins, infos(len(mine)), tuple(f"f{i}" for i in mine)),
            ProviderShare(),
            ProviderLimits(threads=case["threads"], cache_bytes=case["cache"] << 20),
            salt=job.salt + node.party.encode(),
            on_tree=lambda _: marks.append(usage()),
        )

    node.drive(role(), session, keys, Transcript())
    marks = marks[: case["trees"]]
    cpu = (marks[-1]["cpu"] - marks[0]["cpu"]) / (len(marks) - 1)
    return {"cpu": cpu, "peak": usage()["peak"]}


def run_party(
    name: str, ports: dict[str, int], cases: list[dict[str, Any]], pipe: Connection
) -> None:
    """Be one party for all cases."""
    if name == LABEL:
        sockets = {}
        for other, port in ports.items():
            sockets[other] = accept(port, pipe)
    else:
        sockets = {LABEL: socket.create_connection(("127.0.0.1", ports[name]))}
    node = Node(name, sockets)
    pipe.send_bytes(node.identity.public_key.public_bytes_raw())
    raw = pipe.recv()
    keys = {n: Ed25519PublicKey.from_public_bytes(raw[n]) for n in sockets}
    work = label_holder if name == LABEL else provider
    for case in cases:
        session = pipe.recv_bytes()
        pipe.send(work(node, case, keys, session))
    node.close()


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Run one case in fresh processes and return its figures."""
    context = multiprocessing.get_context("spawn")
    names = case["names"]
    ports = {name: free_port() for name in names}
    pipes, processes = {}, []
    for name in (LABEL, *names):
        pipes[name], child = context.Pipe()
        process = context.Process(target=run_party, args=(name, ports, [case], child))
        processes.append(process)
    processes[0].start()
    for process in processes[1:]:
        pipes[LABEL].recv_bytes()
        process.start()
    raw = {name: pipes[name].recv_bytes() for name in pipes}
    session = new_session()
    for pipe in pipes.values():
        pipe.send(raw)
        pipe.send_bytes(session)
    results = {name: pipe.recv() for name, pipe in pipes.items()}
    for process in processes:
        process.join()
    label = results[LABEL]
    return {
        **{k: case[k] for k in ("rows", "depth", "mode", "precision", "trees", "threads")},
        "block": label["block"],
        "plan": label["plan"],
        "providers": len(names),
        "s_per_tree": label["wall"],
        "label_cpu_s": label["cpu"],
        "provider_cpu_s": sum(results[name]["cpu"] for name in names),
        "up_mb": label["up"] / 1e6,
        "down_mb": label["down"] / 1e6,
        "label_peak_mb": label["peak"] / 1e6,
        "provider_peak_mb": max(results[name]["peak"] for name in names) / 1e6,
        "lightgbm_ms": label["lightgbm"] * 1e3,
        "ratio": label["wall"] / label["lightgbm"],
        "score_difference": label["difference"],
    }


def show(results: list[dict[str, Any]]) -> None:
    table = Table(title="Joint gradient-boosted trees, per tree", title_justify="left")
    for heading in (
        "rows",
        "depth",
        "mode",
        "B",
        "s",
        "CPU s label",
        "CPU s providers",
        "MB up",
        "MB down",
        "peak MB label / provider",
        "LightGBM ms",
        "ratio",
        "max |score difference|",
    ):
        table.add_column(heading, justify="right")
    for r in results:
        table.add_row(
            f"{r['rows']:,}",
            str(r["depth"]),
            r["mode"],
            str(r["block"]),
            f"{r['s_per_tree']:.2f}",
            f"{r['label_cpu_s']:.2f}",
            f"{r['provider_cpu_s']:.2f}",
            f"{r['up_mb']:.1f}",
            f"{r['down_mb']:.2f}",
            f"{r['label_peak_mb']:.0f} / {r['provider_peak_mb']:.0f}",
            f"{r['lightgbm_ms']:.1f}",
            f"{r['ratio']:.0f}",
            f"{r['score_difference']:.1e}",
        )
    Console(width=170).print(table)


def show_plan(result: dict[str, Any]) -> None:
    """Print what the cost model expected by block size: its trade of time against bytes."""
    title = f"Cost model: {result['rows']:,} rows, depth {result['depth']}, {result['mode']}"
    table = Table(title=title, title_justify="left")
    for heading in ("B", "s", "label CPU s", "provider CPU s", "MB up", "MB down", ""):
        table.add_column(heading, justify="right")
    for e in result["plan"]:
        table.add_row(
            str(e["block"]),
            f"{e['seconds']:.2f}",
            f"{e['label_seconds']:.2f}",
            f"{e['provider_seconds']:.2f}",
            f"{e['up_bytes'] / 1e6:.1f}",
            f"{e['down_bytes'] / 1e6:.2f}",
            "chosen" if e["block"] == result["block"] else "",
        )
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[30_000, 150_000])
    parser.add_argument("--depth", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--modes", nargs="+", default=["open", "hidden"])
    parser.add_argument("--precision", default="packed", choices=("packed", "exact", "high"))
    parser.add_argument("--block", type=int, nargs="+", default=[None], help="rows per ciphertext")
    parser.add_argument("--trees", type=int, default=4, help="the first one is not counted")
    parser.add_argument("--providers", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each provider")
    parser.add_argument("--cache", type=int, default=1024, help="MB for transformed masks")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    names = [f"provider{i + 1}" for i in range(options.providers)]
    results = []
    for rows in options.rows:
        for depth in options.depth:
            for mode in options.modes:
                for block in options.block:
                    case = {
                        "rows": rows,
                        "depth": depth,
                        "mode": mode,
                        "block": block,
                        "precision": options.precision,
                        "trees": options.trees,
                        "threads": options.threads,
                        "cache": options.cache,
                        "names": names,
                    }
                    results.append(measure(case))
                    if results[-1]["plan"]:
                        show_plan(results[-1])
                    show(results[-1:])
    if len(results) > 1:
        show(results)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {"cores": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
