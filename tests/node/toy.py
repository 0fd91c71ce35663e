"""Toy protocols and an engine for transport tests.

A job: start, then rounds of ping and pong. The service: the institution pings all members, the
providers pass it on to the platform, which answers with the sum.
"""

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
    """Serves both protocols.

    ``served`` counts the rounds answered by this process, ``opened`` and ``ended`` the sessions
    of institutions.
    """

    def __init__(self, party: str) -> None:
        self.party = party
        self.served = self.opened = self.ended = 0

    async def serve_institution(self, peers: Peers, institution: str) -> str:
        self.opened += 1
        others = [peers[name] for name in peers if name != institution]
        try:
            while True:
                ask = await peers[institution].recv(Ping)
                if ask.value < 0:
                    raise ValueError("secret-value-4711")
                if self.party != "platform":
                    await peers["platform"].send(Ping(ask.value + 1, ask.data))
                    continue
                shares = [await peer.recv(Ping) for peer in others]
                await peers[institution].send(Ping(sum(s.value for s in shares), ask.data))
                self.served += 1
        finally:
            self.ended += 1

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


def asking(value: int, size: int = 10, *, meanwhile=lambda: None):
    """Make the role of one request: the answer is the sum of ``value + 1`` over the providers."""

    async def role(peers: Peers) -> int:
        await peers.broadcast(Ping(value, np.full(size, 9, np.uint8)))
        meanwhile()
        answer = await peers["platform"].recv(Ping)
        assert answer.data.size == size
        return answer.value

    return role
