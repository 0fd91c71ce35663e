"""What parties and a wire that deviate can do, with and without what the protocol does about it."""

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.encscore import (
    WORD_MASK,
    ScoreEncryptor,
    ScoreKeyHolder,
    add_ciphertexts,
    encode_parts,
    encode_values,
)
from fedcredit.crypto.prg import prg_u64
from fedcredit.errors import PeerProtocolError, Refusal
from fedcredit.protocols.scoring import institution_round
from fedcredit.protocols.scoring_keys import _derive
from fedcredit.protocols.scoring_messages import MODES, Declined
from tests.support.parties import assert_helpful
from tests.support.scoring import BANK, PLATFORM, Case, answer_of, made_up, subjects_of

BOTH = pytest.mark.parametrize("mode", MODES)


def changing(kind, change):
    """A change of the messages of one kind."""
    return lambda message: change(message) if message.kind == kind else message


def fails(case, mode, error, **expected):
    with pytest.raises(error) as caught:
        case.score(mode)[0].values()
    for name, value in expected.items():
        assert getattr(caught.value, name) == value, str(caught.value)
    assert_helpful(caught.value, secrets=[*subjects_of(4), *map(int, case.total)])
    return caught.value


# ---------------------------------------------------------------------------------- used masks


def test_a_mask_used_twice_would_give_away_the_difference_of_two_parts():
    """Why a digest is good for one mask: the masked words of two values, one mask."""
    case = Case(made_up(2, 4))
    case.score("masked")
    keys = case.sides["tax"].keys
    one, two = np.array([1234, -77, 5, 0]), np.array([1200, -70, 5, 9])
    mask = keys.mask_words(b"m" * 32, case.providers, 4)
    seen = [(encode_parts(v) + mask) & WORD_MASK for v in (one, two)]
    difference = (seen[0] - seen[1]) & WORD_MASK
    np.testing.assert_array_equal(difference, encode_parts(one - two))
    # The keys give no such mask again, under the same digest; under another it is unrelated.
    with pytest.raises(Refusal):
        keys.mask_words(b"m" * 32, case.providers, 4)
    fresh = keys.mask_words(b"n" * 32, case.providers, 4)
    assert not np.any((encode_parts(two) + fresh) & WORD_MASK == seen[1])


@BOTH
def test_a_request_sent_twice_is_declined_by_every_party(mode):
    calls = []
    values = made_up(2, 4)
    case = Case(values, answers={n: answer_of(n, v, calls=calls) for n, v in values.items()})

    async def asking(peers, side):
        request, _ = case.ask(side, mode)
        await institution_round(peers, side, request)
        with pytest.raises(Refusal, match="same request"):
            await institution_round(peers, side, request)
        # An institution that does not keep to this learns no more.
        for name in (*case.providers, PLATFORM):
            await peers[name].send(request)
        return await peers[PLATFORM].recv(Declined)

    declined = case.run(asking)
    assert declined.parties == tuple(sorted(case.providers))
    assert set(declined.codes) == {"request_repeated"}
    # No party was even asked to compute.
    assert len(calls) == 3


# ----------------------------------------------------------------------------- replayed, swapped


def replaying(kind, names):
    """Send the fields ``names`` of the first message again in every later one."""
    first = []

    def change(message):
        first.append(message)
        return dataclasses.replace(message, **{name: getattr(first[0], name) for name in names})

    return changing(kind, change)


def second_round(case, mode):
    async def asking(peers, side):
        await institution_round(peers, side, *case.ask(side, mode))
        return await institution_round(peers, side, *case.ask(side, mode))

    return case.run(asking)


def test_replayed_ciphertexts_show_in_the_tag():
    change = replaying("scoring.share", ["ciphertexts"])
    case = Case(made_up(2, 64), changes={"tax": change})
    answer = second_round(case, "homomorphic")
    with pytest.raises(PeerProtocolError, match="64 scores") as caught:
        answer.values()
    assert_helpful(caught.value)


