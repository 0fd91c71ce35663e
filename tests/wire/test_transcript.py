"""Counts of what crossed the wire."""

from dataclasses import dataclass

import pytest

from fedcredit.wire import KindCount, Message, Transcript, encode


@dataclass(frozen=True, eq=False, repr=False)
class Note(Message, kind="test-transcript.note"):
    text: str


@dataclass(frozen=True, eq=False, repr=False)
class Other(Message, kind="test-transcript.other"):
    number: int


def _filled(*, keep: bool) -> Transcript:
    transcript = Transcript(keep=keep)
    for sender, recipient, message in (
        ("a", "b", Note("one")),
        ("a", "b", Note("two and a bit")),
        ("b", "a", Note("three")),
        ("c", "a", Note("four")),
        ("c", "a", Other(5)),
    ):
        transcript.record(sender, recipient, message, encode(message))
    return transcript


def _size(*messages: Message) -> int:
    return sum(encode(message).size for message in messages)


def test_counts_per_direction_and_kind():
    counts = _filled(keep=False).counts
    both = KindCount(2, _size(Note("one"), Note("two and a bit")))
    assert counts["a", "b", Note.kind] == both
    assert counts["c", "a", Other.kind] == KindCount(1, _size(Other(5)))
    assert len(counts) == 4


def test_what_one_party_sent_and_received():
    transcript = _filled(keep=False)
    assert transcript.received_by("a") == {
        Note.kind: KindCount(2, _size(Note("three"), Note("four"))),
        Other.kind: KindCount(1, _size(Other(5))),
    }
    assert transcript.sent_by("c") == {
        Note.kind: KindCount(1, _size(Note("four"))),
        Other.kind: KindCount(1, _size(Other(5))),
    }
    assert transcript.received_by("c") == {}


def test_records_are_kept_on_request_only():
    assert _filled(keep=False).records == []
    transcript = _filled(keep=True)
    assert [r.message.text for r in transcript.between("a")] == ["one", "two and a bit"]
    assert len(transcript.between(recipient="a")) == 3
    assert len(transcript.between("c", "a")) == 2
    assert len(transcript.between()) == 5


def test_merge_adds_counts_and_leaves_the_other_alone():
    one, two = _filled(keep=False), _filled(keep=False)
    two.count("d", "a", Note.kind, 100, 3)
    before = {key: KindCount(v.messages, v.bytes) for key, v in two.counts.items()}
    total = one.total_bytes + two.total_bytes
    one.merge(two.counts)
    assert one.total_bytes == total
    assert one.counts["a", "b", Note.kind].messages == 4
    assert one.counts["d", "a", Note.kind] == KindCount(3, 100)
    one.count("d", "a", Note.kind, 1)
    assert two.counts == before


def test_totals_by_kind_are_no_view_of_the_counts():
    transcript = _filled(keep=False)
    transcript.sent_by("a")[Note.kind].messages = 99
    assert transcript.counts["a", "b", Note.kind].messages == 2


@pytest.mark.parametrize("keep", [False, True])
def test_repr_shows_totals_and_no_value(keep):
    transcript = _filled(keep=keep)
    assert repr(transcript) == f"Transcript(5 messages, {transcript.total_bytes} bytes)"
    assert all("one" not in repr(record) for record in transcript.records)
