"""What crosses the wire of a scoring session, held to the table of its protocol."""

import itertools

import numpy as np
import pytest
from scipy import stats

from fedcredit.crypto.encscore import (
    WORD_MASK,
    add_ciphertexts,
    decode_words,
    encode_parts,
    encode_values,
)
from fedcredit.errors import Refusal
from fedcredit.protocols.scoring import WordsAndNotes, institution_round
from fedcredit.protocols.scoring_messages import MODES
from fedcredit.wire import message_class
from tests.support.scoring import (
    BANK,
    PLATFORM,
    Case,
    consents_of,
    made_up,
    noise_of,
    subjects_of,
)

BOTH = pytest.mark.parametrize("mode", MODES)
COUNTS = pytest.mark.parametrize("providers", [1, 2, 3, 5])

ALL = {"scoring.key"}
KINDS = {
    ("bank", "platform"): {"scoring.hello", "scoring.request", "test.end"},
    ("bank", "provider"): {"scoring.hello", "scoring.request", "test.end"},
    ("platform", "bank"): {"scoring.answer"},
    ("platform", "provider"): {"scoring.seed"},
    ("provider", "bank"): set(),
    ("provider", "platform"): {"scoring.share"},
    ("provider", "provider"): set(),
}


def role(name):
    return name if name in (BANK, PLATFORM) else "provider"


@BOTH
@COUNTS
def test_the_kinds_of_messages_are_those_of_the_protocol(mode, providers):
    case = Case(made_up(providers, 10))
    case.score(mode, times=2)
    names = (BANK, *case.values)
    for sender, recipient in itertools.permutations(names, 2):
        kinds = {r.message.kind for r in case.transcript.between(sender, recipient)}
        assert kinds == KINDS[role(sender), role(recipient)] | ALL
        assert all(message_class(kind).reveals for kind in kinds)
    per_round = {"scoring.request": providers + 1, "scoring.share": providers, "scoring.answer": 1}
    for kind, count in per_round.items():
        assert len(case.messages(kind)) == 2 * count


def test_own_features_add_one_message():
    case = Case(made_up(2, 4), weights=np.arange(6), own=True)
    case.score(own=np.ones((4, 6), np.int64))
    (record,) = [r for r in case.transcript.records if r.message.kind == "scoring.own"]
    assert (record.sender, record.recipient) == (BANK, PLATFORM)


# ----------------------------------------------------------------------- what is not on the wire


def found(wire, values):
    """Whether the first 8 entries of a vector, however encoded, are in the bytes."""
    for dtype in ("<i8", "<i4", "<f8", "<f4"):
        with np.errstate(over="ignore", invalid="ignore"):
            encoded = np.asarray(values).astype(dtype)
        if np.array_equal(encoded.astype(np.float64), np.asarray(values).astype(np.float64)):
            data = encoded.tobytes()
            if data[: 8 * encoded.itemsize] in wire:
                return True
    return False


@BOTH
@COUNTS
def test_no_value_word_or_score_is_on_the_wire(mode, providers):
    case = Case(made_up(providers, 200))
    (answer,) = case.score(mode)
    wire = b"|".join(r.data.to_pybytes() for r in case.transcript.records)
    for values in (*case.values.values(), case.total):
        for encode in (lambda v: v, encode_values, encode_parts):
            assert not found(wire, encode(values))
    assert not found(wire, answer.words[0])
    # Notes are sealed; receipts and metadata travel in the clear, inside signed envelopes.
    for name in case.values:
        assert f"note of {name}".encode() not in wire
        assert f"receipt of {name}".encode() in wire
    # Secrets of the session.
    for side in case.sides.values():
        for secret in (side.keys._seed, *side.keys._streams.values()):
            assert not secret or secret not in wire
    # The search sees what is there.
    assert found(wire + case.total.tobytes(), case.total)
    assert subjects_of(1)[0].encode() in wire


@BOTH
def test_enterprises_are_named_in_the_request_alone(mode):
    case = Case(made_up(2, 20))
    case.score(mode)
    for r in case.transcript.records:
        named = any(s.encode() in r.data.to_pybytes() for s in subjects_of(20))
        assert named == (r.message.kind == "scoring.request")


# ------------------------------------------------------------- what is there looks like chance


def chi_square(data, classes=256):
    counts = np.bincount(data, minlength=classes)
    mean = data.size / classes
    return (((counts - mean) ** 2 / mean).sum() - (classes - 1)) / (2 * (classes - 1)) ** 0.5