def test_without_the_tag_a_replayed_part_would_pass_for_a_score():
    """The low bits alone are a number like any other."""
    change = replaying("scoring.share", ["ciphertexts"])
    case = Case(made_up(2, 64), changes={"tax": change})
    words = second_round(case, "homomorphic").words[0]
    low = (words & np.uint64((1 << 31) - 1)).astype(np.int64) - (1 << 30)
    assert np.all(np.abs(low) <= 1 << 30)
    assert not np.any(low == case.total)


@pytest.mark.parametrize("names", [["sealed"], ["note"], ["sealed", "note", "receipt"]])
def test_replayed_sealed_bytes_do_not_open(names):
    case = Case(made_up(2, 4), changes={"tax": replaying("scoring.share", names)})
    with pytest.raises(PeerProtocolError) as caught:
        second_round(case, "masked")
    assert_helpful(caught.value, party="tax")


@BOTH
def test_a_whole_share_replayed_is_refused_by_the_platform(mode):
    every = ["request", "ciphertexts", "sealed", "note", "receipt"]
    case = Case(made_up(2, 4), changes={"tax": replaying("scoring.share", every)})
    with pytest.raises(Refusal, match="another request") as caught:
        second_round(case, mode)
    assert (caught.value.code, caught.value.party) == ("share_invalid", "tax")
    assert_helpful(caught.value, party="tax")


def test_a_ciphertext_of_another_party_shows_in_the_tag():
    taken = []

    def take(message):
        taken.append(message.ciphertexts)
        return message

    def put(message):
        return dataclasses.replace(message, ciphertexts=taken[-1])

    changes = {"tax": changing("scoring.share", take), "water": changing("scoring.share", put)}
    # Roles take turns in the order of the values, so tax has sent when water does.
    values = dict(zip((PLATFORM, "tax", "water"), made_up(2, 64).values(), strict=True))
    case = Case(values, changes=changes)
    fails(case, "homomorphic", PeerProtocolError)


def test_sealed_words_of_two_parties_swapped_name_a_party():
    def swap(message):
        sealed = list(message.sealed)
        sealed[1], sealed[2] = sealed[2], sealed[1]
        return dataclasses.replace(message, sealed=tuple(sealed))

    case = Case(made_up(2, 4), changes={PLATFORM: changing("scoring.answer", swap)})
    fails(case, "masked", PeerProtocolError, party="social")


# ------------------------------------------------------------------------ altered, another's key


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def altered(field, change):
    def apply(message):
        value = getattr(message, field)
        new = tuple(change(v) for v in value) if isinstance(value, tuple) else change(value)
        return dataclasses.replace(message, **{field: new})

    return apply


def test_a_ciphertext_under_another_key_is_refused_by_the_platform():
    foreign = ScoreEncryptor(ScoreKeyHolder.generate().public).encrypt(np.zeros(4, np.uint64))
    change = changing("scoring.share", altered("ciphertexts", lambda c: foreign))
    case = Case(made_up(2, 4), changes={"tax": change})
    error = fails(case, "homomorphic", Refusal, party="tax", code="share_invalid")
    assert "another key" in error.reason


def test_a_sum_under_another_key_is_refused_by_the_institution():
    foreign = ScoreEncryptor(ScoreKeyHolder.generate().public).encrypt(np.zeros(4, np.uint64))
    change = changing("scoring.answer", altered("ciphertexts", lambda c: foreign))
    case = Case(made_up(2, 4), changes={PLATFORM: change})
    fails(case, "homomorphic", PeerProtocolError, party=PLATFORM)


def test_residues_out_of_range_name_the_party():
    change = changing("scoring.share", altered("ciphertexts", lambda c: c[:-8] + b"\xff" * 8))
    case = Case(made_up(3, 4), changes={"social": change})
    error = fails(case, "homomorphic", Refusal, party="social", code="share_invalid")
    assert "out of range" in error.reason


