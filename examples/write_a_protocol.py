"""Write a protocol of your own: three bureaus add up their counts, nobody sees a single one.

Three bureaus count cases of arrears per size class; a platform may have the total only. Every two
bureaus agree on random pads that one adds and the other subtracts: what the platform receives is
uniform, and the pads cancel in the sum (Bonawitz et al., "Practical Secure Aggregation for
Privacy-Preserving Machine Learning", CCS 2017, without its recovery from absent parties).

::

    bureau i                    bureau j                       platform
      Key{X25519} <-----------> Key{X25519}
      Masked{counts + pads} ----------------------------------->  the sum of all is the total

==========  =====================================================================================
who         learns
==========  =====================================================================================
platform    the total per class
bureau      nothing; of a bureau against which all others collude, they learn the counts
==========  =====================================================================================

A role awaits only its peers, never a socket or a clock, so a test and a node run the same code.
"""

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcredit.errors import PeerProtocolError
from fedcredit.wire import Message, Peers, Transcript, U64x1, run_in_process

COUNTS = {"tax": [410, 96, 31, 4], "customs": [18, 22, 40, 11], "utilities": [233, 51, 9, 0]}


@dataclass(frozen=True, eq=False, repr=False)
class Key(Message, kind="example.key", max_bytes=4096, reveals="nothing: a fresh public key"):
    """Bureau to bureau: X25519 public key, 32 bytes."""

    public: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Masked(Message, kind="example.masked", max_bytes=65_536, reveals="with all others: the sum"):
    """Bureau to platform: counts plus pads modulo 2^64, shape (classes,); uniform by itself."""

    values: U64x1


async def bureau(me: str, peers: Peers, counts: list[int]) -> None:
    secret = X25519PrivateKey.generate()
    others = Peers(name for name in peers if name not in (me, "platform"))
    await others.broadcast(Key(secret.public_key().public_bytes_raw()))
    masked = np.array(counts, np.uint64)
    for name, key in (await others.gather(Key)).items():
        theirs = X25519PublicKey.from_public_bytes(key.public)
        pad = HKDF(SHA256(), 8 * len(counts), None, b"example").derive(secret.exchange(theirs))
        blend = np.add if me < name else np.subtract  # modulo 2^64
        masked = blend(masked, np.frombuffer(pad, "<u8"))
    await peers["platform"].send(Masked(masked))


async def platform(peers: Peers) -> list[int]:
    return sum(part.values for part in (await peers.gather(Masked)).values()).tolist()


def main() -> None:
    everyone = Peers(["platform", *COUNTS])
    roles = {name: bureau(name, everyone, counts) for name, counts in COUNTS.items()}
    roles["platform"] = platform(Peers(COUNTS))
    transcript = Transcript(keep=True)
    total = run_in_process(roles, transcript=transcript)["platform"]
    print(f"total {total}; in the clear {np.sum(list(COUNTS.values()), axis=0).tolist()}")
    for record in transcript.records:
        print(f"  {record.sender:>9} to {record.recipient:<9} {record.message}")
    (sent,) = transcript.between("utilities", "platform")
    print(f"utilities holds {COUNTS['utilities']}, the platform saw {sent.message.values.tolist()}")

    # A peer that runs something else is an error that names both messages, not a hang.
    confused = Peers(["platform"]).broadcast(Key(bytes(32)))
    try:
        run_in_process({"platform": platform(Peers(["tax"])), "tax": confused})
    except PeerProtocolError as error:
        print(error)


if __name__ == "__main__":
    main()