@COUNTS
def test_sealed_words_and_notes_are_uniform_bytes_and_fresh(providers):
    case = Case(made_up(providers, 4096))
    case.score("masked", times=2)
    for name in case.providers:
        shares = case.messages("scoring.share", name)
        for share in shares:
            assert abs(chi_square(np.frombuffer(share.sealed, np.uint8))) < 6
        same = np.frombuffer(shares[0].sealed, np.uint8) == np.frombuffer(
            shares[1].sealed, np.uint8
        )
        assert same.mean() < 0.01
        notes = np.concatenate([np.frombuffer(s.note, np.uint8) for s in shares])
        assert abs(np.unpackbits(notes).mean() - 0.5) < 0.06


@COUNTS
def test_what_the_platform_sees_does_not_depend_on_the_values(providers):
    """Ciphertexts of extreme values, against each other: without the key, both uniform."""
    shapes = []
    for bound in (1, 1 << 28):
        case = Case(made_up(providers, 4096, bound=bound))
        case.score("homomorphic")
        for share in case.messages("scoring.share"):
            words = np.frombuffer(share.ciphertexts[0][24:], np.uint8)
            shapes.append(np.bincount(words, minlength=256))
    for one, two in itertools.combinations(shapes, 2):
        assert stats.chi2_contingency(np.stack([one, two]))[1] > 1e-8


@BOTH
def test_sizes_depend_on_the_request_alone(mode):
    sizes = set()
    for seed in range(3):
        case = Case(made_up(2, 50, seed=seed, bound=1 << (4 + 8 * seed)))
        case.score(mode)
        sizes.add(tuple(r.data.size for r in case.transcript.records))
    assert len(sizes) == 1


# ------------------------------------------------- what the institution sees with its secret key


def words_of(case, mode, times=1):
    """The masked words of every party that its secret keys open, per request."""
    keys, holder = case.sides[BANK].keys, case.sides[BANK].holder
    out = []
    if mode == "homomorphic":
        shares = zip(*(case.messages("scoring.share", n) for n in case.providers), strict=True)
        out += [[holder.decrypt(share.ciphertexts[0]) for share in group] for group in shares]
    else:
        for answer in case.messages("scoring.answer"):
            names = (PLATFORM, *sorted(case.providers))
            purpose = b"words of " + answer.request
            out.append(
                [
                    np.frombuffer(keys.open_from(n, s, purpose), "<u8")
                    for n, s in zip(names, answer.sealed, strict=True)
                ]
            )
    assert len(out) == times
    return out


@BOTH
@COUNTS
def test_the_words_of_single_parties_are_uniform(mode, providers):
    case = Case(made_up(providers, 4096))
    case.score(mode, times=2)
    rounds = words_of(case, mode, 2)
    for words in rounds:
        for vector in words:
            for shift in (51, 31, 23, 0):
                part = (vector >> np.uint64(shift)) & np.uint64(255)
                assert abs(chi_square(part.astype(np.int64))) < 6
    for one, two in zip(*rounds, strict=True):
        assert not np.any(one == two)


@pytest.mark.parametrize("providers", [2, 3, 5])
def test_the_words_are_uniform_given_their_sum(providers):
    """All parties' words but one are independent of each other, of the values and of the sum."""
    case = Case(made_up(providers, 4096))
    case.score("masked")
    (words,) = words_of(case, "masked")
    values, ok = decode_words(sum(words[1:], words[0]) & WORD_MASK)
    assert ok.all()
    np.testing.assert_array_equal(values, case.total)
    known = [case.total, *case.values.values()]
    for one, two in itertools.combinations(words, 2):
        # Of three or more parties, two words together are uniform on the square.
        square = (one >> np.uint64(55)) * np.uint64(16) + (two >> np.uint64(55))
        assert abs(chi_square(square.astype(np.int64))) < 6
    for vector in words:
        # The low bits too, where a value would show.
        for seen in (vector & np.uint64((1 << 21) - 1), vector):
            for value in known:
                r = np.corrcoef(seen.astype(float), value.astype(float))[0, 1]
                assert abs(r) < 5 / 64


def views(case, mode, times):
    """Everything of the institution's view but the score: words of single parties, noise."""
    # One enterprise with many slots: shorter requests.
    case.score(mode, times=times, subjects=subjects_of(1), consents=consents_of(1))
    if mode == "masked":
        return np.array([np.concatenate(words) for words in words_of(case, mode, times)])
    holder = case.sides[BANK].holder
    sums = [answer.ciphertexts[0] for answer in case.messages("scoring.answer")]
    return np.array([noise_of(holder, c) for c in sums])


