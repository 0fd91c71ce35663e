"""A toy protocol and engine for transport tests: start, then rounds of ping and pong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.wire import Message, Peers, U8x1


@dataclass(frozen=True, eq=False, repr=False)
class Start(Message, kind="toy.start"):
    """Coordinator to provider: what to do."""

    mode: str
    rounds: int
    size: int


@dataclass(frozen=True, eq=False, repr=False)
class Ping(Message, kind="toy.ping", max_bytes=256 << 20):
    """Either way: a number and some bytes."""

    value: int
    data: U8x1


@dataclass(frozen=True, eq=False, repr=False)
class Other(Message, kind="toy.other", max_bytes=1 << 10):
    """A message that nobody expects."""

    value: int


class ToyEngine:
    """Serves the toy protocol; ``served`` counts the rounds answered by this process."""

    def __init__(self, party: str) -> None:
        self.party = party
        self.served = 0

    async def serve(self, peers: Peers, coordinator: str) -> str:
        start = await peers[coordinator].recv(Start)
        if start.mode == "fail":
            raise ValueError("secret-value-4711")
        others = [name for name in peers if name != coordinator]
        data = np.full(start.size, 7, np.uint8)
        for _ in range(start.rounds):
            ping = await peers[coordinator].recv(Ping)
            if start.mode == "ring":
                for name in others:
                    await peers[name].send(Ping(ping.value, data[:10]))
                for name in others:
                    assert (await peers[name].recv(Ping)).value == ping.value
            if start.mode == "wrong":
                await peers[coordinator].send(Other(1))
                continue
            await peers[coordinator].send(Ping(ping.value + 1, data))
            self.served += 1
        return "served"


async def ping(peers: Peers, *, rounds: int, up: int, down: int, mode: str = "ping", each=None):
    """Coordinate ``rounds`` rounds; return the sum of all answers."""
    await peers.broadcast(Start(mode, rounds, down))
    data, total = np.full(up, 5, np.uint8), 0
    for i in range(rounds):
        await peers.broadcast(Ping(i, data))
        for answer in (await peers.gather(Ping)).values():
            assert answer.value == i + 1
            assert answer.data.size == down
            assert not down or (answer.data[0], answer.data[-1]) == (7, 7)
            total += answer.value
        if each is not None:
            each(i)
    return total
