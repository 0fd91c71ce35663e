"""What a tree costs in time and bytes, and which block size is cheapest.

A ciphertext carries the numbers of B rows. Large blocks mean fewer ciphertexts, so fewer bytes and
less work for the label holder, but more returned sums for the provider to hide and pack. The best
B depends on rows, bins, depth, the membership mode and the link; privacy does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedcredit.crypto.encsum_messages import SumAnswers
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.ntt import LANES

__all__ = [
    "BLOCKS",
    "MASK_CACHE_BYTES",
    "TreeEstimate",
    "choose_block",
    "estimate_blocks",
    "estimate_tree",
]

#: Block sizes that are considered, at the ring degree 4096.
BLOCKS = (256, 512, 1024, 2048)

#: What a provider spends on transformed masks, which are reused while the order of rows stays.
MASK_CACHE_BYTES = 1 << 30

# Microseconds on one core, measured with benchmarks.kernel; only their ratios matter.
_ENCRYPT = 1000.0  # one ciphertext, SEAL
_DECRYPT = 1300.0  # one packed answer
_EXPAND = 65.0  # seed and residues of one ciphertext at a provider
_MASK = 0.045  # one row of one group of 16 bins
_ADD = 0.040  # the same, for every vector
_HIDE = 450.0  # re-randomise, flood and pack one returned sum
_SELECT = 0.4  # oblivious selection, one row and level


@dataclass(frozen=True)
class TreeEstimate:
    """Expected cost of one tree with every provider at work.

    Attributes
    ----------
    block : int
        Rows per ciphertext.
    up_bytes, down_bytes : float
        Sent by the label holder to all providers, and received from them.
    label_seconds, provider_seconds : float
        CPU seconds of the label holder, and of the slowest provider.
    seconds : float
        Wall seconds: the slowest of label holder, provider and link, which work side by side.
    """

    block: int
    up_bytes: float
    down_bytes: float
    label_seconds: float
    provider_seconds: float
    seconds: float


def estimate_tree(
    profile: SumProfile,
    bins: Sequence[int],
    *,
    n_rows: int,
    depth: int,
    vectors: int,
    hide_membership: bool,
    threads: int = 2,
    mbit_per_second: float = 1000.0,
) -> TreeEstimate:
    """Estimate one tree of full depth.

    Parameters
    ----------
    profile : SumProfile
        With the block size to estimate for.
    bins : sequence of int
        Total bins of each provider.
    n_rows, depth : int
    vectors : int
        Encrypted vectors per node: 1 if gradient and hessian are packed, else 2.
    hide_membership : bool
    threads : int
        Of a provider.
    mbit_per_second : float
        Of the label holder's link.
    """
    nodes = [max(1, 2 ** (level - 1)) for level in range(depth)]
    if hide_membership:
        rows = float(n_rows * sum(nodes))  # every vector covers all rows
    else:
        rows = n_rows * (1 + 0.5 * (depth - 1))  # smaller siblings: half at most
    padding = 0.0 if hide_membership else 0.5 * sum(nodes)
    ciphertexts = (rows / profile.block + padding) * vectors
    one = profile.ciphertext_bytes(profile.block)
    up = ciphertexts * one * len(bins)
    down = label = 0.0
    slowest = 0.0
    for total in bins:
        groups = -(-total // LANES)
        sums = sum(nodes) * vectors * -(-total // profile.bins_per_mask)
        passes = nodes if hide_membership else [1] * sum(nodes)
        answers = sum(SumAnswers.count(profile, k * vectors, total) for k in passes)
        down += answers * 2 * profile.degree * profile.answer_bits / 8
        if not hide_membership:
            mask_rows = rows
        elif groups * LANES * n_rows * profile.primes * 4 <= MASK_CACHE_BYTES:
            mask_rows = 0.0  # transformed once for all trees
        else:
            mask_rows = float(n_rows * depth)
        work = groups * (mask_rows * _MASK + rows * vectors * _ADD)
        work += ciphertexts * _EXPAND + sums * _HIDE
        if hide_membership:
            down += n_rows * depth * 2
            up += n_rows * depth * 16.1
            work += n_rows * depth * _SELECT
        slowest = max(slowest, work)
        label += answers * _DECRYPT
    label += ciphertexts * _ENCRYPT
    link = max(up, down) * 8 / mbit_per_second
    wall = max(label, slowest / threads, link)
    return TreeEstimate(profile.block, up, down, label / 1e6, slowest / 1e6, wall / 1e6)


def estimate_blocks(
    profile_of: Callable[[int, int], Any], bins: Sequence[int], *, n_rows: int, **settings: Any
) -> list[TreeEstimate]:
    """Estimate one tree for every block size of :data:`BLOCKS`.

    Parameters
    ----------
    profile_of : callable (rows, block)
        Makes the profile.
    bins, n_rows, **settings
        See :func:`estimate_tree`.
    """
    return [
        estimate_tree(profile_of(n_rows, block), bins, n_rows=n_rows, **settings)
        for block in BLOCKS
    ]


def describe(estimates: Sequence[TreeEstimate], chosen: TreeEstimate) -> str:
    """Say in one line what was chosen and what the others would cost."""

    def cost(estimate: TreeEstimate) -> str:
        return f"{estimate.seconds:.2f} s and {estimate.up_bytes / 1e6:.1f} MB"

    others = "; ".join(f"{e.block}: {cost(e)}" for e in estimates if e is not chosen)
    return (
        f"{chosen.block} rows per ciphertext, an estimated {cost(chosen)} per tree "
        f"(instead of {others})"
    )


def choose_block(estimates: Sequence[TreeEstimate]) -> TreeEstimate:
    """Return the quickest estimate; of nearly equal ones that with the fewest bytes."""
    best = min(estimate.seconds for estimate in estimates)
    near = [estimate for estimate in estimates if estimate.seconds <= 1.05 * best]
    return min(near, key=lambda estimate: estimate.up_bytes)
