"""What a hub or an outsider can send: every frame is taken exactly once, in order, or refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pytest

from fedcredit.errors import (
    AuthenticationError,
    FedCreditError,
    PeerProtocolError,
    SessionLost,
)
from fedcredit.node import channel as channel_module
from fedcredit.node.channel import PeerKey, Timeouts
from fedcredit.node.connection import HubConnection, hub_status
from fedcredit.node.driver import drive
from fedcredit.node.frames import SCHEMA, Frame, FrameType, piece_batch
from fedcredit.node.handshake import answer_proposal, read_proposal
from fedcredit.node.link import Link
from fedcredit.node.opening import proposal_id
from fedcredit.node.sessions import Sessions
from fedcredit.wire import (
    Abort,
    Envelope,
    Identity,
    Peers,
    Sealer,
    Transcript,
    decode,
    encode,
    new_session,
)
from tests.node.conftest import Federation, uri_of
from tests.node.toy import Other, Ping, ping

HERE, THERE, ELSEWHERE = b"h" * 16, b"t" * 16, b"e" * 16


@pytest.fixture
def sessions(federation: Federation) -> Sessions:
    def outage(_: float) -> AssertionError:
        raise AssertionError("no test waits for the hub")

    made = Sessions(federation.signing("platform"), HERE, Timeouts(idle=0.0, absence=1e9), outage)
    made.on_notice({"event": "welcome", "online": []})
    return made


def frames_of(envelope: Envelope, piece: int = 1 << 20) -> list[tuple[Frame, pa.RecordBatch]]:
    size = envelope.body.size
    return [
        (
            Frame(
                FrameType.ENVELOPE,
                envelope.sender,
                envelope.recipient,
                THERE,
                HERE,
                envelope.session,
                0,
                offset,
                size,
                rest=envelope.header(),
            ),
            piece_batch(envelope.body.slice(offset, min(piece, size - offset))),
        )
        for offset in range(0, size, piece)
    ]


def damaged(rng: random.Random, frame: Frame, batch: pa.RecordBatch):
    """Return the frame with one thing changed, so that it must not be taken."""
    body = bytearray(batch.column(0)[0].as_buffer().to_pybytes())
    kind = rng.randrange(9)
    if kind == 0:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        body = body[: rng.randrange(len(body))]
    elif kind == 2:
        rest = bytearray(frame.rest)
        rest[rng.randrange(len(rest))] ^= 1 << rng.randrange(8)
        frame = dataclasses.replace(frame, rest=bytes(rest))
    elif kind == 3:
        frame = dataclasses.replace(frame, rest=frame.rest[: rng.randrange(len(frame.rest))])
    elif kind == 4:
        frame = dataclasses.replace(frame, total=frame.total + rng.randrange(1, 1 << 62))
    elif kind == 5:
        frame = dataclasses.replace(frame, offset=frame.offset + rng.randrange(1, 1 << 62))
    elif kind == 6:
        frame = dataclasses.replace(frame, sender=rng.choice(["social", "platform", "x", ""]))
    elif kind == 7:
        frame = dataclasses.replace(frame, sender_boot=ELSEWHERE)
    else:
        frame = dataclasses.replace(frame, recipient_boot=ELSEWHERE)
    return frame, piece_batch(pa.py_buffer(bytes(body)))


def wild_batch(offsets: tuple[int, int]) -> pa.RecordBatch:
    """Return a batch whose offsets point outside its values, as only a stream can carry it."""
    raw = piece_batch(pa.py_buffer(b"abc")).serialize().to_pybytes()
    true, wild = (np.array(pair, np.int64).tobytes() for pair in ((0, 3), offsets))
    at = raw.rindex(true)
    patched = raw[:at] + wild + raw[at + len(wild) :]
    return pa.ipc.read_record_batch(pa.py_buffer(patched), SCHEMA)


def malformed_batch(rng: random.Random) -> pa.RecordBatch:
    two = pa.array([b"a", b"b"], pa.large_binary())
    null = pa.RecordBatch.from_arrays(
        [pa.array([None], pa.large_binary())], schema=SCHEMA.set(0, SCHEMA.field(0))
    )
    return rng.choice(
        [
            pa.RecordBatch.from_arrays([two], schema=SCHEMA),
            pa.RecordBatch.from_arrays([two[:0]], schema=SCHEMA),
            wild_batch((0, 1 << 40)),
            wild_batch((3, -5)),
            wild_batch((-(1 << 40), 3)),
            null,
            pa.record_batch({"piece": pa.array([1])}),
            pa.record_batch({"other": pa.array([b"x"], pa.large_binary())}),
        ]
    )


def give(sessions: Sessions, frame: Frame, batch: pa.RecordBatch | None) -> bool:
    """Hand a frame over as the link's reader does; False if it was refused."""
    try:
        sessions.dispatch(frame, batch)
    except FedCreditError:
        return False
    return True