@pytest.mark.parametrize(
    "change",
    [
        lambda m: dataclasses.replace(m, rows=2),
        lambda m: dataclasses.replace(m, slots=5),
        lambda m: dataclasses.replace(m, ciphertexts=()),
        lambda m: dataclasses.replace(m, ciphertexts=m.ciphertexts * 2),
        lambda m: dataclasses.replace(m, ciphertexts=(), sealed=bytes(60)),
        lambda m: dataclasses.replace(m, request=bytes(32)),
    ],
)
def test_a_share_of_another_form_names_the_party(change):
    case = Case(made_up(2, 4), changes={"tax": changing("scoring.share", change)})
    fails(case, "homomorphic", Refusal, party="tax", code="share_invalid")


def test_altered_ciphertexts_of_a_party_show_in_the_tag():
    """The low bits of a residue of c1: every coefficient of the sum changes."""
    change = changing("scoring.share", altered("ciphertexts", lambda c: flip(c, 1000)))
    case = Case(made_up(2, 64), changes={"tax": change})
    fails(case, "homomorphic", PeerProtocolError)


def test_altered_sealed_words_name_the_party():
    change = changing("scoring.share", altered("sealed", lambda c: flip(c, 20)))
    case = Case(made_up(2, 4), changes={"tax": change})
    fails(case, "masked", PeerProtocolError, party="tax")


