"""One request, one round: exact sums, refusals that end the request and not the session."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from fedcredit.crypto.encscore import WORD_MASK, encode_parts, encode_values
from fedcredit.errors import InputError, PeerProtocolError, Refusal, StorageError
from fedcredit.governance.codes import CODES
from fedcredit.protocols.scoring import (
    WordsAndNotes,
    institution_round,
    platform_answer,
    request_digest,
)
from fedcredit.protocols.scoring_messages import MODES, ScoreRequest
from tests.support.parties import assert_helpful
from tests.support.scoring import (
    PLATFORM,
    Case,
    answer_of,
    consents_of,
    made_up,
    subjects_of,
)

BOTH = pytest.mark.parametrize("mode", MODES)


@BOTH
@pytest.mark.parametrize("providers", [1, 2, 3, 5])
def test_a_thousand_scores_are_exact(mode, providers):
    case = Case(made_up(providers, 1000, bound=1 << 27))
    (answer,) = case.score(mode)
    np.testing.assert_array_equal(answer.values(), case.total)
    assert list(answer.notes) == [PLATFORM, *sorted(case.providers)]
    for name in answer.notes:
        assert answer.notes[name] == f"note of {name}".encode()
        assert answer.receipts[name] == f"receipt of {name}:".encode() + answer.payloads[name]
    assert answer.metadata == b'{"model":"card@1"}'


@BOTH
def test_many_requests_of_one_session(mode):
    case = Case(made_up(2, 3))
    answers = case.score(mode, times=20)
    for answer in answers:
        np.testing.assert_array_equal(answer.values(), case.total)
    assert len({answer.request for answer in answers}) == 20


@BOTH
def test_rows_of_words_come_back_as_they_are(mode):
    """As trees use them: a row of slots per enterprise."""
    rng = np.random.default_rng(1)
    words = {n: rng.integers(0, 1 << 59, (4, 96), dtype=np.uint64) for n in made_up(2, 1)}

    def answers(me):
        return lambda request, digest: WordsAndNotes(words[me])

    case = Case(made_up(2, 4), answers={me: answers(me) for me in words})
    (answer,) = case.score(mode)
    np.testing.assert_array_equal(answer.words, sum(words.values()) & WORD_MASK)


@BOTH
def test_a_forest_may_fill_more_rows_than_there_are_enterprises(mode):
    words = {n: np.full((7, 4096), i + 1, np.uint64) for i, n in enumerate(made_up(1, 1))}

    def answers(me):
        return lambda request, digest: WordsAndNotes(words[me])

    case = Case(made_up(1, 1), answers={me: answers(me) for me in words})
    (answer,) = case.score(mode)
    np.testing.assert_array_equal(answer.words, np.full((7, 4096), 3))


@BOTH
def test_what_the_platform_signs_of_the_sums_goes_along(mode):
    """A caller that reads the requests itself may have the platform sign the result."""
    signed = []

    async def serve(peers, side, message, answer):
        def seal(request, result):
            signed.append((request, result))
            return b"signed " + result

        await platform_answer(peers, side, message, answer, seal)

    case = Case(made_up(2, 4), platform_serves=serve)
    answers = case.score(mode, times=2)
    assert signed == [(answer.request, answer.result) for answer in answers]
    for answer in answers:
        assert answer.seal == b"signed " + answer.result
        np.testing.assert_array_equal(answer.values(), case.total)


@BOTH
def test_requests_of_different_participants(mode):
    case = Case(made_up(3, 5))
    subsets = [("tax",), ("social", "customs"), ("customs", "tax", "social")]

    async def asking(peers, side):
        return [
            await institution_round(peers, side, *case.ask(side, mode, participants=subset))
            for subset in subsets
        ]

    for subset, answer in zip(subsets, case.run(asking), strict=True):
        assert tuple(answer.notes) == (PLATFORM, *subset)
        exact = sum(case.values[name] for name in (PLATFORM, *subset))
        np.testing.assert_array_equal(answer.values(), exact)


@BOTH
def test_own_features_are_added(mode):
    rng = np.random.default_rng(2)
    weights, features = rng.integers(-50, 50, 40), rng.integers(0, 2, (300, 40))
    case = Case(made_up(2, 300), weights=weights, own=True)
    with_own, without = case.score(mode, own=features)[0], Case(case.values).score(mode)[0]
    np.testing.assert_array_equal(with_own.values(), case.total + features @ weights)
    np.testing.assert_array_equal(without.values(), case.total)


def test_own_features_of_a_model_that_has_none_are_declined():
    case = Case(made_up(1, 2), own=True)
    with pytest.raises(Refusal, match="no features") as caught:
        case.score(own=np.ones((2, 3), np.int64))
    assert (caught.value.code, caught.value.party) == ("request_invalid", PLATFORM)


def test_own_features_of_another_width_are_declined():
    case = Case(made_up(1, 2), weights=np.arange(4), own=True)
    with pytest.raises(Refusal, match="another number of features"):
        case.score(own=np.ones((2, 3), np.int64))


def test_a_callback_may_be_a_coroutine():
    values = made_up(1, 2)

    async def answer(request, digest):
        return answer_of("tax", values["tax"])(request, digest)

    case = Case(values, answers={"tax": answer})
    np.testing.assert_array_equal(case.score()[0].values(), case.total)


# ------------------------------------------------------------------------------------ refusals


def declining(error, values, me):
    """Decline the first request only."""
    seen = []

    def answer(request, digest):
        seen.append(digest)
        if len(seen) == 1:
            raise error
        return answer_of(me, values[me])(request, digest)

    return answer


def two_rounds(case, mode="homomorphic"):
    async def asking(peers, side):
        with pytest.raises(Refusal) as caught:
            await institution_round(peers, side, *case.ask(side, mode))
        return caught.value, await institution_round(peers, side, *case.ask(side, mode))

    return case.run(asking)


@BOTH
@pytest.mark.parametrize("who", [PLATFORM, "tax", "social"])
def test_a_refusal_names_the_party_and_does_not_end_the_session(mode, who):
    values = made_up(2, 4)
    error = Refusal("a consent has expired.", code="consent_expired", fix="ask for a new one")
    case = Case(values, answers={who: declining(error, values, who)})
    refusal, answer = two_rounds(case, mode)
    assert (refusal.party, refusal.code, refusal.fix) == (who, "consent_expired", error.fix)
    assert_helpful(refusal, party=who)
    np.testing.assert_array_equal(answer.values(), case.total)


def test_all_refusals_are_listed():
    values = made_up(2, 4)
    errors = {
        "tax": Refusal("a consent was withdrawn.", code="consent_revoked"),
        "social": Refusal("the budget is used up.", code="budget_exhausted"),
    }
    case = Case(values, answers={n: declining(e, values, n) for n, e in errors.items()})
    refusal, answer = two_rounds(case)
    codes = {"tax": "consent_revoked", "social": "budget_exhausted"}
    assert codes.pop(refusal.party) == refusal.code
    ((other, code),) = codes.items()
    assert f"{other} ({code})" in str(refusal)
    np.testing.assert_array_equal(answer.values(), case.total)


def test_a_party_that_fails_declines():
    values = made_up(1, 4)
    error = StorageError("the disk is full.", fix="free some space")
    case = Case(values, answers={"tax": declining(error, values, "tax")})
    refusal, answer = two_rounds(case)
    assert (refusal.party, refusal.code) == ("tax", "part_failed")
    assert "disk is full" in str(refusal)
    np.testing.assert_array_equal(answer.values(), case.total)


@pytest.mark.parametrize(
    "words",
    [
        np.zeros(4, np.uint64),
        np.zeros((1, 4), np.int64),
        np.zeros((1, 4097), np.uint64),
        np.zeros((0, 4), np.uint64),
        np.full((1, 4), 1 << 59, np.uint64),
    ],
)
def test_words_that_do_not_fit_decline_the_request(words):
    values = made_up(1, 4)
    case = Case(values, answers={"tax": lambda request, digest: WordsAndNotes(words)})
    with pytest.raises(Refusal) as caught:
        case.score()
    assert (caught.value.party, caught.value.code) == ("tax", "part_failed")


def test_nothing_leaves_a_party_that_declines():
    values = made_up(2, 4)
    error = Refusal("no.", code="consent_missing")
    case = Case(values, answers={"tax": declining(error, values, "tax")})
    two_rounds(case)
    assert len(case.messages("scoring.share", "tax")) == 1
    assert len(case.messages("scoring.answer")) == 1
    (declined,) = case.messages("scoring.declined", "tax")
    assert declined.codes == ("consent_missing",)


def test_the_codes_are_known():
    assert {"share_invalid", "part_failed", "request_invalid", "request_repeated"} <= set(CODES)


# ------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    "change",
    [
        {"subjects": ()},
        {"subjects": subjects_of(4097), "consents": consents_of(4097)},
        {"subjects": subjects_of(1) * 4},
        {"consents": consents_of(3)},
        {"mode": "open"},
        {"participants": ("tax", "tax")},
        {"now": float("nan")},
        {"reasons": -1},
        {"detail": "x" * 601},
    ],
)
def test_a_malformed_request_is_refused_before_it_is_sent(change):
    case = Case(made_up(2, 4))
    with pytest.raises(Refusal) as caught:
        case.score(**change)
    assert caught.value.code == "request_invalid"
    assert not case.messages("scoring.request")


def test_an_unknown_participant_is_refused_before_it_is_sent():
    with pytest.raises(InputError):
        Case(made_up(1, 4)).score(participants=("nobody",))


def test_own_features_need_a_session_for_them():
    with pytest.raises(InputError, match="own features"):
        Case(made_up(1, 4)).score(own=np.ones((4, 2), np.int64))


def test_a_request_under_another_key_or_name_is_declined_by_every_party():
    case = Case(made_up(2, 4))

    async def asking(peers, side):
        request, _ = case.ask(side)
        out = []
        for wrong in ({"key_id": bytes(16)}, {"institution": "another bank"}):
            with pytest.raises(Refusal) as caught:
                await institution_round(peers, side, dataclasses.replace(request, **wrong))
            out.append(caught.value)
        return out

    for refusal in case.run(asking):
        assert refusal.code == "request_invalid"
        assert "tax (request_invalid)" in str(refusal)


def example(**changes):
    fields = {
        "institution": "bank",
        "target": "card@1",
        "purpose": "credit_granting",
        "mode": "homomorphic",
        "subjects": ("A", "B"),
        "consents": ("c", "d"),
        "reasons": 0,
        "participants": ("tax", "social"),
        "key_id": bytes(16),
        "nonce": bytes(32),
        "time": 1.8e9,
    }
    return ScoreRequest(**(fields | changes))


@pytest.mark.parametrize(
    "change",
    [
        {"institution": "bankc", "target": "ard@1"},
        {"purpose": "credit_renewal"},
        {"mode": "masked"},
        {"subjects": ("B", "A")},
        {"subjects": ("AB",)},
        {"subjects": ("A", "B", ""), "consents": ("c", "d")},
        {"subjects": (), "consents": ()},
        {"subjects": ("",)},
        {"subjects": ("A", "B", "c"), "consents": ("d",)},
        {"reasons": 1},
        {"participants": ("social", "tax")},
        {"key_id": b"\1" * 16},
        {"nonce": b"\1" * 32},
        {"time": 1.8e9 + 1e-6},
        {"own": b"\1" * 32},
        {"detail": "x"},
    ],
)
def test_the_digest_depends_on_every_field(change):
    assert request_digest(example()) == request_digest(example())
    assert request_digest(example(**change)) != request_digest(example())


def test_an_item_with_a_zero_character_has_no_digest():
    with pytest.raises(Refusal, match="zero character"):
        request_digest(example(subjects=("A\0B", "C")))


def test_a_session_gives_every_party_the_same_seed_and_no_secret_to_copy():
    case = Case(made_up(2, 2))
    case.score()
    seeds = {case.sides[name].keys.request_seed(b"r" * 32) for name in case.values}
    assert len(seeds) == 1
    for side in case.sides.values():
        assert "bytes" not in repr(side.keys)
        for copied in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="secret"):
                copied(side)


def test_one_value_more_than_fits_is_noticed():
    values = made_up(1, 3)
    values["tax"][:] = (1 << 30) - 1
    values[PLATFORM][:] = [0, 1, -5]
    with pytest.raises(PeerProtocolError, match="1 scores"):
        Case(values).score()[0].values()


def test_encoding_with_the_offset_once():
    value = encode_values(np.array([-7])) + encode_parts(np.array([-5]))
    assert value & WORD_MASK == (1 << 30) - 12


def test_new_request_has_a_fresh_nonce():
    case = Case(made_up(1, 2))

    async def asking(peers, side):
        return [case.ask(side)[0] for _ in range(3)]

    requests = case.run(asking)
    assert len({r.nonce for r in requests}) == 3
