"""Measure the encrypted-sum kernel: mask steps, key switches, encryption, a whole tree of passes.

    python -m benchmarks.kernel --rows 150000 --features 20 --bins 32 --block 512 --depth 5

All times are CPU seconds of this process; every pass is checked against ``numpy.bincount``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fedcredit.crypto.encsum_keyholder import SumKeyHolder, check_totals
from fedcredit.crypto.encsum_packing import PackingKeys
from fedcredit.crypto.encsum_pairs import encode_pair, fit_pair
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.encsum_provider import MaskPlan, SumAccumulator


class Stopwatch:
    """CPU seconds per name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Run ``work``, charge its CPU time to ``name`` and return its result."""
        start = time.process_time()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return result


def one_pass(holder, bins, n_bins, values, threads, watch, hidden=None):
    """Run one pass; return bytes up, bytes down, and whether all sums are exact."""
    profile, keys = holder.profile, holder.public_keys()
    plan = hidden or watch.run("provider: plan", lambda: MaskPlan(bins, n_bins, profile, threads))
    acc = watch.run(
        "provider: plan", lambda: SumAccumulator(profile, keys, plan, len(values), threads)
    )
    chunks = holder.encrypt(values)
    up = 0
    while (chunk := watch.run("label: encrypt", lambda: next(chunks, None))) is not None:
        up += chunk.seeds.nbytes + chunk.c0.nbytes
        watch.run("provider: masks and products", lambda c=chunk: acc.add(c))
    answers = watch.run("provider: hide, pack, switch", acc.finish)
    sums = watch.run("label: decrypt", lambda: holder.decrypt(answers, len(values), n_bins))
    check_totals(sums, n_bins, values.sum(axis=1))
    exact = True
    for v, vector in enumerate(values):
        expected = [_bincount(b, vector, k) for b, k in zip(bins, n_bins, strict=True)]
        exact &= np.array_equal(sums[v], np.concatenate(expected))
    return up, answers.nbytes, exact


def _bincount(bins, values, k):
    low = np.bincount(bins, values & 0xFFFFFF, k).astype(np.int64)
    return low + (np.bincount(bins, values >> 24, k).astype(np.int64) << 24)


def microseconds(work: Callable[[], object], repeat: int) -> float:
    work()
    start = time.process_time()
    for _ in range(repeat):
        work()
    return (time.process_time() - start) / repeat * 1e6


def details(profile: SumProfile) -> None:
    """Print the cost of every step for one profile."""
    holder = SumKeyHolder(profile)
    keys = holder.public_keys()
    rng = np.random.default_rng(1)
    n, rows = 16 * profile.block, 16
    values = rng.integers(0, 60, (1, n))
    chunk = next(iter(holder.encrypt(values)))
    encrypt = microseconds(lambda: next(iter(holder.encrypt(values))), 3) / 16
    times = []
    for features in (rows, 3 * rows):
        bins = rng.integers(0, 16, (features, n)).astype(np.uint8)
        plan = MaskPlan(bins, [16] * features, profile)

        def work(plan: MaskPlan = plan) -> None:
            SumAccumulator(profile, keys, plan, 1).add(chunk)

        times.append(microseconds(work, 3))
    step = (times[1] - times[0]) / (2 * rows * 16)
    masks = 16 // profile.bins_per_mask
    packing = PackingKeys.of(keys)
    levels = profile.primes
    node = (
        np.zeros((levels + 1, profile.degree), np.uint32),
        np.zeros((levels, profile.degree), np.uint32),
    )
    other = (node[0].copy(), node[1].copy())
    switch = microseconds(lambda: packing.merge(node, other, 0), 100)
    acc = SumAccumulator(profile, keys, MaskPlan(bins[:1], [16], profile), 1)
    hide = microseconds(lambda: acc._hidden(0, bytes(32)), 100)
    acc.add(chunk)
    answers = acc.finish()
    decrypt = microseconds(lambda: holder.decrypt(answers, 1, [16]), 20)
    print(
        f"per mask of {profile.bins_per_mask} bins (NTT, {levels} primes, c0 and c1): "
        f"{step / masks:.1f} us\nkey switch {switch:.0f} us, re-randomise and flood {hide:.0f} us, "
        f"encrypt {encrypt:.0f} us, decrypt {decrypt:.0f} us\n"
        f"keys once {keys.nbytes / 1e6:.2f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--bins", type=int, default=32)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--depth", type=int, default=5, help="levels of the tree")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bits", type=int, default=6, help="bits of g and of h")
    parser.add_argument("--hidden", action="store_true", help="hide which rows are in a node")
    parser.add_argument("--cache-mb", type=int, default=0, help="memory for transformed masks")
    args = parser.parse_args()
    profile = SumProfile.packed(args.rows, args.block)
    print(profile)
    details(profile)

    rng = np.random.default_rng(0)
    bins = rng.integers(0, args.bins, (args.features, args.rows)).astype(np.uint8)
    n_bins = [args.bins] * args.features
    limit = (1 << (args.bits - 1)) - 1
    g = np.clip(np.rint(rng.normal(0, limit / 6, args.rows)), -limit, limit).astype(np.int64)
    h = rng.integers(0, max(1, limit // 4), args.rows)
    fit = fit_pair(g, h, profile.plain_bits)
    values = encode_pair(g, h, fit.split_bits)
    holder = SumKeyHolder(profile)
    one_pass(holder, bins[:, :64], n_bins, values[None, :64], args.threads, Stopwatch())

    watch, up, down, exact, count = Stopwatch(), 0, 0, fit.fits, 0
    order = rng.permutation(args.rows)
    plan = MaskPlan(bins, n_bins, profile, args.threads) if args.hidden else None
    if plan and args.cache_mb:
        print(f"cache {plan.cache_masks(args.cache_mb << 20) / 1e6:.0f} MB")
    wall = time.perf_counter()
    for level in range(args.depth):
        # Below the root only every second node: its sibling follows by subtraction.
        nodes = np.array_split(order, 2**level)[:: 2 if level else 1]
        if plan:
            vectors = np.zeros((len(nodes), args.rows), np.int64)
            for v, node in enumerate(nodes):
                vectors[v, node] = values[node]
            passes = [(bins, vectors)]
        else:
            passes = [(bins[:, node], values[None, node]) for node in nodes]
        for part, vectors in passes:
            a, b, good = one_pass(holder, part, n_bins, vectors, args.threads, watch, plan)
            up, down, exact, count = up + a, down + b, exact and good, count + 1
    wall = time.perf_counter() - wall
    for name, seconds in watch.seconds.items():
        print(f"   {name:32s} {seconds:7.3f} s")
    sides = {
        side: sum(s for name, s in watch.seconds.items() if name.startswith(side))
        for side in ("label", "provider")
    }
    print(
        f"{'hidden' if plan else 'sorted'} n={args.rows} F={args.features} K={args.bins} "
        f"depth {args.depth} B={args.block}: exact={exact}; up {up / 1e6:.1f} MB, "
        f"down {down / 1e6:.2f} MB; label {sides['label']:.2f} s, provider "
        f"{sides['provider']:.2f} s CPU, wall {wall:.2f} s with {args.threads} thread(s); "
        f"{count} passes; distance 2^{profile.statistical_distance():.1f} per value"
    )


if __name__ == "__main__":
    main()
