"""A forest's answer that cannot be read by chance is masked again; no consent is used twice."""

import numpy as np
import pytest

from fedcredit.errors import PeerProtocolError, Refusal
from fedcredit.models.scoring import ask_score
from fedcredit.models.scoring.ask_score import give_back
from fedcredit.models.scoring.talks import run
from fedcredit.protocols.scoring_messages import Declined, ScoreRepeat
from tests.support.service import CARD, PLATFORM, TREES, Case, generous

N = 6


@pytest.fixture
def case():
    return Case(3, (TREES, CARD), budgets=generous())


def unreadable(monkeypatch, times):
    """Let the reading of words fail for one row, so many times; return what was read."""
    seen = []

    def reading(words, trees, leaves, real=ask_score.read_words):
        values, ok = real(words, trees, leaves)
        assert ok.all()
        seen.append(words.copy())
        if len(seen) <= times:
            values[2], ok[2] = 10**9, False
        return values, ok

    monkeypatch.setattr(ask_score, "read_words", reading)
    return seen


@pytest.mark.parametrize("mode", ["homomorphic", "masked"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_row_that_is_unreadable_is_asked_for_again(case, monkeypatch, mode, times):
    codes = case.codes(N)
    want = case.bank.score_batch(codes, case.consents(codes, TREES), model=TREES).scores
    seen = unreadable(monkeypatch, times)
    got = case.bank.score_batch(codes, case.consents(codes, TREES), model=TREES, mode=mode)
    np.testing.assert_array_equal(got.scores, want)
    assert len(seen) == times + 1
    # Under fresh masks, another order of the leaves: hardly a word is as it was.
    assert np.mean(seen[0] == seen[1]) < 1e-3
    # One question, one use, one entry, however often it is masked.
    for party in case.parties:
        assert case.outcomes(party) == {"admitted": 2}


def test_what_stays_unreadable_is_an_error(case, monkeypatch):
    codes = case.codes(N)
    seen = unreadable(monkeypatch, 99)
    with pytest.raises(PeerProtocolError, match="parts of 1 scores do not belong together"):
        case.bank.score_batch(codes, case.consents(codes, TREES), model=TREES)
    assert len(seen) == 4


def open_talk(case):
    """The session with all parties, and the digest of the last request in it."""
    (talk,) = (t for m, t in case.bank._talks._open.items() if len(m) > 1)
    last = list(case.entries("tax", "score"))[-1]
    return talk, bytes.fromhex(last.facts["request"])


def repeated(case, attempt):
    talk, digest = open_talk(case)

    async def role(peers):
        for name in (*talk.side.keys.providers, PLATFORM):
            await peers[name].send(ScoreRepeat(digest, attempt))
        return await peers[PLATFORM].recv(Declined)

    return talk.conversation.run(role)


@pytest.mark.parametrize("attempt", [0, 2, 4, -1, 2**62])
def test_repetitions_out_of_turn_are_declined(case, attempt):
    case.ask(model=TREES)
    assert repeated(case, attempt).codes == ("request_invalid",)


def test_a_card_is_not_repeated(case):
    case.ask(model=CARD)
    assert repeated(case, 1).codes == ("request_invalid",)


def test_nothing_is_given_back_of_a_request_that_was_answered(case):
    code = case.codes(1)[0]
    case.register([code])
    consent = case.grant(code, f"score:{CARD}")
    case.ask(code, consent)
    talk, digest = open_talk(case)
    providers = talk.side.keys.providers
    assert run(talk, lambda peers: give_back(peers, PLATFORM, providers, digest)) == 0
    with pytest.raises(Refusal) as caught:
        case.ask(code, consent)
    assert caught.value.code == "consent_used"


def test_a_refused_presentation_leaves_the_session_in_step(case):
    code = case.codes(1)[0]
    case.register([code], [party for party in case.parties if party != "tax"])
    consent = case.grant(code, f"score:{CARD}")
    with pytest.raises(Refusal) as caught:
        case.bank.present([consent])
    assert (caught.value.code, caught.value.party) == ("consent_key", "tax")
    case.registered.discard(code)
    case.register([code], ["tax"])
    other = case.grant(code, f"score:{CARD}")
    (reference,) = case.bank.present([other])
    assert case.ask(code, reference).score == case.world.pooled_points([code])[0]
