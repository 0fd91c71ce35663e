"""Conversations of an institution over a hub, and with processes that die."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcredit.errors import (
    FedCreditError,
    InputError,
    PeerUnavailable,
    PolicyError,
    ProtocolError,
    SessionLost,
)
from fedcredit.node.channel import Timeouts
from fedcredit.wire import Transcript
from tests.node.conftest import BANK, PARTIES, TIMEOUTS, Federation, read_line, uri_of
from tests.node.toy import Ping, asking, ping

EVERYBODY = (*PARTIES, BANK)


@pytest.fixture
def network(federation: Federation):
    uri = uri_of(federation.hub(EVERYBODY).port)
    nodes = {name: federation.node(name, uri, institutions=[BANK]) for name in PARTIES}
    return federation.connection(uri), nodes, uri


def test_many_runs_in_one_session_and_nothing_in_between(network, federation, caplog):
    connection, nodes, _ = network
    caplog.set_level("INFO")
    conversation = connection.open(PARTIES)
    assert connection.present() == tuple(sorted(PARTIES))
    assert [conversation.run(asking(i, 100_000)) for i in range(20)] == [
        2 * (i + 1) for i in range(20)
    ]
    counts = conversation.transcript.counts
    assert counts[BANK, "tax", "toy.ping"].messages == 20
    assert counts["platform", BANK, "toy.ping"].messages == 20
    assert all(len(node.jobs) == 1 for node in nodes.values())
    assert {node.jobs[0].state for node in nodes.values()} == {"running"}
    conversation.close()
    for node in nodes.values():
        assert node.wait_idle(10)
        job = node.jobs[0]
        assert (job.state, job.outcome, job.service) == ("done", "bank left", True)
        assert node.link.refused == 0
    assert not [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")]


def test_a_server_waits_for_its_institution_beyond_the_idle_timeout(federation):
    uri = uri_of(federation.hub(EVERYBODY).port)
    short = Timeouts(idle=0.05, absence=15, handshake=10, linger=2)
    nodes = [federation.node(name, uri, institutions=[BANK], timeouts=short) for name in PARTIES]
    conversation = federation.connection(uri).open(PARTIES)
    conversation.run(asking(1))
    # Longer than the idle timeout; a session that ended would be found idle before that.
    assert not any(node.wait_idle(0.1) for node in nodes)
    assert conversation.run(asking(2)) == 6


def test_eight_sessions_at_a_time(network):
    connection, nodes, _ = network
    barrier = threading.Barrier(8)

    def ask(_: int) -> list[int]:
        with connection.open(PARTIES) as conversation:
            # All eight are in their first request together, or the barrier breaks.
            first = conversation.run(asking(1, meanwhile=lambda: barrier.wait(timeout=20)))
            return [first, *(conversation.run(asking(i)) for i in range(5))]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[4, 2, 4, 6, 8, 10]] * 8
    for node in nodes.values():
        assert node.wait_idle(10)
        assert [job.state for job in node.jobs] == ["done"] * 8


def test_a_failing_server_ends_it_for_all_without_its_data(network, caplog):
    connection, nodes, _ = network
    conversation = connection.open(PARTIES)
    with pytest.raises(ProtocolError, match=r"internal error \(ValueError\)"):
        conversation.run(asking(-1))
    with pytest.raises(SessionLost, match="is over"):
        conversation.run(asking(1))
    assert all(node.wait_idle(10) for node in nodes.values())
    assert "4711" not in caplog.text
    assert connection.open(PARTIES).run(asking(1)) == 4


def test_a_failing_request_ends_it_for_all(network):
    connection, nodes, _ = network
    conversation = connection.open(PARTIES)

    async def role(peers):
        raise PolicyError("enough.", step="toy")

    with pytest.raises(PolicyError, match="enough"):
        conversation.run(role)
    for node in nodes.values():
        assert node.wait_idle(10)
        assert [(job.state, job.outcome) for job in node.jobs] == [("failed", "PolicyError")]


def test_closing_ends_a_run_of_another_thread(network):
    connection, nodes, _ = network
    conversation = connection.open(PARTIES)
    waits = threading.Event()

    async def role(peers):
        waits.set()
        await peers["tax"].recv(Ping)

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(conversation.run, role)
        assert waits.wait(10)
        connection.close()
        with pytest.raises(SessionLost, match="closed meanwhile"):
            run.result(10)
    assert all(node.wait_idle(10) for node in nodes.values())


def test_a_server_that_stops_in_good_order_is_known_before_the_next_request(network):
    connection, nodes, _ = network
    conversation = connection.open(PARTIES)
    assert conversation.run(asking(1)) == 4
    nodes["tax"].stop()
    assert all(node.wait_idle(10) for node in nodes.values())
    with pytest.raises(SessionLost, match="tax is shutting down") as caught:
        conversation.run(asking(1))
    assert (caught.value.party, caught.value.fix) == ("tax", "open another conversation")
    assert not conversation.is_open
    assert {node.jobs[0].outcome for node in nodes.values()} == {"SessionLost"}


def test_the_members_keys_are_those_of_their_certificates(network, federation):
    connection, _, _ = network
    conversation = connection.open(PARTIES)
    trust = federation.signing(BANK).trust
    keys, certificates = connection.keys(conversation), connection.certificates(conversation)
    assert list(keys) == list(certificates) == list(PARTIES)
    for name in PARTIES:
        assert certificates[name] == federation.signing(name).certificate
        assert trust.verify_signing(name, certificates[name]) == keys[name]


def test_members_are_checked(network):
    connection, _, _ = network
    for members in ([], ["tax", "tax"], ["tax", BANK]):
        with pytest.raises(InputError, match="each once"):
            connection.open(members)


def test_who_may_do_what(federation):
    """Jobs and the service are two rights, at every party; the hub admits whom it lists."""
    uri = uri_of(federation.hub([*PARTIES, BANK]).port)
    federation.node("tax", uri, coordinators=["platform"], institutions=[BANK])
    federation.node("social", uri, coordinators=[BANK], institutions=["platform"])
    bank, platform = federation.connection(uri), federation.connection(uri, "platform")
    with pytest.raises(PolicyError, match="bank may not use the service of social") as caught:
        bank.open(["tax", "social"])
    assert "[service] institutions" in caught.value.fix
    with pytest.raises(PolicyError, match="platform may not use the service of tax"):
        platform.open(["tax"])
    platform.open(["social"]).close()
    jobs = federation.backend(uri)
    job = lambda p: ping(p, rounds=1, up=1, down=1)  # noqa: E731
    with pytest.raises(PolicyError, match="platform may not open sessions with social"):
        jobs.run(job, providers=["social"], job="s", transcript=Transcript())
    assert jobs.run(job, providers=["tax"], job="s", transcript=Transcript()) == 1


def test_a_stranger_is_not_admitted_to_the_hub(federation):
    uri = uri_of(federation.hub().port)
    with pytest.raises(FedCreditError, match="does not admit bank"):
        federation.connection(uri).present()


def test_jobs_and_service_have_places_of_their_own(federation):
    uri = uri_of(federation.hub(EVERYBODY).port)
    federation.node("tax", uri, institutions=[BANK], max_sessions=1, max_service_sessions=1)
    connection, backend = federation.connection(uri), federation.backend(uri, ("tax",))
    conversation = connection.open(["tax"])
    with pytest.raises(PeerUnavailable, match="serves 1 sessions already") as caught:
        connection.open(["tax"])
    assert "[service] max_sessions" in caught.value.fix
    job = lambda p: ping(p, rounds=1, up=1, down=1)  # noqa: E731
    assert backend.run(job, job="s", transcript=Transcript()) == 1
    conversation.close()


def test_the_platform_serves_while_its_coordinators_come_and_go(network, federation):
    connection, nodes, uri = network
    conversation = connection.open(PARTIES)
    for i in range(3):
        backend = federation.backend(uri)
        asked = lambda r: conversation.run(asking(r))  # noqa: E731
        job = lambda p: ping(p, rounds=2, up=5, down=5, each=asked)  # noqa: B023, E731
        assert backend.run(job, job="train", transcript=Transcript()) == 6
        assert conversation.run(asking(i)) == 2 * (i + 1)
        backend.close()
        assert conversation.run(asking(i)) == 2 * (i + 1)
    assert [job.state for job in nodes["platform"].jobs] == ["running"]


# --- processes that die --------------------------------------------------------------------------


@pytest.fixture
def processes(federation: Federation):
    hub = federation.process("run_hub.py", 0, *EVERYBODY)
    uri = uri_of(int(read_line(hub)))
    parties = {name: federation.process("run_party.py", name, uri) for name in PARTIES}
    for process in parties.values():
        assert read_line(process) == "connected"
    return hub, uri, parties


def test_a_restarted_hub_and_a_killed_provider(federation: Federation, processes):
    hub, uri, parties = processes
    connection = federation.connection(uri)
    conversation = connection.open(PARTIES)

    def kill_hub() -> None:
        nonlocal hub
        hub.kill()
        hub.wait()
        hub = federation.process("run_hub.py", uri.rpartition(":")[2], *EVERYBODY)
        read_line(hub)

    # 1. Between two requests, and in the middle of one: the session goes on.
    assert conversation.run(asking(1)) == 4
    kill_hub()
    assert conversation.run(asking(2)) == 6
    assert conversation.run(asking(3, 500_000, meanwhile=kill_hub)) == 8
    assert conversation.transcript.counts["platform", BANK, "toy.ping"].messages == 3
    connection.link.wait_for(PARTIES)

    # 2. A provider that is killed and stays away is named; the others go on without it.
    def kill_tax() -> None:
        parties["tax"].kill()
        parties["tax"].wait()

    impatient = federation.connection(
        uri, timeouts=Timeouts(idle=20, absence=0.3, handshake=10, linger=2)
    )
    other = impatient.open(PARTIES)
    kill_tax()
    with pytest.raises(PeerUnavailable, match="tax has been away") as caught:
        other.run(asking(1))
    assert caught.value.party == "tax"
    assert impatient.present() == ("platform", "social")
    assert impatient.open(["platform", "social"]).run(asking(1)) == 2

    # 3. Once it is back, its sessions are known to be lost, and new ones are opened.
    parties["tax"] = federation.process("run_party.py", "tax", uri)
    assert read_line(parties["tax"]) == "connected"
    connection.link.wait_for(PARTIES)
    assert not conversation.is_open
    start = time.monotonic()
    with pytest.raises(SessionLost, match="tax has restarted") as caught:
        conversation.run(asking(1))
    assert time.monotonic() - start < 5
    assert caught.value.party == "tax"
    assert connection.open(PARTIES).run(asking(1)) == 4


def test_a_killed_institution(federation: Federation):
    uri = uri_of(federation.hub(EVERYBODY).port)
    short = Timeouts(idle=20, absence=0.5, handshake=10, linger=1)
    patient = {"platform": TIMEOUTS, "tax": short}
    nodes = {
        name: federation.node(
            name, uri, institutions=[BANK], timeouts=times, max_service_sessions=1
        )
        for name, times in patient.items()
    }
    bank = federation.process("run_bank.py", uri, *nodes)
    assert read_line(bank) == "2"
    assert not any(node.wait_idle(0.0) for node in nodes.values())
    bank.kill()
    bank.wait()
    # One party notices by itself; the other is told by it, and has its only place free again.
    assert all(node.wait_idle(10) for node in nodes.values())
    assert nodes["tax"].jobs[0].outcome == "PeerUnavailable"
    assert federation.connection(uri).open(list(nodes)).run(asking(1)) == 2


def test_a_killed_institution_that_comes_back_need_not_wait(federation: Federation):
    uri = uri_of(federation.hub(EVERYBODY).port)
    node = federation.node("platform", uri, institutions=[BANK], max_service_sessions=1)
    bank = federation.process("run_bank.py", uri, "platform")
    assert read_line(bank) == "0"
    connection = federation.connection(uri)
    with pytest.raises(PeerUnavailable, match="serves 1 sessions already"):
        connection.open(["platform"])
    bank.kill()
    bank.wait()
    deadline = time.monotonic() + 10
    while True:  # until the hub has seen the end of the connection
        try:
            assert connection.open(["platform"]).run(asking(1)) == 0
            break
        except PeerUnavailable:
            assert time.monotonic() < deadline
    assert node.jobs[0].outcome == "SessionLost"


def test_an_outage_that_the_servers_did_not_survive_is_noticed(federation: Federation):
    """The end that they announced was never delivered: the next request asks for it."""
    hub = federation.process("run_hub.py", 0, *EVERYBODY)
    port = int(read_line(hub))
    uri = uri_of(port)
    short = Timeouts(idle=20, absence=0.3, handshake=10, linger=0.1)
    nodes = [federation.node(name, uri, institutions=[BANK], timeouts=short) for name in PARTIES]
    conversation = federation.connection(uri).open(PARTIES)
    conversation.run(asking(1))
    hub.kill()
    hub.wait()
    for node in nodes:
        assert node.wait_idle(10)
        sessions = node.link.sessions
        with sessions.lock:  # they have given up telling the institution
            assert sessions.state.wait_for(lambda sessions=sessions: not sessions.busy, 10)
    hub = federation.process("run_hub.py", port, *EVERYBODY)
    read_line(hub)
    with pytest.raises(SessionLost, match="no longer knows this session"):
        conversation.run(asking(1))
