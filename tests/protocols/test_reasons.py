"""Every row gets its largest losses over all parties, at the grain that each party allows."""

import dataclasses

import numpy as np
import pytest

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.protocols.reasons import (
    MAX_REASONS,
    MAX_ROWS,
    NO_REASON,
    add_up,
    largest_losses,
    reasons_label_holder,
    reasons_provider,
)
from fedcredit.wire import Peers, Transcript, run_in_process
from tests.support.alignment import outcome

PARTIES = {"platform": 3, "tax": 4, "social": 2}


def made_up(rows=50, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-20, 60, (rows, k)).astype(float) for name, k in PARTIES.items()}


def labels(losses):
    return {name: tuple(f"x{i}" for i in range(part.shape[1])) for name, part in losses.items()}


def roles(losses, n):
    named = labels(losses)
    providers = [name for name in losses if name != "platform"]

    async def provider(name):
        peers = Peers(["platform"])
        await reasons_provider(peers["platform"], losses[name], named[name], n)

    own = losses["platform"]
    platform = reasons_label_holder(Peers(providers), "platform", own, named["platform"], n)
    return {"platform": platform, **{name: provider(name) for name in providers}}


def expected(losses, row, n):
    """The same by sorting all losses of one row."""
    pairs = [
        (-int(loss), place, (name, f"x{i}"))
        for place, (name, part) in enumerate(losses.items())
        for i, loss in enumerate(part[row])
        if loss >= 1
    ]
    return [(who, -value) for value, _, who in sorted(pairs, key=lambda p: p[:2])][:n]


@pytest.mark.parametrize("n", [1, 4, MAX_REASONS])
@pytest.mark.parametrize("names", [("platform",), ("platform", "tax"), tuple(PARTIES)])
def test_the_largest_losses_of_all_parties(names, n):
    losses = {name: part for name, part in made_up().items() if name in names}
    reasons = run_in_process(roles(losses, n))["platform"]
    for row in range(50):
        found = [
            (reasons.labels[number], loss)
            for number, loss in zip(reasons.number[row], reasons.loss[row], strict=True)
            if number != NO_REASON
        ]
        assert found == expected(losses, row, n)


def test_the_platform_sees_no_more_than_n_losses_of_a_provider():
    losses = made_up()
    transcript = Transcript(keep=True)
    run_in_process(roles(losses, 2), transcript=transcript)
    sent = [record.message for record in transcript.records]
    assert [message.kind for message in sent] == ["reasons.losses"] * 2
    for message, name in zip(sent, ("tax", "social"), strict=True):
        largest = -np.sort(-losses[name], axis=1)[:, :2]
        np.testing.assert_array_equal(message.loss.reshape(50, 2), np.maximum(largest, 0))


def test_an_answer_has_the_same_size_whatever_it_holds():
    sizes = set()
    for scale in (0.0, -1.0, 1.0):
        transcript = Transcript(keep=True)
        losses = {name: scale * np.abs(part) for name, part in made_up().items()}
        run_in_process(roles(losses, 3), transcript=transcript)
        sizes.add(tuple(len(record.message.loss) for record in transcript.records))
    assert sizes == {(150, 150)}


def test_losses_are_whole_points_and_less_than_one_is_no_reason():
    number, loss = largest_losses(np.array([[0.4, 2.6, -3.0], [0.0, -1.0, 0.49]]), 2)
    np.testing.assert_array_equal(loss, [[3, 0], [0, 0]])
    np.testing.assert_array_equal(number, [[1, NO_REASON], [NO_REASON, NO_REASON]])


def test_ties_go_to_the_first_characteristic():
    number, _ = largest_losses(np.full((1, 4), 5.0), 3)
    np.testing.assert_array_equal(number, [[0, 1, 2]])


def test_groups_add_up_their_features():
    losses = np.array([[1.0, 2.0, 3.0], [10.0, -4.0, 0.0]])
    names, grouped = add_up(losses, ["turnover", "tax", "turnover"])
    assert names == ("turnover", "tax")
    np.testing.assert_array_equal(grouped, [[4.0, 2.0], [10.0, -4.0]])
    names, grouped = add_up(np.zeros((3, 0)), [])
    assert names == ()
    assert grouped.shape == (3, 0)


@pytest.mark.parametrize(("rows", "n"), [(0, 3), (MAX_ROWS + 1, 3), (5, 0), (5, MAX_REASONS + 1)])
def test_too_many_rows_or_reasons_are_refused_before_anything_is_sent(rows, n):
    losses = {"platform": np.ones((rows, 2)), "tax": np.ones((rows, 2))}
    transcript = Transcript(keep=True)
    ends = outcome(roles(losses, n))
    assert all(isinstance(end, InputError) for end in ends.values())
    assert not transcript.records


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**20])
def test_an_impossible_loss_is_refused(value):
    with pytest.raises(InputError) as caught:
        largest_losses(np.array([[1.0, value]]), 1)
    assert caught.value.step
    assert caught.value.fix


def changed(**change):
    def tamper(sender, message):
        if sender == "tax" and message.kind == "reasons.losses":
            made = {name: make(getattr(message, name)) for name, make in change.items()}
            return dataclasses.replace(message, **made)
        return None

    return tamper


def first(value):
    def make(array):
        array = array.copy()
        array[0] = value
        return array

    return make


@pytest.mark.parametrize(
    "change",
    [
        {"loss": lambda a: a[:-1].copy()},
        {"number": lambda a: a[:-3].copy(), "loss": lambda a: a[:-3].copy()},
        {"number": first(4)},
        {"loss": first(-1)},
        {"loss": first(1 << 20)},
        {"loss": first(0)},
        {"number": first(NO_REASON)},
        {"loss": lambda a: a.reshape(-1, 3)[:, ::-1].ravel().copy()},
        {"labels": lambda names: (*names[:-1], "")},
        {"labels": lambda names: (*names[:-1], "x" * 201)},
        {"labels": lambda names: (*names[:-1], "a\nb")},
        {"labels": lambda names: (*names[:-1], names[0])},
    ],
)
def test_a_malformed_answer_is_refused(change):
    losses = {name: np.abs(part) + 1 + np.arange(part.shape[1]) for name, part in made_up().items()}
    end = outcome(roles(losses, 3), changed(**change))["platform"]
    assert isinstance(end, PeerProtocolError)
    assert (end.party, end.step) == ("tax", "reason codes")
