"""Bounded queues: who waits when somebody is slow, and what happens when nobody comes back."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from fedcredit.errors import PeerUnavailable
from fedcredit.node import channel as channel_module
from fedcredit.node.channel import PeerKey, Timeouts
from fedcredit.node.frames import Frame, FrameType, piece_batch
from fedcredit.node.handshake import open_session
from fedcredit.node.opening import session_id
from fedcredit.node.sessions import Sessions
from fedcredit.node.stream import Stream
from fedcredit.wire import Identity, Transcript, new_session
from tests.node.conftest import Federation, uri_of
from tests.node.toy import ping

PIECE = piece_batch(pa.py_buffer(bytes(100)))


class SlowWriter:
    """Stands for Flight's writer; every write waits until it is let through."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.taken = threading.Semaphore(0)
        self.written: list[bytes] = []

    def write_with_metadata(self, batch: pa.RecordBatch, metadata: bytes) -> None:
        self.taken.release()
        assert self.gate.acquire(timeout=20)
        self.written.append(metadata)

    def write_metadata(self, metadata: bytes) -> None:
        self.write_with_metadata(None, metadata)


@pytest.fixture
def slow():
    writer = SlowWriter()
    stream = Stream("tax", b"b" * 16, True, writer, queue_bytes=250, quiet=60.0)
    pump = threading.Thread(target=stream.pump)
    pump.start()
    yield stream, writer, pump
    stream.close()
    writer.gate.release(100)
    pump.join(20)
    assert not pump.is_alive()


def test_a_full_queue_holds_its_sender_and_loses_nothing(slow):
    stream, writer, pump = slow
    sent = [bytes([i]) for i in range(8)]
    results: list[bool] = []
    sender = threading.Thread(
        target=lambda: results.extend(stream.relay(m, PIECE, 100, 20.0) for m in sent)
    )
    sender.start()
    assert writer.taken.acquire(timeout=20)
    # One is being written and at most two more fit: the sender cannot be through.
    assert sender.is_alive()
    assert stream._queued <= 250
    for _ in sent:
        writer.gate.release()
    sender.join(20)
    stream.finish()
    assert results == [True] * 8
    pump.join(20)
    assert writer.written == sent


def test_a_recipient_that_takes_nothing_is_disconnected(slow):
    stream, writer, _ = slow
    assert stream.relay(b"1", PIECE, 100, 20.0)
    assert writer.taken.acquire(timeout=20)
    assert stream.relay(b"2", PIECE, 100, 20.0)
    assert not stream.relay(b"3", PIECE, 100, 0.05)
    assert stream.closed
    assert not stream.relay(b"4", PIECE, 100, 20.0)


def test_a_sender_waits_for_acknowledgements(federation: Federation, monkeypatch):
    """No more than the window is kept for resending; an acknowledgement opens it again."""
    monkeypatch.setattr(channel_module, "WINDOW_BYTES", 1000)
    here, there = b"h" * 16, b"t" * 16
    sessions = Sessions(
        federation.signing("platform"), here, Timeouts(idle=20, absence=20), lambda _: None
    )
    sessions.on_notice(
        {
            "event": "welcome",
            "online": [{"party": "tax", "boot": there.hex(), "serving": True}],
        }
    )
    session = new_session()
    key = Identity.generate("tax").public_key
    channel = sessions.open(session, {"tax": PeerKey(there, key, serving=True)})
    body = pa.py_buffer(bytes(400))
    done = threading.Semaphore(0)

    def send() -> None:
        for _ in range(6):
            channel.send("tax", "toy.ping", body)
            done.release()

    sender = threading.Thread(target=send)
    sender.start()
    outbox = channel.outboxes["tax"]
    for acknowledged in range(2, 7, 2):
        for _ in range(2):
            assert done.acquire(timeout=20)
        assert outbox.bytes <= 1000
        frame = Frame(FrameType.ACK, "tax", "platform", there, here, session, acknowledged)
        sessions.dispatch(frame, None)
    sender.join(20)
    assert outbox.empty

    # What was never sent cannot be acknowledged, and a larger message goes alone.
    sessions.dispatch(Frame(FrameType.ACK, "tax", "platform", there, here, session, 99), None)
    channel.send("tax", "toy.ping", pa.py_buffer(bytes(5000)))
    assert outbox.bytes == 5000


