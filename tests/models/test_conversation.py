"""Conversations of an institution with servers in this process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcredit.errors import PeerProtocolError, SessionLost, SessionStalled
from fedcredit.models.backend import InProcessConversation
from tests.node.toy import Other, Ping, ToyEngine, asking

BANK = "bank"
PARTIES = ("platform", "tax", "social")


async def _unanswered(peers):
    await peers["tax"].recv(Ping)


async def _wrong(peers):
    await peers["platform"].send(Other(1))
    await peers["platform"].recv(Ping)


@pytest.fixture
def engines():
    return {name: ToyEngine(name) for name in PARTIES}


def test_many_runs_in_one_session_of_this_process(engines):
    conversation = InProcessConversation(BANK, engines)
    assert conversation.members == PARTIES
    assert [conversation.run(asking(i)) for i in range(20)] == [2 * (i + 1) for i in range(20)]
    assert {engine.opened for engine in engines.values()} == {1}
    counts = conversation.transcript.counts
    assert counts["tax", "platform", "toy.ping"].messages == 20
    assert counts["platform", BANK, "toy.ping"].messages == 20
    assert {engine.ended for engine in engines.values()} == {0}
    conversation.close()
    conversation.close()
    assert {engine.ended for engine in engines.values()} == {1}
    with pytest.raises(SessionLost, match="is over"):
        conversation.run(asking(1))


def test_runs_of_several_threads_wait_for_each_other(engines):
    with InProcessConversation(BANK, engines) as conversation, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: conversation.run(asking(i)), range(40)))
    assert answers == [2 * (i + 1) for i in range(40)]


@pytest.mark.parametrize(
    ("role", "error"),
    [(asking(-1), ValueError), (_unanswered, SessionStalled), (_wrong, PeerProtocolError)],
)
def test_a_failure_ends_a_conversation_of_this_process(engines, role, error):
    conversation = InProcessConversation(BANK, engines)
    conversation.run(asking(1))
    with pytest.raises(error):
        conversation.run(role)
    assert {engine.ended for engine in engines.values()} == {1}
    with pytest.raises(SessionLost, match="is over"):
        conversation.run(asking(1))
