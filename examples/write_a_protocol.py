"""Write a protocol of your own: three bureaus add up their counts, nobody sees a single one.

A platform wants to know how many enterprises of each size class have arrears with *any* of three
bureaus, added up; no bureau shows its own counts. Every two bureaus agree on a random vector that
one adds and the other subtracts; what the platform receives is uniform, but the masks cancel in
the sum. (Masking with one-time pads, as in Bonawitz et al., "Practical Secure Aggregation for
Privacy-Preserving Machine Learning", CCS 2017, without its recovery from absent parties.)

::

    bureau i                    bureau j                       platform
      Key{X25519} <-----------> Key{X25519}
      Masked{counts + pads} ----------------------------------->  the sum of all is the total

==========  =====================================================================================
who         learns
==========  =====================================================================================
platform    the total per class; nothing else unless it colludes with bureaus
bureau      nothing; if all others collude with the platform, they learn its counts
==========  =====================================================================================

A role awaits only its peers: no socket, no clock. So both sides stand here one below the other, a
test runs them in one process, and a node runs the same coroutines over the network.
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
class Masked(Message, kind="example.masked", max_bytes=65_536, reveals="its part of the total"):
    """Bureau to platform: counts plus pads modulo 2^64, shape (classes,)."""

    values: U64x1


async def bureau(me: str, peers: Peers, counts: list[int]) -> None:
    secret = X25519PrivateKey.generate()
    others = [name for name in peers if name != "platform"]
    for name in others:
        await peers[name].send(Key(secret.public_key().public_bytes_raw()))
    masked = np.array(counts, np.uint64)
    for name in others:
        theirs = X25519PublicKey.from_public_bytes((await peers[name].recv(Key)).public)
        pad = HKDF(SHA256(), 8 * len(counts), None, b"example").derive(secret.exchange(theirs))
        words = np.frombuffer(pad, "<u8")
        masked = masked + words if me < name else masked - words  # modulo 2^64
    await peers["platform"].send(Masked(masked))


async def platform(peers: Peers) -> list[int]:
    parts = await peers.gather(Masked)
    return sum(part.values for part in parts.values()).tolist()


def parties() -> dict:
    roles = {"platform": platform(Peers(COUNTS))}
    for name, counts in COUNTS.items():
        others = [other for other in COUNTS if other != name]
        roles[name] = bureau(name, Peers(["platform", *others]), counts)
    return roles


def main() -> None:
    transcript = Transcript(keep=True)
    total = run_in_process(parties(), transcript=transcript)["platform"]
    print(f"total {total}; in the clear {np.sum(list(COUNTS.values()), axis=0).tolist()}")
    for record in transcript.records:
        print(f"  {record.sender:>9} to {record.recipient:<9} {record.message}")
    seen = transcript.between("utilities", "platform")[0].message.values
    print(f"utilities holds {COUNTS['utilities']}, the platform saw {seen.tolist()}")

    # A peer that runs something else is an error that names both messages, not a hang.
    async def confused(peers: Peers) -> None:
        await peers["platform"].send(Key(b"x" * 32))

    roles = {"platform": platform(Peers(["tax"])), "tax": confused(Peers(["platform"]))}
    try:
        run_in_process(roles)
    except PeerProtocolError as error:
        print(error)


if __name__ == "__main__":
    main()
