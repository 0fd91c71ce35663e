"""Roles, sessions and the in-process run: order, errors, aborts, limits."""

import asyncio
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from fedcredit.errors import (
    BudgetError,
    InputError,
    PeerProtocolError,
    ProtocolError,
    SessionStalled,
)
from fedcredit.wire import (
    Goodbye,
    Identity,
    Message,
    Peer,
    Peers,
    Session,
    Transcript,
    U8x1,
    decode,
    encode,
    run_in_process,
)


@dataclass(frozen=True, eq=False, repr=False)
class Ask(Message, kind="test-session.ask"):
    number: int


@dataclass(frozen=True, eq=False, repr=False)
class Answer(Message, kind="test-session.answer"):
    number: int


@dataclass(frozen=True, eq=False, repr=False)
class Block(Message, kind="test-session.block"):
    data: U8x1


async def _ask(peer: Peer, number: int) -> int:
    await peer.send(Ask(number))
    return (await peer.recv(Answer)).number


async def _answer(peer: Peer) -> str:
    ask = await peer.recv(Ask)
    await peer.send(Answer(ask.number * 2))
    return "answered"


async def _wait(peer: Peer, kind: type[Message] = Answer) -> Message:
    return await peer.recv(kind)


async def _fail(error: BaseException) -> None:
    raise error


def test_two_parties():
    result = run_in_process({"a": _ask(Peer("b"), 21), "b": _answer(Peer("a"))})
    assert result == {"a": 42, "b": "answered"}


def test_three_parties_gather_in_the_order_of_the_peers():
    async def lead(peers: Peers) -> dict[str, int]:
        await peers.broadcast(Ask(5))
        return {name: m.number for name, m in (await peers.gather(Answer)).items()}

    async def follow(peer: Peer, factor: int) -> None:
        await peer.send(Answer((await peer.recv(Ask)).number * factor))

    peers = Peers(["c", "b"])
    result = run_in_process(
        {"a": lead(peers), "b": follow(Peer("a"), 2), "c": follow(Peer("a"), 3)}
    )
    assert list(result["a"].items()) == [("c", 15), ("b", 10)]
    assert list(peers) == ["c", "b"]
    assert len(peers) == 2
    assert repr(peers["b"]) == "Peer('b')"


def test_peers_have_the_keys_that_are_known():
    key = Identity.generate("b").public_key
    peers = Peers(["b", "c"], {"b": key, "c": None, "d": key})
    assert [peers[name].key for name in peers] == [key, None]
    assert Peers(["b"])["b"].key is None
    assert Peer("b", key).key is key
    assert repr(peers["b"]) == "Peer('b')"


def test_a_ring_of_three():
    async def member(before: Peer, after: Peer, number: int) -> int:
        await after.send(Ask(number))
        return (await before.recv(Ask)).number

    names = ["a", "b", "c"]
    roles = {
        name: member(Peer(names[i - 1]), Peer(names[(i + 1) % 3]), i)
        for i, name in enumerate(names)
    }
    assert run_in_process(roles) == {"a": 2, "b": 0, "c": 1}


def test_recv_any_takes_either_kind():
    async def either(peer: Peer) -> list[str]:
        return [(await peer.recv_any(Ask, Answer)).kind for _ in range(2)]

    async def both(peer: Peer) -> None:
        await peer.send(Answer(1))
        await peer.send(Ask(1))

    result = run_in_process({"a": either(Peer("b")), "b": both(Peer("a"))})
    assert result["a"] == [Answer.kind, Ask.kind]


def test_messages_of_other_peers_wait_their_turn():
    session = Session(_two_in_order(), party="a")
    assert list(session.outgoing()) == []
    session.deliver("c", Answer(3))
    assert list(session.outgoing()) == []
    assert session.waiting_for == "b"
    session.deliver("b", Answer(2))
    assert list(session.outgoing()) == []
    assert session.done
    assert session.result == (2, 3)
    assert session.waiting_for is None


