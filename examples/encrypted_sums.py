"""The heart of fedcredit by itself: one party's numbers, summed by another's groups.

A platform has a number for every enterprise: what is overdue, in thousands of yuan. A tax bureau
knows the taxpayer rating of each. Both want the overdue amount per rating, without the platform
showing an amount or the bureau a rating. Gradient histograms of trees and the event counts of
weight of evidence are nothing but this sum, taken many times.

The platform encrypts its numbers under its own key (BFV, a block of rows per ciphertext). The
bureau multiplies them by plaintext 0/1 masks of its ratings and adds up: it holds no key and sees
only ciphertexts. Before an answer leaves it is re-randomised and drowned in noise ("flooded"),
because the noise of a bare product would tell the key holder which rows were in it.

==========  =====================================================================================
who         learns
==========  =====================================================================================
platform    for every rating the sum of its numbers (and what follows from a sum of few rows: the
            caller must keep groups from being small)
bureau      how many numbers there are
==========  =====================================================================================

The rows are aligned beforehand: row i is the same enterprise at both.
"""

import numpy as np

from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.protocols.encrypted_sums import SumChunk, SumClient, SumServer
from fedcredit.wire import Peers, Transcript, run_in_process

RATINGS = ["A", "B", "M", "C", "D"]


async def platform(peers: Peers, amounts: np.ndarray) -> np.ndarray:
    client = SumClient(SumProfile.exact(amounts.shape[1]))
    await client.open(peers)
    await client.request(peers, amounts)
    return await client.collect(peers["tax"], len(amounts), [len(RATINGS)])


async def bureau(peers: Peers, rating: np.ndarray) -> None:
    peer = peers["platform"]
    n_rows = rating.shape[1]
    server = await SumServer.open(peer, n_rows=n_rows)
    plan = server.plan(rating, np.array([len(RATINGS)]))
    await server.serve(peer, plan, 2, n_rows)


def main() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    rating = rng.choice(len(RATINGS), size=(1, n), p=[0.2, 0.45, 0.2, 0.1, 0.05]).astype(np.uint8)
    is_overdue = rng.random(n) < 0.02 * (1 + rating[0])
    overdue = np.where(is_overdue, rng.integers(10, 2_000, n), 0)
    # Two vectors in one pass: the amounts, and ones, whose sums are the counts of overdue rows.
    amounts = np.stack([overdue, is_overdue]).astype(np.int64)

    transcript = Transcript(keep=True)
    parties = {
        "platform": platform(Peers(["tax"]), amounts),
        "tax": bureau(Peers(["platform"]), rating),
    }
    sums = run_in_process(parties, transcript=transcript)["platform"]

    truth = np.stack([np.bincount(rating[0], row, len(RATINGS)) for row in amounts])
    print("rating  overdue, thousand yuan  enterprises")
    for name, amount, count in zip(RATINGS, *sums, strict=True):
        print(f"{name:>6}  {amount:>22,}  {count:>11,}")
    print(f"equal to the sums in the clear: {np.array_equal(sums, truth)}")

    print("\nOn the wire:")
    for (sender, recipient, kind), count in transcript.counts.items():
        print(f"  {sender:>8} to {recipient:<8}  {kind:<11} {count.bytes / 1e6:6.2f} MB")
    chunk = next(r.message for r in transcript.records if isinstance(r.message, SumChunk))
    share = np.unpackbits(np.asarray(chunk.c0)).mean()
    print(f"share of ones among the bits of the first ciphertexts: {share:.4f}")
    profile = SumProfile.exact(n)
    bound = profile.statistical_distance(sums.size)
    print(f"what the answers' noise can tell about the ratings: a distance of 2^{bound:.0f}")


if __name__ == "__main__":
    main()
