"""Sessions over a real hub with mutual TLS, all nodes in this process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcredit.errors import (
    FedCreditError,
    InputError,
    PeerProtocolError,
    PeerUnavailable,
    PolicyError,
    ProtocolError,
)
from fedcredit.node.channel import Timeouts
from fedcredit.node.connection import hub_status
from fedcredit.wire import Transcript
from tests.node.conftest import TIMEOUTS, Federation, uri_of
from tests.node.toy import Other, Ping, Start, ping


@pytest.fixture
def network(federation: Federation):
    uri = uri_of(federation.hub().port)
    nodes = {name: federation.node(name, uri) for name in ("tax", "social")}
    return federation.backend(uri), nodes, uri


def test_all_parties_exchange_messages(network):
    backend, nodes, _ = network
    transcript = Transcript(keep=True)
    total = backend.run(
        lambda peers: ping(peers, rounds=5, up=100, down=50, mode="ring"),
        job="test",
        transcript=transcript,
    )
    assert total == 2 * (1 + 2 + 3 + 4 + 5)
    counts = {key: count.messages for key, count in transcript.counts.items()}
    assert counts == {
        ("platform", "tax", "toy.start"): 1,
        ("platform", "social", "toy.start"): 1,
        ("platform", "tax", "toy.ping"): 5,
        ("platform", "social", "toy.ping"): 5,
        ("tax", "platform", "toy.ping"): 5,
        ("social", "platform", "toy.ping"): 5,
    }
    assert backend.link.refused == sum(node.link.refused for node in nodes.values()) == 0


def test_bodies_larger_than_a_piece_arrive_whole(network):
    backend, _, _ = network
    size = (9 << 20) + 12345
    role = lambda peers: ping(peers, rounds=2, up=size, down=size)  # noqa: E731
    assert backend.run(role, providers=["tax"], job="big", transcript=Transcript()) == 3


def test_sessions_run_at_the_same_time(network):
    backend, nodes, _ = network
    barrier = threading.Barrier(4)

    def run(_: int) -> int:
        # All four are in their first round together, or the barrier breaks.
        return backend.run(
            lambda peers: ping(
                peers, rounds=3, up=9, down=9, each=lambda i: i or barrier.wait(timeout=20)
            ),
            job="many",
            transcript=Transcript(),
        )

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [12] * 4
    assert [job.state for job in nodes["tax"].jobs].count("failed") == 0


def test_status_names_parties_and_sessions_to_admitted_callers(network, federation):
    backend, _, uri = network
    backend.run(lambda p: ping(p, rounds=1, up=1, down=1), job="s", transcript=Transcript())
    status = hub_status(uri, federation.tls("tax"), "platform")
    assert {name: len(streams) for name, streams in status["parties"].items()} == {
        "platform": 1,
        "tax": 1,
        "social": 1,
    }
    assert status["parties"]["tax"][0]["serving"]
    assert not status["parties"]["platform"][0]["serving"]
    assert status["parties"]["platform"][0]["bytes_in"] > 0
    assert status["frames_dropped"] == status["frames_refused"] == 0
    # The opening of the session and the session itself.
    assert {tuple(session["parties"]) for session in status["sessions"]} == {
        ("platform", "social", "tax")
    }
    assert len(status["sessions"]) == 2
    assert all(session["bytes"] > 0 for session in status["sessions"])


def test_a_failing_engine_ends_the_session_without_its_data(network, caplog):
    backend, _, _ = network
    with pytest.raises(ProtocolError, match=r"internal error \(ValueError\)") as caught:
        backend.run(
            lambda p: ping(p, rounds=1, up=1, down=1, mode="fail"),
            job="s",
            transcript=Transcript(),
        )
    assert caught.value.party in ("tax", "social")
    assert "4711" not in str(caught.value)
    assert "4711" not in caplog.text
    # The node goes on serving.
    assert (
        backend.run(lambda p: ping(p, rounds=1, up=1, down=1), job="s", transcript=Transcript())
        == 2
    )


def test_a_coordinators_error_reaches_every_provider(network):
    backend, nodes, _ = network

    async def role(peers):
        await peers.broadcast(Start("ping", 5, 1))
        raise PolicyError("enough.", step="toy")

    with pytest.raises(PolicyError, match="enough"):
        backend.run(role, job="s", transcript=Transcript())
    for node in nodes.values():
        assert node.wait_idle(10)
        assert [(job.state, job.outcome) for job in node.jobs] == [("failed", "PolicyError")]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_told_and_logged_as_such(network, interruption, caplog):
    backend, nodes, _ = network

    async def role(peers):
        await peers.broadcast(Start("ping", 5, 1))
        raise interruption

    with caplog.at_level("WARNING"):
        with pytest.raises(interruption):
            backend.run(role, job="s", transcript=Transcript())
        for node in nodes.values():
            assert node.wait_idle(10)
            assert [(job.state, job.outcome) for job in node.jobs] == [("failed", "ProtocolError")]
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("interrupted at platform") == 1
    told = [m for m in messages if m.endswith("ended: [party platform] interrupted at platform.")]
    assert len(told) == len(nodes)
    assert not any("internal error" in m or "a role failed" in m for m in messages)


def test_an_unexpected_message_is_a_protocol_error(network):
    backend, _, _ = network
    with pytest.raises(PeerProtocolError) as caught:
        backend.run(
            lambda p: ping(p, rounds=1, up=1, down=1, mode="wrong"),
            job="s",
            transcript=Transcript(),
        )
    assert (caught.value.found, caught.value.expected) == (Other.kind, Ping.kind)


def test_unknown_provider_and_unlisted_coordinator(federation):
    uri = uri_of(federation.hub().port)
    federation.node("tax", uri, coordinators=["social"])
    backend = federation.backend(uri, ("tax",))
    with pytest.raises(InputError, match="no provider 'customs'"):
        backend.run(
            lambda p: ping(p, rounds=1, up=1, down=1),
            providers=["customs"],
            job="s",
            transcript=Transcript(),
        )
    with pytest.raises(PolicyError, match="platform may not open sessions with tax") as caught:
        backend.run(lambda p: ping(p, rounds=1, up=1, down=1), job="s", transcript=Transcript())
    assert "coordinators" in caught.value.fix


def test_a_party_that_is_not_there_is_named(federation):
    uri = uri_of(federation.hub().port)
    federation.node("tax", uri)
    backend = federation.backend(uri, timeouts=Timeouts(absence=0.2))
    with pytest.raises(PeerUnavailable, match="not connected to the hub: social") as caught:
        backend.run(lambda p: ping(p, rounds=1, up=1, down=1), job="s", transcript=Transcript())
    assert caught.value.party == "social"


def test_a_silent_peer_is_named_after_the_idle_timeout(federation):
    uri = uri_of(federation.hub().port)
    for name in ("tax", "social"):
        federation.node(name, uri)
    backend = federation.backend(uri, timeouts=Timeouts(idle=0.2, absence=5, linger=1))

    async def role(peers):
        await peers.broadcast(Start("ping", 5, 1))
        await peers["social"].recv(Ping)

    with pytest.raises(PeerUnavailable, match="social is connected but has sent nothing"):
        backend.run(role, job="s", transcript=Transcript())


def test_a_full_node_declines(federation):
    uri = uri_of(federation.hub().port)
    federation.node("tax", uri, max_sessions=1)
    backend = federation.backend(uri, ("tax",))

    def second(i: int) -> None:
        if i:
            return
        with pytest.raises(PeerUnavailable, match="serves 1 sessions already"):
            backend.run(
                lambda p: ping(p, rounds=1, up=1, down=1), job="second", transcript=Transcript()
            )

    backend.run(
        lambda p: ping(p, rounds=2, up=1, down=1, each=second), job="s", transcript=Transcript()
    )


def test_two_processes_of_the_coordinator_work_side_by_side(network, federation):
    first, _, uri = network
    second = federation.backend(uri)
    run = lambda backend: backend.run(  # noqa: E731
        lambda p: ping(p, rounds=20, up=10, down=10), job="s", transcript=Transcript()
    )
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [first, second])) == [420, 420]


def test_a_second_serving_process_replaces_the_first(federation):
    uri = uri_of(federation.hub().port)
    old = federation.node("tax", uri)
    old.link.wait_connected()
    federation.node("tax", uri)
    with pytest.raises(FedCreditError, match="another process of this party serves"):
        old.run()
    backend = federation.backend(uri, ("tax",), timeouts=TIMEOUTS)
    role = lambda p: ping(p, rounds=1, up=1, down=1)  # noqa: E731
    assert backend.run(role, job="s", transcript=Transcript()) == 1


def test_status_file_and_graceful_stop(federation, tmp_path):
    uri = uri_of(federation.hub().port)
    node = federation.node("tax", uri, status_file=tmp_path / "status.json")
    events = []
    backend = federation.backend(
        uri,
        ("tax",),
        on_event=lambda event: events.append(event.kind),
        timeouts=Timeouts(idle=10, absence=0.3, handshake=5, linger=1),
    )

    def stop_in_the_second_round(i: int) -> None:
        if i == 1:
            node.stop()

    with pytest.raises(PeerUnavailable, match="not connected to the hub: tax"):
        backend.run(
            lambda p: ping(p, rounds=9, up=1, down=1, each=stop_in_the_second_round),
            job="s",
            transcript=Transcript(),
        )
    assert "lost" in events
    assert "reopening" in events
    text = (tmp_path / "status.json").read_text()
    assert '"state": "failed"' in text
    assert '"name": "s"' in text