async def _two_in_order() -> tuple[int, int]:
    return (await Peer("b").recv(Answer)).number, (await Peer("c").recv(Answer)).number


def test_messages_pass_through_the_codec():
    sent = np.arange(4, dtype=np.uint8)

    async def give(peer: Peer) -> None:
        await peer.send(Block(sent))

    got = run_in_process({"a": give(Peer("b")), "b": _wait(Peer("a"), Block)})["b"].data
    assert not np.shares_memory(sent, got)
    np.testing.assert_array_equal(sent, got)


def test_a_value_that_cannot_be_encoded_ends_the_run():
    async def give(peer: Peer) -> None:
        await peer.send(Ask("no number"))  # type: ignore[arg-type]

    with pytest.raises(InputError, match=r"test-session\.ask\.number"):
        run_in_process({"a": give(Peer("b")), "b": _wait(Peer("a"), Ask)})


def test_a_message_leaves_before_the_next_is_computed():
    log = []

    async def stream(peer: Peer) -> None:
        for i in range(3):
            log.append(f"compute {i}")
            await peer.send(Ask(i))
        log.append("end")

    session = Session(stream(Peer("b")))
    for recipient, message in session.outgoing():
        log.append(f"to {recipient}: {message.number}")
    assert log == [
        "compute 0",
        "to b: 0",
        "compute 1",
        "to b: 1",
        "compute 2",
        "to b: 2",
        "end",
    ]
    assert session.done


def test_nothing_runs_before_outgoing_and_a_dropped_iterator_loses_nothing():
    started = []

    async def stream(peer: Peer) -> str:
        started.append(True)
        for i in range(3):
            await peer.send(Ask(i))
        return "sent"

    session = Session(stream(Peer("b")))
    assert not started
    sent = [next(session.outgoing())[1].number for _ in range(3)]
    assert sent == [0, 1, 2]
    assert list(session.outgoing()) == []
    assert session.result == "sent"


def test_a_long_stream_is_consumed_while_it_is_made():
    """In one process as over a network: more blocks than may ever be queued."""
    ahead, most = 0, 0

    async def make(peer: Peer) -> None:
        nonlocal ahead, most
        for i in range(5000):
            ahead += 1
            most = max(most, ahead)
            await peer.send(Ask(i))

    async def take(peer: Peer) -> int:
        nonlocal ahead
        total = 0
        for _ in range(5000):
            total += (await peer.recv(Ask)).number
            ahead -= 1
        return total

    result = run_in_process({"a": make(Peer("b")), "b": take(Peer("a"))})
    assert result["b"] == 5000 * 4999 // 2
    assert most <= 2


def test_a_wrong_message_names_found_and_expected():
    async def wrong(peer: Peer) -> None:
        await peer.send(Answer(1))
        await peer.recv(Answer)

    with pytest.raises(PeerProtocolError) as caught:
        run_in_process({"a": wrong(Peer("b")), "b": _answer(Peer("a"))})
    error = caught.value
    assert (error.found, error.expected) == (Answer.kind, Ask.kind)
    assert (error.party, error.step) == ("b", "receive from a")


def test_a_wrong_message_ends_the_session_and_the_role_cannot_catch_it():
    cleaned = []

    async def stubborn(peer: Peer) -> str:
        try:
            await peer.recv(Ask)
        except PeerProtocolError:  # pragma: no cover - must not be reached
            cleaned.append("caught")
        finally:
            cleaned.append("cleaned")
        return "went on"

    session = Session(stubborn(Peer("b")), party="a")
    list(session.outgoing())
    session.deliver("b", Answer(1))
    with pytest.raises(PeerProtocolError, match="expected message"):
        list(session.outgoing())
    assert cleaned == ["cleaned"]
    assert session.done
    with pytest.raises(ProtocolError, match="ended without a result"):
        _ = session.result