@pytest.mark.parametrize("seed", range(4))
def test_only_what_was_signed_arrives_once_and_in_order(sessions, seed):
    rng = random.Random(seed)
    tax, mallory = Identity.generate("tax"), Identity.generate("tax")
    session = new_session()
    channel = sessions.open(session, {"tax": PeerKey(THERE, tax.public_key, serving=True)})
    sealer, forger = Sealer(tax, session), Sealer(mallory, session)
    foreign = Sealer(tax, new_session())
    true, sent, refused = [], [], 0
    for i in range(120):
        body = encode(Ping(i, np.full(rng.randrange(1, 3000), i % 251, np.uint8)))
        true.append(sealer.seal("platform", Ping.kind, body))
        sent.append(body.to_pybytes())
        # A hub's repertoire between two true envelopes, the next one among it.
        piece = rng.choice([200, 1 << 20])
        for _ in range(8):
            choice = rng.randrange(6)
            if choice == 0:
                old = rng.choice(true[:-1] or true)
                if old is true[-1]:
                    continue
                for item in frames_of(old):
                    assert give(sessions, *item)  # A repetition is no offence.
            elif choice == 1:
                ahead = dataclasses.replace(true[-1], sequence=i + rng.randrange(1, 5))
                for item in frames_of(ahead):
                    give(sessions, *item)
            elif choice == 2:
                forged = forger.seal("platform", Ping.kind, body)
                items = frames_of(dataclasses.replace(forged, sequence=i))
                refused += not all(give(sessions, *item) for item in items)
            elif choice == 3:
                stray = dataclasses.replace(foreign.seal("platform", Ping.kind, body), sequence=i)
                for frame, batch in frames_of(stray):
                    for inside in (frame, dataclasses.replace(frame, session=session)):
                        refused += not give(sessions, inside, batch)
            elif choice == 4:
                frame, batch = rng.choice(frames_of(true[-1], piece))
                refused += not give(sessions, *damaged(rng, frame, batch))
            else:
                frame, _ = rng.choice(frames_of(true[-1], piece))
                refused += not give(sessions, frame, malformed_batch(rng))
        for item in frames_of(true[-1], piece):
            assert give(sessions, *item)
    received = [channel.receive() for _ in true]
    assert [item.body.to_pybytes() for item in received] == sent
    assert all((item.sender, item.kind) == ("tax", Ping.kind) for item in received)
    assert all(item.body.address % 64 == 0 for item in received)
    assert refused > 300
    assert not channel._inbox


def test_random_frames_are_parsed_or_refused():
    rng = random.Random(5)
    good = Frame(FrameType.ENVELOPE, "tax", "platform", THERE, HERE, b"s" * 32, rest=b"r" * 90)
    assert Frame.decode(good.encode()) == good
    refused = 0
    for _ in range(5000):
        raw = bytearray(good.encode())
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        if rng.random() < 0.3:
            raw = raw[: rng.randrange(len(raw))]
        elif rng.random() < 0.05:
            raw = bytearray(rng.randbytes(rng.randrange(20_000)))
        try:
            Frame.decode(bytes(raw))
        except PeerProtocolError:
            refused += 1
    assert 1000 < refused < 5000


