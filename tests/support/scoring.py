"""A scoring session in one process, with parties whose values are given, and tampering peers."""

from dataclasses import dataclass

import numpy as np

from fedcredit.crypto.encscore import encode_parts, encode_values
from fedcredit.crypto.ntt import RingTables
from fedcredit.crypto.seal_io import read_plaintext
from fedcredit.protocols.scoring import (
    WordsAndNotes,
    institution_round,
    new_request,
    platform_answer,
    provider_answer,
    start_institution,
    start_party,
)
from fedcredit.protocols.scoring_messages import ScoreRequest
from fedcredit.wire import Message, Peers, Transcript, run_in_process

BANK, PLATFORM = "bank", "platform"
PROVIDERS = ("tax", "social", "customs", "power", "water")
SESSION = b"scoring session of a test"


def subjects_of(n, start=0):
    return tuple(f"91350100M{i:09d}" for i in range(start, start + n))


def consents_of(n):
    return tuple(f"sha256:{i:064x}" for i in range(n))


def made_up(providers, n, seed=0, bound=1 << 20):
    """Values of the platform and some providers."""
    rng = np.random.default_rng(seed)
    names = (PLATFORM, *PROVIDERS[:providers])
    return {name: rng.integers(-bound, bound, n) for name in names}


def answer_of(me, values, weights=None, calls=None):
    """The callback of a party that answers everything with its values."""

    def answer(request, digest):
        if calls is not None:
            calls.append((me, digest))
        encode = encode_values if me == PLATFORM else encode_parts
        return WordsAndNotes(
            encode(np.asarray(values))[None],
            note=f"note of {me}".encode(),
            receipt=lambda payload: f"receipt of {me}:".encode() + payload,
            metadata=b'{"model":"card@1"}' if me == PLATFORM else b"",
            own_weights=weights if me == PLATFORM else None,
        )

    return answer


class _Tampering:
    """A peer through which every message goes that a test wants to change."""

    def __init__(self, peer, change):
        self.name, self.recv, self.recv_any = peer.name, peer.recv, peer.recv_any
        self._send, self._change = peer.send, change

    async def send(self, message):
        changed = self._change(message)
        if changed is not None:
            await self._send(changed)


def peers_of(me, names, change=None):
    peers = Peers([name for name in names if name != me])
    if change is not None:
        peers._peers = {name: _Tampering(peer, change) for name, peer in peers.items()}
    return peers


@dataclass(frozen=True, eq=False, repr=False)
class End(Message, kind="test.end", reveals="that there are no more requests"):
    """Institution to every party: over."""


class Case:
    """One session: what every party has, how it answers, and what a party changes on the wire.

    ``run`` gets a coroutine function of ``(peers, side)`` for the institution.
    """

    def __init__(
        self,
        values,
        *,
        answers=None,
        changes=None,
        weights=None,
        own=False,
        platform_serves=platform_answer,
    ):
        self.values, self.changes, self.own = values, changes or {}, own
        self.providers = tuple(name for name in values if name != PLATFORM)
        self.answers = {name: answer_of(name, v, weights) for name, v in values.items()}
        self.answers.update(answers or {})
        self.platform_serves, self.sides = platform_serves, {}
        self.transcript = Transcript(keep=True)

    @property
    def total(self):
        return sum(self.values.values())

    def ask(self, side, mode="homomorphic", **options):
        n = len(self.values[PLATFORM])
        made = {
            "target": "card@1",
            "purpose": "credit_granting",
            "subjects": subjects_of(n),
            "consents": consents_of(n),
            "now": 1.8e9,
            "mode": mode,
        }
        return new_request(side, **(made | options))

    def run(self, asking):
        names = (BANK, *self.values)
        common = {"platform": PLATFORM, "providers": self.providers, "session": SESSION}

        async def bank():
            peers = peers_of(BANK, names, self.changes.get(BANK))
            side = await start_institution(peers, BANK, own_features=self.own, **common)
            self.sides[BANK] = side
            result = await asking(peers, side)
            await peers.broadcast(End())
            return result

        async def party(me):
            peers = peers_of(me, names, self.changes.get(me))
            side = await start_party(peers, me, institution=BANK, **common)
            self.sides[me] = side
            serve = self.platform_serves if me == PLATFORM else provider_answer
            rounds = 0
            while True:
                message = await peers[BANK].recv_any(ScoreRequest, End)
                if isinstance(message, End):
                    return rounds
                await serve(peers, side, message, self.answers[me])
                rounds += 1

        roles = {BANK: bank(), **{name: party(name) for name in self.values}}
        return run_in_process(roles, transcript=self.transcript)[BANK]

    def score(self, mode="homomorphic", times=1, **options):
        """Ask the same ``times`` times; give the answers."""

        async def asking(peers, side):
            return [
                await institution_round(peers, side, *self.ask(side, mode, **options))
                for _ in range(times)
            ]

        return self.run(asking)

    def messages(self, kind, sender=None):
        return [
            r.message
            for r in self.transcript.records
            if r.message.kind == kind and sender in (None, r.sender)
        ]


# ------------------------------------------------------------------------- what a secret key sees


def secret_of(keys):
    """Residues of the secret key at the points of our transform, (L + 1, N)."""
    context = keys.context
    tables = RingTables.of(context.degree, context.primes)
    secret = keys._generator.secret_key()  # its data live as long as it does
    flat = read_plaintext(secret.data())
    return flat.reshape(len(context.primes), context.degree)[:, tables.seal_order()]


def phase_of(keys, residues):
    """``c0 + c1 s`` of a ciphertext (2, L, N): residues (L, N)."""
    context = keys.context
    tables = RingTables.of(context.degree, context.primes)
    p = tables.primes[: residues.shape[1], None]
    c1 = tables.transform(residues[1].astype(np.uint32)).astype(np.uint64)
    product = (c1 * secret_of(keys)[: residues.shape[1]] % p).astype(np.uint32)
    return (tables.restore(product) + residues[0]) % p


def noise_of(holder, ciphertext):
    """Noise of a score ciphertext of all slots, int64 (4096,); the holder knows it."""
    keys = holder._keys
    residues = holder._residues(ciphertext, 4096)
    words = holder.decrypt(ciphertext)
    primes = [int(p) for p in holder._primes]
    modulus = int(np.prod([int(p) for p in primes], dtype=object))
    p = primes[0]
    t = 1 << 59
    # Modulo one prime: noise is far below it.
    remainder = (np.uint64(modulus % t) * words + np.uint64(t // 2)) & np.uint64(t - 1)
    lift = (t // 2 - remainder.astype(np.int64)) % p * pow(t, -1, p) % p
    found = (phase_of(keys, residues)[0].astype(np.int64) - lift) % p
    return np.where(found > p // 2, found - p, found)