@BOTH
@pytest.mark.parametrize("field", ["metadata", "receipts", "notes"])
def test_what_the_answer_says_besides_cannot_be_altered(mode, field):
    change = changing("scoring.answer", altered(field, lambda data: flip(data, len(data) // 2)))
    case = Case(made_up(2, 4), changes={PLATFORM: change})
    fails(case, mode, PeerProtocolError, party=PLATFORM)


@BOTH
@pytest.mark.parametrize("field", ["receipt", "note"])
def test_receipt_and_note_of_a_provider_cannot_be_altered_by_the_platform(mode, field):
    change = changing("scoring.share", altered(field, lambda data: flip(data, len(data) // 2)))
    case = Case(made_up(2, 4), changes={"social": change})
    fails(case, mode, PeerProtocolError, party="social")


@BOTH
def test_receipts_of_two_parties_cannot_be_swapped(mode):
    def swap(message):
        return dataclasses.replace(message, receipts=message.receipts[::-1])

    case = Case(made_up(1, 4), changes={PLATFORM: changing("scoring.answer", swap)})
    fails(case, mode, PeerProtocolError, party=PLATFORM)


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda m: dataclasses.replace(m, request=bytes(32)),
        lambda m: dataclasses.replace(m, rows=2),
        lambda m: dataclasses.replace(m, slots=0),
        lambda m: dataclasses.replace(m, slots=3),
        lambda m: dataclasses.replace(m, rows=1 << 40),
        lambda m: dataclasses.replace(m, rows=-1),
        lambda m: dataclasses.replace(m, notes=m.notes[:-1]),
        lambda m: dataclasses.replace(m, receipts=()),
        lambda m: dataclasses.replace(m, ciphertexts=(), sealed=()),
        lambda m: dataclasses.replace(m, own=(b"",)),
    ],
)
def test_an_answer_of_another_form_is_refused(mode, change):
    case = Case(made_up(2, 4), changes={PLATFORM: changing("scoring.answer", change)})
    fails(case, mode, PeerProtocolError, party=PLATFORM)


def test_a_decline_of_another_request_is_refused():
    values = made_up(1, 4)

    def refuse(request, digest):
        raise Refusal("no.", code="consent_missing", fix="ask the enterprise")

    change = changing("scoring.declined", lambda m: dataclasses.replace(m, request=bytes(32)))
    case = Case(values, answers={"tax": refuse}, changes={PLATFORM: change})
    fails(case, "masked", PeerProtocolError, party=PLATFORM)


def test_a_provider_cannot_decline_for_another_or_write_to_a_terminal():
    values = made_up(2, 4)

    def refuse(request, digest):
        raise Refusal("no.", code="consent_missing", fix="ask the enterprise")

    def forge(message):
        return dataclasses.replace(
            message, parties=("social",), codes=("X; rm",), reasons=("\x1b[2J" + "x" * 5000,)
        )

    case = Case(
        values, answers={"tax": refuse}, changes={"tax": changing("scoring.declined", forge)}
    )
    error = fails(case, "masked", Refusal, party="tax", code="refused")
    assert "\x1b" not in str(error)
    assert len(str(error)) < 1000


# ------------------------------------------------------------------------------- own features


def test_own_features_that_are_not_the_request_are_declined():
    change = changing("scoring.own", altered("ciphertexts", lambda c: flip(c, 5000)))
    case = Case(made_up(1, 2), weights=np.arange(3), own=True, changes={BANK: change})
    with pytest.raises(Refusal, match="features are not those") as caught:
        case.score(own=np.ones((2, 3), np.int64))
    assert caught.value.party == PLATFORM


def test_malformed_own_features_are_declined():
    def malformed(features):
        return (b"fcfq" + bytes(100),)

    case = Case(made_up(1, 2), weights=np.arange(3), own=True)

    async def asking(peers, side):
        side.own.encrypt = malformed
        return await institution_round(peers, side, *case.ask(side, own=np.ones((2, 3), np.int64)))

    with pytest.raises(Refusal) as caught:
        case.run(asking)
    assert (caught.value.code, caught.value.party) == ("request_invalid", PLATFORM)


def test_altered_products_show_in_the_tag():
    change = changing("scoring.answer", altered("own", lambda c: flip(c, 5000)))
    case = Case(made_up(1, 64), weights=np.arange(3), own=True, changes={PLATFORM: change})
    with pytest.raises(PeerProtocolError):
        case.score(own=np.ones((64, 3), np.int64))[0].values()


def test_chosen_features_read_the_weights_off_as_the_table_says():
    """A question per weight, or several weights in one: what only budgets can bound."""
    weights = np.array([11, -7, 300])
    case = Case(made_up(1, 4), weights=weights, own=True)
    unit = np.vstack([np.zeros((1, 3), np.int64), np.eye(3, dtype=np.int64)])

    async def asking(peers, side):
        features = np.repeat(unit[:, None], 4, axis=1)
        return [
            (await institution_round(peers, side, *case.ask(side, own=x))).values()
            for x in features
        ]

    scores = case.run(asking)
    found = [int(scores[i + 1][0] - scores[0][0]) for i in range(3)]
    assert found == weights.tolist()


# ---------------------------------------------------------------------------------- collusion


def test_institution_and_all_parties_but_one_learn_its_words_as_the_table_says():
    case = Case(made_up(1, 4))
    (answer,) = case.score("masked")
    known = encode_values(case.values[PLATFORM])
    part = (answer.words[0] - known) & WORD_MASK
    np.testing.assert_array_equal(part, encode_parts(case.values["tax"]))


def test_institution_and_platform_do_not_learn_one_of_two_providers():
    """Their masks with the platform known, the mask between the two providers remains."""
    case = Case(made_up(2, 4096))
    case.score()
    holder = case.sides[BANK].holder
    share = case.messages("scoring.share", "tax")[0]
    words = holder.decrypt(add_ciphertexts(share.ciphertexts))
    platform = case.sides[PLATFORM].keys
    # The platform's own view of the mask with tax alone.
    digest = share.request
    names = [name.encode() for name in sorted((PLATFORM, *case.providers))]
    stream = prg_u64(_derive(platform._streams["tax"], b"words", digest, *names), 4096)
    unmasked = (words + stream) & WORD_MASK  # the platform, lower by name, adds; tax takes off
    counts = np.bincount((unmasked >> np.uint64(53)).astype(int), minlength=64)
    assert ((counts - 64) ** 2 / 64).sum() < 63 + 6 * (2 * 63) ** 0.5
    assert not np.any(unmasked == encode_parts(case.values["tax"]))