def test_a_message_after_the_end_is_refused():
    session = Session(_answer(Peer("b")), party="a")
    session.deliver("b", Ask(1))
    list(session.outgoing())
    with pytest.raises(PeerProtocolError, match="after the end") as caught:
        session.deliver("b", Ask(2))
    assert (caught.value.found, caught.value.party) == (Ask.kind, "a")


def test_an_unread_message_at_the_end_is_refused():
    """The other order of the same fault: it must not depend on who is faster."""
    session = Session(_answer(Peer("b")), party="a")
    session.deliver("b", Ask(1))
    session.deliver("b", Ask(2))
    with pytest.raises(PeerProtocolError, match=r"ask from b was still unread") as caught:
        list(session.outgoing())
    assert caught.value.party == "a"
    assert session.done
    with pytest.raises(ProtocolError):
        _ = session.result


def test_a_flood_of_messages_is_refused():
    session = Session(_wait(Peer("c")), party="a", max_queued=3)
    for i in range(3):
        session.deliver("b", Ask(i))
    with pytest.raises(PeerProtocolError, match="b sent more than 3 messages"):
        session.deliver("b", Ask(3))
    session.deliver("c", Answer(1))  # another peer is not hindered
    session.close()


def test_a_flood_of_bytes_is_refused():
    block = Block(np.zeros(600, np.uint8))
    session = Session(_wait(Peer("c")), party="a", max_queued_bytes=1000)
    session.deliver("b", block)
    with pytest.raises(PeerProtocolError, match="or 1000 bytes ahead"):
        session.deliver("b", block)
    session.close()


async def _read_blocks(peer: Peer, n: int) -> int:
    return sum([(await peer.recv(Block)).data.size for _ in range(n)])


def test_reading_makes_room():
    session = Session(_read_blocks(Peer("b"), 6), max_queued_bytes=1000)
    for _ in range(3):
        session.deliver("b", Block(np.zeros(400, np.uint8)))
        session.deliver("b", Block(np.zeros(500, np.uint8)))
        assert list(session.outgoing()) == []
    assert session.result == 2700


def test_one_message_is_never_too_large():

    session = Session(_read_blocks(Peer("b"), 3), max_queued_bytes=1000)
    for _ in range(3):
        session.deliver("b", Block(np.zeros(5000, np.uint8)))
        assert list(session.outgoing()) == []
    assert session.result == 15000


def test_a_stall_names_who_waits_for_whom():
    with pytest.raises(SessionStalled, match=r"every role waits: a for b, b for a\."):
        run_in_process({"a": _wait(Peer("b")), "b": _wait(Peer("a"))})


def test_a_stall_after_some_messages():
    async def greedy(peer: Peer) -> None:
        await _ask(peer, 1)
        await peer.recv(Answer)

    with pytest.raises(SessionStalled, match=r"every role waits: a for b \(has ended\)\."):
        run_in_process({"a": greedy(Peer("b")), "b": _answer(Peer("a"))})


def test_a_stall_on_a_party_that_is_not_there():
    with pytest.raises(SessionStalled, match=r"a for z \(no such party\)"):
        run_in_process({"a": _wait(Peer("z"))})


def test_sending_to_a_party_that_is_not_there():
    with pytest.raises(ProtocolError, match="there is no party z") as caught:
        run_in_process({"a": _ask(Peer("z"), 1)})
    assert caught.value.party == "a"


def test_an_error_of_a_role_gets_its_party():
    with pytest.raises(BudgetError) as caught:
        run_in_process({"a": _wait(Peer("b")), "b": _fail(BudgetError("used up.", step="train"))})
    assert (caught.value.party, caught.value.step) == ("b", "train")


def test_a_party_that_is_named_already_stays():
    with pytest.raises(BudgetError) as caught:
        run_in_process({"a": _fail(BudgetError("used up.", party="tax"))})
    assert caught.value.party == "tax"