def splits(slots):
    """Two ways in which three parties make the same 4096 scores."""
    total = np.random.default_rng(3).integers(-(1 << 28), 1 << 28, slots)
    zero = np.zeros(slots, np.int64)
    return [
        {PLATFORM: total, "tax": zero, "social": zero},
        {PLATFORM: zero - 5, "tax": total // 2, "social": total - total // 2 + 5},
    ]


def accuracy(a, b, folds=5):
    """Cross-validated accuracy of the best separating direction of two sets of views."""
    hits = []
    for fold in range(folds):
        train = np.arange(len(a)) % folds != fold
        direction = a[train].mean(0) - b[train].mean(0)
        middle = direction @ (a[train].mean(0) + b[train].mean(0)) / 2
        hits += [*(a[~train] @ direction > middle), *(b[~train] @ direction <= middle)]
    return np.mean(hits)


@BOTH
def test_two_splits_of_one_score_cannot_be_told_apart(mode):
    times, slots = 40, 4096
    one, two = (views(Case(values), mode, times) for values in splits(slots))
    assert stats.ks_2samp(one.ravel()[::9], two.ravel()[::9]).pvalue > 1e-6
    scale = one.std()
    a, b = one.astype(float) / scale, two.astype(float) / scale
    # 80 views: four and a half deviations. The squares look for a difference of variances.
    assert 0.25 < accuracy(a, b) < 0.75
    assert 0.25 < accuracy(a**2, b**2) < 0.75


def test_the_distinguisher_finds_splits_that_are_not_masked():
    """The same search on words without their masks, and on noise that carries a trace."""
    one, two = splits(4096)
    rng = np.random.default_rng(5)
    parts = [np.concatenate([encode_parts(v) for v in split.values()]) for split in (one, two)]
    bare = [np.tile(p.astype(float) / 2.0**59, (40, 1)) for p in parts]
    assert accuracy(*bare) == 1
    noise = [rng.normal(scale=400, size=(40, 4096)) + (v["tax"] & 255) for v in (one, two)]
    assert accuracy(*noise) > 0.9


def test_the_platforms_sum_has_the_noise_of_fresh_ciphertexts_only():
    case = Case(made_up(2, 4096))
    case.score()
    holder = case.sides[BANK].holder
    shares = [m.ciphertexts[0] for m in case.messages("scoring.share")]
    (answer,) = case.messages("scoring.answer")
    # Sum minus the shares: what the platform added is one fresh ciphertext.
    total = noise_of(holder, answer.ciphertexts[0])
    others = noise_of(holder, add_ciphertexts(shares))
    own = total - others
    assert 200 < own.std() < 280
    assert abs(np.corrcoef(own, case.values[PLATFORM])[0, 1]) < 5 / 64


# ---------------------------------------------------------------------------------- declined


@BOTH
def test_a_declined_request_gives_the_institution_no_words(mode):
    values = made_up(2, 10)

    def refuse(request, digest):
        raise Refusal("a consent has expired.", code="consent_expired")

    case = Case(values, answers={"tax": refuse})

    async def asking(peers, side):
        with pytest.raises(Refusal):
            await institution_round(peers, side, *case.ask(side, mode))

    case.run(asking)
    assert not case.messages("scoring.answer")
    received = {k for (_, to, k) in case.transcript.counts if to == BANK}
    assert received == {"scoring.key", "scoring.declined"}
    # The platform has the other party's share, which it cannot read.
    assert len(case.messages("scoring.share")) == 1


@BOTH
def test_rows_of_trees_are_as_masked_as_scores(mode):
    words = {n: np.zeros((3, 512), np.uint64) for n in made_up(2, 1)}

    def answers(me):
        return lambda request, digest: WordsAndNotes(words[me])

    case = Case(made_up(2, 3), answers={me: answers(me) for me in words})
    (answer,) = case.score(mode)
    assert not answer.words.any()
    holder, keys = case.sides[BANK].holder, case.sides[BANK].keys
    for share in case.messages("scoring.share", "tax"):
        if mode == "homomorphic":
            seen = np.concatenate([holder.decrypt(c)[:512] for c in share.ciphertexts])
        else:
            opened = keys.open_from("tax", share.sealed, b"words of " + share.request)
            seen = np.frombuffer(opened, "<u8")
        assert len(np.unique(seen)) == 3 * 512
        assert abs(chi_square((seen >> np.uint64(51)).astype(np.int64))) < 6