def test_oversized_bodies_are_refused_before_they_are_collected(sessions):
    tax, session = Identity.generate("tax"), new_session()
    sessions.open(session, {"tax": PeerKey(THERE, tax.public_key, serving=True)})
    sealer = Sealer(tax, session)
    big = sealer.seal("platform", Other.kind, pa.py_buffer(bytes(Other.max_bytes + 1)))
    with pytest.raises(PeerProtocolError, match="exceeds the size limit"):
        sessions.dispatch(*frames_of(big)[0])
    unknown = dataclasses.replace(big, kind="who.knows", body=pa.py_buffer(bytes(65 << 10)))
    with pytest.raises(PeerProtocolError, match="exceeds the size limit"):
        sessions.dispatch(*frames_of(unknown)[0])
    huge = Frame(FrameType.ENVELOPE, "tax", "platform", THERE, HERE, session, rest=big.header())
    with pytest.raises(PeerProtocolError, match="malformed or too large"):
        sessions.dispatch(huge, piece_batch(pa.py_buffer(bytes(65 << 20))))


def test_a_flood_ends_the_session_only(sessions, monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_INBOX", 10)
    tax, session = Identity.generate("tax"), new_session()
    channel = sessions.open(session, {"tax": PeerKey(THERE, tax.public_key, serving=True)})
    sealer = Sealer(tax, session)
    body = encode(Other(1))
    for _ in range(11):
        for item in frames_of(sealer.seal("platform", Other.kind, body)):
            assert give(sessions, *item)
    with pytest.raises(PeerProtocolError, match="more than this session can hold"):
        channel.receive()


def test_a_damaged_envelope_is_asked_for_again(sessions):
    tax, session = Identity.generate("tax"), new_session()
    channel = sessions.open(session, {"tax": PeerKey(THERE, tax.public_key, serving=True)})
    envelope = Sealer(tax, session).seal("platform", Other.kind, encode(Other(1)))
    other = Identity.generate("tax")
    forged = Sealer(other, session).seal("platform", Other.kind, encode(Other(2)))
    for _ in range(50):
        assert not give(sessions, *frames_of(forged)[0])
    asked = []
    while (item := sessions.sender.next(0.0)) is not None:
        asked.append(item[0])
    # Bounded, so that a hub cannot make two parties send for ever.
    assert [(frame.type, frame.ack, frame.resend) for frame in asked] == (
        [(FrameType.ACK, 0, True)] * 8
    )
    assert give(sessions, *frames_of(envelope)[0])
    assert channel.receive().kind == Other.kind


def test_resets_count_from_members_only(sessions):
    tax, session = Identity.generate("tax"), new_session()
    channel = sessions.open(session, {"tax": PeerKey(THERE, tax.public_key, serving=True)})
    reset = Frame(FrameType.RESET, "tax", "platform", THERE, HERE, session)
    assert not give(sessions, dataclasses.replace(reset, sender="social"), None)
    assert not give(sessions, dataclasses.replace(reset, sender_boot=ELSEWHERE), None)
    assert give(sessions, reset, None)
    with pytest.raises(SessionLost):
        channel.receive()


def signed(sessions: Sessions, items: list[tuple[str, pa.Buffer]]):
    """A session in which tax has validly signed ``items``."""
    tax, session = Identity.generate("tax"), new_session()
    channel = sessions.open(session, {"tax": PeerKey(THERE, tax.public_key, serving=True)})
    sealer = Sealer(tax, session)
    for kind, body in items:
        for item in frames_of(sealer.seal("platform", kind, body)):
            assert give(sessions, *item)
    return channel


async def expects_a_ping(peers: Peers) -> None:
    await peers["tax"].recv(Ping)


@pytest.mark.parametrize(
    ("kind", "body", "match"),
    [
        (Ping.kind, pa.py_buffer(b"no arrow stream at all"), "a message"),
        (Ping.kind, encode(Other(1)), "expected message toy.ping, found toy.other"),
        (Other.kind, encode(Other(1)), "expected message toy.ping, found toy.other"),
        ("who.knows", pa.py_buffer(b"x"), "a message"),
    ],
)
def test_signed_violations_abort_the_session_and_say_whose(sessions, kind, body, match):
    channel = signed(sessions, [(kind, body)])
    sessions.on_notice({"event": "online", "party": "tax", "boot": THERE.hex(), "serving": True})
    with pytest.raises(PeerProtocolError, match=match) as caught:
        drive(channel, expects_a_ping(Peers(["tax"])))
    assert "tax" in f"{caught.value.party} {caught.value.step}"
    frame, piece = sessions.sender.next(0.0)
    assert frame.type is FrameType.ACK or Envelope.parse(frame.rest, piece).kind == Abort.kind


def test_random_signed_bodies_never_crash_the_driver(sessions):
    rng = random.Random(3)
    good = encode(Ping(1, np.arange(50, dtype=np.uint8))).to_pybytes()
    for _ in range(300):
        raw = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        channel = signed(sessions, [(Ping.kind, pa.py_buffer(bytes(raw)))])
        with contextlib.suppress(FedCreditError):
            drive(channel, expects_a_ping(Peers(["tax"])))


# --- the same over a real hub -------------------------------------------------------------------


def raw_connection(federation: Federation, party: str, uri: str) -> tuple[HubConnection, bytes]:
    boot = random.Random(party).randbytes(16)
    connection = HubConnection(uri, federation.tls(party), "platform", boot=boot, serve=False)
    federation.later(connection.close)
    frame, _ = connection.read()
    assert json.loads(frame.rest)["event"] == "welcome"
    return connection, boot


def test_an_admitted_party_gone_bad_disturbs_nobody(federation: Federation):
    """Social floods hub and parties with garbage while tax and platform work."""
    uri = uri_of(federation.hub().port)
    node = federation.node("tax", uri)
    backend = federation.backend(uri, ("tax",))
    bad, boot = raw_connection(federation, "social", uri)
    rng = random.Random(11)
    sent = 0

    def attack(_: int) -> None:
        nonlocal sent
        targets = [("tax", node.link.boot), ("platform", backend.link.boot), ("tax", ELSEWHERE)]
        for _ in range(60):
            name, target = rng.choice(targets)
            frame = Frame(
                rng.choice(list(FrameType)),
                rng.choice(["social"] * 5 + ["tax", "platform", ""]),
                name,
                rng.choice([boot] * 5 + [node.link.boot, backend.link.boot]),
                target,
                rng.randbytes(32),
                rng.randrange(1 << 63),
                rng.randrange(3),
                rng.randrange(1 << 63),
                rest=rng.randbytes(rng.randrange(200)),
            )
            body = pa.py_buffer(rng.randbytes(100)) if rng.random() < 0.7 else None
            assert bad.write(frame, body)
            sent += 1

    total = backend.run(
        lambda p: ping(p, rounds=20, up=1000, down=1000, each=attack),
        job="s",
        transcript=Transcript(),
    )
    assert (total, sent) == (210, 1200)
    status = hub_status(uri, federation.tls("tax"), "platform")
    assert status["frames_refused"] > 100
    # The hub drops what names another sender; parties refuse what is addressed to them.
    assert node.link.refused > 0
    assert [job.state for job in node.jobs] == ["done"] or node.wait_idle(5)


def test_replayed_and_foreign_proposals_open_nothing(federation: Federation):
    """A hub that recorded a session's opening plays it to the provider again."""
    uri = uri_of(federation.hub().port)
    taken: list[tuple[Frame, pa.RecordBatch]] = []
    node = federation.node("tax", uri)
    dispatch = node.link.sessions.dispatch

    def record(frame: Frame, batch: pa.RecordBatch | None) -> None:
        if batch is not None:
            taken.append((frame, batch))
        dispatch(frame, batch)

    node.link.sessions.dispatch = record
    backend = federation.backend(uri, ("tax",), timeouts=Timeouts(linger=0.5))
    backend.run(lambda p: ping(p, rounds=2, up=1, down=1), job="first", transcript=Transcript())
    assert node.wait_idle(10)
    assert [job.state for job in node.jobs] == ["done"]
    recorded = list(taken)
    assert len(recorded) >= 6
    # The same process knows the session: nothing happens.
    for item in recorded:
        dispatch(*item)
    assert len(node.jobs) == 1

    # Another process of the provider, which remembers nothing, answers with a nonce of its own,
    # does not find it in the recorded list, and gives up.
    fresh = Link(federation.signing("tax"), federation.tls("tax"), uri, on_proposal=None)
    moved = [
        (dataclasses.replace(frame, recipient_boot=fresh.boot), batch) for frame, batch in recorded
    ]
    fresh.sessions.on_notice({"event": "welcome", "online": []})
    setup, proposal = read_proposal(fresh, *moved[0])
    fresh.sessions.dispatch(*moved[1])
    with pytest.raises(AuthenticationError, match="without this party's own nonce"):
        answer_proposal(fresh, setup, proposal)

    # What does not check is refused outright.
    frame, batch = recorded[0]
    other = federation.signing("social")
    with pytest.raises(AuthenticationError, match="for 'platform', not for 'social'"):
        read_proposal(
            fresh,
            *_resealed(frame, batch, other, coordinator="social"),
        )


def _resealed(frame, batch, credentials, **changes):
    """The proposal of another coordinator, who borrowed the platform's certificate."""
    proposal = dataclasses.replace(decode(batch.column(0)[0].as_buffer()), **changes)
    session = proposal_id(proposal.coordinator, proposal.nonce)
    body = encode(proposal)
    envelope = Sealer(credentials.identity, session).seal("tax", proposal.kind, body)
    return (
        dataclasses.replace(
            frame,
            sender=proposal.coordinator,
            session=session,
            total=body.size,
            rest=envelope.header(),
        ),
        piece_batch(body),
    )


def test_a_handler_never_sends_a_traceback(federation: Federation, monkeypatch, caplog):
    hub = federation.hub()
    uri = uri_of(hub.port)
    tls = federation.tls("tax")
    client = fl.FlightClient(
        uri,
        tls_root_certs=tls.ca,
        cert_chain=tls.certificate,
        private_key=tls.private_pem(),
        override_hostname="platform",
    )
    federation.later(client.close)

    def broken() -> None:
        raise RuntimeError("secret-value-4711")

    monkeypatch.setattr(hub, "status", broken)
    greet = fl.FlightDescriptor.for_command
    calls = [
        lambda: list(client.do_action(fl.Action("status", b""))),
        lambda: list(client.do_action(fl.Action("unheard-of", b""))),
        lambda: list(client.list_flights()),
        lambda: client.get_flight_info(greet(b"x")),
        lambda: client.do_get(fl.Ticket(b"x")).read_all(),
        lambda: _exchange(client, greet(b"{}")),
        lambda: _exchange(client, greet(b'{"protocol": 99, "boot": "00", "serve": true}')),
        lambda: _exchange(client, fl.FlightDescriptor.for_path("x")),
    ]
    for call in calls:
        with pytest.raises(fl.FlightServerError) as caught:
            call()
        text = str(caught.value)
        assert "Traceback" not in text
        assert ".py" not in text
        assert "4711" not in text


def _exchange(client, descriptor):
    writer, reader = client.do_exchange(descriptor)
    try:
        reader.read_chunk()
    finally:
        with contextlib.suppress(pa.ArrowException, OSError):
            writer.close()