def test_pieces_of_two_sessions_take_turns(federation: Federation):
    here, there = b"h" * 16, b"t" * 16
    sessions = Sessions(federation.signing("platform"), here, Timeouts(), lambda _: None)
    sessions.on_notice(
        {
            "event": "welcome",
            "online": [{"party": "tax", "boot": there.hex(), "serving": True}],
        }
    )
    key = Identity.generate("tax").public_key
    channels = [
        sessions.open(new_session(), {"tax": PeerKey(there, key, serving=True)}) for _ in range(2)
    ]
    big = pa.py_buffer(np.zeros(3 * channel_module.PIECE_BYTES, np.uint8))
    for channel in channels:
        channel.send("tax", "toy.ping", big)
    with sessions.lock:
        order = [sessions.sender.next(0.0)[0].session for _ in range(6)]
        assert sessions.sender.next(0.0) is None
    assert order == [channels[0].session, channels[1].session] * 3


def test_sessions_of_a_vanished_coordinator_make_room(federation: Federation):
    uri = uri_of(federation.hub().port)
    node = federation.node("tax", uri, max_sessions=1)
    first = federation.backend(uri, ("tax",))
    open_session(first.link, "first", first.link.wait_for(["tax"]))
    # The process ends without a word.
    first.link._closing.set()
    first.link._connection.cancel()
    with node.link._state:
        assert node.link._state.wait_for(
            lambda: not node.link.is_present("platform", first.link.boot), 20
        )
    second = federation.backend(uri, ("tax",))
    role = lambda p: ping(p, rounds=1, up=1, down=1)  # noqa: E731
    assert second.run(role, job="second", transcript=Transcript()) == 1
    assert node.wait_idle(20)
    assert [(job.name, job.state, job.outcome) for job in node.jobs] == [
        ("first", "failed", "SessionLost"),
        ("second", "done", "served"),
    ]


def test_a_provider_ends_a_session_whose_coordinator_stays_away(federation: Federation):
    uri = uri_of(federation.hub().port)
    node = federation.node("tax", uri, timeouts=Timeouts(absence=0.1, linger=0.1))
    first = federation.backend(uri, ("tax",))
    open_session(first.link, "first", first.link.wait_for(["tax"]))
    first.link._closing.set()
    first.link._connection.cancel()
    assert node.wait_idle(20)
    assert [(job.state, job.outcome) for job in node.jobs] == [("failed", PeerUnavailable.__name__)]


def test_a_session_identifier_depends_on_every_part():
    base = ("job", "platform", ["tax", "social"], [b"a" * 32, b"b" * 32, b"c" * 32])
    variants = [
        ("job2", *base[1:]),
        ("jobp", "latform", *base[2:]),
        (*base[:2], ["social", "tax"], base[3]),
        (*base[:2], ["tax"], base[3]),
        (*base[:2], ["taxs", "ocial"], base[3]),
        (*base[:3], [b"a" * 32, b"c" * 32, b"b" * 32]),
        (*base[:3], [b"x" * 32, b"b" * 32, b"c" * 32]),
    ]
    identifiers = {session_id(*variant) for variant in [base, *variants]}
    assert len(identifiers) == len(variants) + 1
    assert session_id(*base, service=True) not in identifiers
    assert all(len(identifier) == 32 for identifier in identifiers)


def test_a_stop_waits_for_those_who_are_there_and_no_longer(federation: Federation):
    hub = federation.hub()
    uri = uri_of(hub.port)
    patient = Timeouts(idle=60, absence=60, handshake=10, linger=60)
    tax, social = (federation.node(name, uri, timeouts=patient) for name in ("tax", "social"))
    link = federation.backend(uri).link
    channel = open_session(link, "s", link.wait_for(("tax", "social")))
    link.close()  # without a word: both roles go on waiting for the platform
    for node in (tax, social):
        sessions = node.link.sessions
        with sessions.lock:
            gone = lambda s=sessions: ("platform", link.boot) not in s.presence  # noqa: E731
            assert sessions.state.wait_for(gone, 10)
    assert channel.closed
    assert [job.state for job in tax.jobs + social.jobs] == ["running"] * 2

    begin = time.monotonic()
    tax.stop()
    assert time.monotonic() - begin < 2
    # The abort has arrived all the same.
    assert social.wait_idle(10)
    assert [(job.state, job.outcome) for job in social.jobs] == [("failed", "SessionLost")]
    begin = time.monotonic()
    social.stop()
    assert time.monotonic() - begin < 2