def test_other_exceptions_pass_unchanged_and_end_the_session():
    session = Session(_fail(ZeroDivisionError("x")), party="a")
    with pytest.raises(ZeroDivisionError):
        list(session.outgoing())
    assert session.done
    assert list(session.outgoing()) == []


def test_the_other_roles_are_closed_when_one_fails():
    cleaned = []

    async def careful(peer: Peer) -> None:
        try:
            await peer.recv(Ask)
        finally:
            cleaned.append(True)

    with pytest.raises(InputError):
        run_in_process({"a": careful(Peer("b")), "b": _fail(InputError("bad."))})
    assert cleaned == [True]


@pytest.mark.parametrize("foreign", ["bare", "future"])
def test_a_role_may_await_nothing_but_its_peers(foreign):
    async def wanders() -> None:
        if foreign == "bare":
            await asyncio.sleep(0)
        else:
            loop = asyncio.new_event_loop()
            try:
                await loop.create_future()
            finally:
                loop.close()

    session = Session(wanders(), party="a")
    with pytest.raises(TypeError, match="a role awaited something other than its peers"):
        list(session.outgoing())
    assert session.done


def test_there_is_no_result_before_the_end():
    session = Session(_wait(Peer("b")), party="a")
    with pytest.raises(ProtocolError, match="has not finished") as caught:
        _ = session.result
    assert caught.value.party == "a"
    session.close()


def test_none_is_a_result():
    async def nothing() -> None:
        return None

    session = Session(nothing())
    list(session.outgoing())
    assert session.result is None


@pytest.mark.parametrize("start", [False, True])
def test_close_is_idempotent_and_warns_of_nothing(start):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = Session(_wait(Peer("b")))
        if start:
            list(session.outgoing())
        session.close()
        session.close()
        assert session.done
        assert session.waiting_for is None
        assert list(session.outgoing()) == []


def test_close_after_the_end_keeps_the_result():
    session = Session(_answer(Peer("b")))
    session.deliver("b", Ask(1))
    list(session.outgoing())
    session.close()
    assert session.result == "answered"


def test_a_run_is_recorded_in_order():
    transcript = Transcript(keep=True)
    run_in_process({"a": _ask(Peer("b"), 1), "b": _answer(Peer("a"))}, transcript=transcript)
    assert [(r.sender, r.recipient, r.message.kind) for r in transcript.records] == [
        ("a", "b", Ask.kind),
        ("b", "a", Answer.kind),
    ]
    for record in transcript.records:
        assert encode(decode(record.data)).equals(record.data)


def test_a_goodbye_ends_a_role_only_where_it_awaits_the_client():
    async def serve(client: Peer, other: Peer) -> int:
        await client.recv(Ask)
        return (await other.recv(Ask)).number

    session = Session(serve(Peer("bank"), Peer("tax")), party="platform", may_leave=["bank"])
    assert list(session.outgoing()) == []
    session.deliver("bank", Ask(1))
    session.deliver("bank", Goodbye())
    assert list(session.outgoing()) == []
    assert not session.done
    session.deliver("tax", Ask(7))
    assert list(session.outgoing()) == []
    assert (session.done, session.left, session.result) == (True, None, 7)

    session = Session(serve(Peer("bank"), Peer("tax")), party="platform", may_leave=["bank"])
    assert list(session.outgoing()) == []
    session.deliver("bank", Goodbye())
    assert list(session.outgoing()) == []
    assert (session.done, session.left) == (True, "bank")
    with pytest.raises(ProtocolError, match="without a result"):
        _ = session.result


def test_nobody_else_may_leave():
    async def leave(peer: Peer) -> None:
        await peer.send(Goodbye())

    async def wait(peer: Peer) -> None:
        await peer.recv(Ask)

    with pytest.raises(PeerProtocolError, match=r"wire\.goodbye"):
        run_in_process({"tax": leave(Peer("platform")), "platform": wait(Peer("tax"))})
