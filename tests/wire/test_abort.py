"""Aborts: how an error reaches the peers, and what of a peer's text is kept."""

from dataclasses import dataclass

import pytest

from fedcredit import errors
from fedcredit.errors import (
    BudgetError,
    FedCreditError,
    PeerProtocolError,
    PolicyError,
    ProtocolError,
)
from fedcredit.wire import Abort, Message, Peer, Session, decode, encode


@dataclass(frozen=True, eq=False, repr=False)
class Ask(Message, kind="test-abort.ask"):
    number: int


async def _wait(peer: Peer) -> Message:
    return await peer.recv(Ask)


def _over_the_wire(error: BaseException, party: str = "tax") -> Abort:
    message = decode(encode(Abort.of(error, party=party)))
    assert isinstance(message, Abort)
    return message


def test_an_abort_ends_the_session_with_the_peers_error():
    session = Session(_wait(Peer("tax")), party="bank")
    list(session.outgoing())
    session.deliver("tax", _over_the_wire(PolicyError("not allowed.", step="align", fix="ask")))
    with pytest.raises(PolicyError) as caught:
        list(session.outgoing())
    error = caught.value
    assert (error.reason, error.party, error.step, error.fix) == (
        "not allowed.",
        "tax",
        "align",
        "ask",
    )
    assert session.done
    assert list(session.outgoing()) == []


def test_an_abort_stops_a_stream_between_two_messages():
    made = []

    async def stream(peer: Peer) -> None:
        for i in range(100):
            made.append(i)
            await peer.send(Ask(i))

    session = Session(stream(Peer("tax")), party="bank")
    out = session.outgoing()
    next(out)
    session.deliver("tax", _over_the_wire(BudgetError("used up.")))
    with pytest.raises(BudgetError):
        next(out)
    assert made == [0]


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_class_survives_the_wire(name):
    kind = getattr(errors, name)
    got = _over_the_wire(kind("a reason.", step="a step", fix="a fix")).to_error("relay")
    assert type(got) is kind
    text = "[party tax, step a step] a reason. Fix: a fix."
    assert str(got) == (f"{text} (refused)" if kind is errors.Refusal else text)


def test_the_code_of_a_refusal_travels():
    got = _over_the_wire(errors.Refusal("no.", code="consent_used")).to_error("tax")
    assert (type(got), got.code) == (errors.Refusal, "consent_used")


def test_found_and_expected_travel_in_the_text():
    error = PeerProtocolError(found="x.a", expected="x.b")
    assert "expected message x.b, found x.a" in str(_over_the_wire(error).to_error("tax"))


def test_an_internal_error_shows_only_its_type():
    got = _over_the_wire(ValueError("91350211M000100Y43 owes 42")).to_error("tax")
    assert type(got) is ProtocolError
    assert "ValueError" in str(got)
    assert "owes" not in str(got)
    assert got.fix == "see the log of tax"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interruption_is_no_internal_error(error: BaseException):
    got = _over_the_wire(error, "platform").to_error("platform")
    assert type(got) is ProtocolError
    assert (got.reason, got.party) == ("interrupted at platform.", "platform")
    assert (got.step, got.fix) == (None, None)


@pytest.mark.parametrize("code", ["", "Exception", "annotations", "_SklearnNotFitted", "__doc__"])
def test_an_unknown_class_becomes_a_protocol_error(code):
    got = Abort(code, "r.", "tax", "", "").to_error("tax")
    assert type(got) is ProtocolError
    assert (got.step, got.fix) == (None, None)


def test_a_peers_text_is_cut_and_cleaned():
    hostile = Abort("BudgetError", "\x1b[2Jline\n" + "x" * 5000, "p\r" * 500, "s\0", "f\u202e")
    got = hostile.to_error("tax")
    assert str(got).isprintable()
    assert len(got.reason) == 600
    assert len(got.party) == 128


def test_an_empty_abort_names_its_sender():
    got = Abort("BudgetError", "", "", "", "").to_error("tax")
    assert got.party == "tax"
    assert got.reason


def test_any_error_text_can_be_sent():
    error = FedCreditError(
        "\ud800" + "长" * 5000, party="\udcff" * 500, step="长" * 5000, fix="长" * 900
    )
    got = _over_the_wire(error).to_error("tax")
    assert got.reason == "?" + "长" * 599
