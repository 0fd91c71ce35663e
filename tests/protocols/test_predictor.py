"""The label holder gets the sum of the parts, exactly, and no part of two or more providers."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from fedcredit.errors import FedCreditError, InputError, PeerProtocolError
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.protocols.predictor import predictor_label_holder, predictor_provider
from fedcredit.wire import Peers, Transcript, run_in_process
from tests.support.alignment import outcome

SESSION = b"sum of predictors, session 1"
NAMES = ("tax", "housing", "social")


def roles(parts, times=1, n_rows=None, session=None):
    names = NAMES[: len(parts)]

    async def provider(name, part):
        others = [other for other in names if other != name]
        peers = Peers(["platform", *others])
        zero = await ZeroShares.agree(peers, name, others, (session or {}).get(name, SESSION))
        for _ in range(times):
            await predictor_provider(peers["platform"], part, zero)

    async def platform():
        n = len(parts[0]) if n_rows is None else n_rows
        return [await predictor_label_holder(Peers(names), n) for _ in range(times)]

    made = {name: provider(name, part) for name, part in zip(names, parts, strict=True)}
    return {"platform": platform(), **made}


def made_up(providers, n=300, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n) * 10.0 ** rng.integers(-9, 5, n) for _ in range(providers)]


def shares(transcript):
    return [r.message.values for r in transcript.records if r.message.kind == "predictor.share"]


@pytest.mark.parametrize("providers", [1, 2, 3])
def test_the_sum_is_that_of_the_rounded_parts(providers):
    parts = made_up(providers)
    (got,) = run_in_process(roles(parts))["platform"]
    for row, value in enumerate(got):
        exact = sum(round(Fraction(part[row]) * 2**40) for part in parts)
        assert Fraction(value) == Fraction(float(Fraction(exact, 2**40)))


def test_the_largest_parts_fit():
    largest = np.nextafter(2.0**20, 0)
    parts = [np.array([largest, -largest]) for _ in NAMES]
    (got,) = run_in_process(roles(parts))["platform"]
    np.testing.assert_allclose(got, 3 * np.array([largest, -largest]), rtol=1e-15)


@pytest.mark.parametrize("providers", [2, 3])
def test_shares_look_random_and_are_fresh(providers):
    parts = [np.zeros(20_000) for _ in range(providers)]
    transcript = Transcript(keep=True)
    results = run_in_process(roles(parts, times=2), transcript=transcript)
    assert not np.any(results["platform"])
    seen = shares(transcript)
    assert len(seen) == 2 * providers
    values = np.concatenate(seen)
    # Of 120,000 random 64-bit words two are equal with probability 4e-10. Two providers' words
    # are opposite to each other, so equal only by the same chance.
    assert len(np.unique(values)) == len(values)
    counts = np.bincount(values.view(np.uint8), minlength=256)
    mean = values.nbytes / 256
    assert abs(((counts - mean) ** 2 / mean).sum() - 255) < 6 * (2 * 255) ** 0.5


def test_with_one_provider_its_part_is_revealed():
    """There is nothing to hide a single part in; the leakage table says so."""
    (part,) = made_up(1)
    transcript = Transcript(keep=True)
    run_in_process(roles([part]), transcript=transcript)
    np.testing.assert_array_equal(
        shares(transcript)[0].view(np.int64), np.rint(part * 2**40).astype(np.int64)
    )


BAD_PARTS = {
    "missing": np.array([0.0, np.nan]),
    "infinite": np.array([np.inf, 0.0]),
    "too large": np.array([0.0, -(2.0**20)]),
    "no rows": np.zeros(0),
    "two dimensions": np.zeros((2, 2)),
    "another type": np.zeros(2, np.float32),
}


@pytest.mark.parametrize("case", BAD_PARTS)
def test_bad_parts_are_refused_before_anything_is_sent(case):
    transcript = Transcript(keep=True)
    with pytest.raises(InputError) as caught:
        run_in_process(roles([BAD_PARTS[case]]), transcript=transcript)
    assert caught.value.step
    assert not transcript.records


@pytest.mark.parametrize(("providers", "n_rows"), [(0, 5), (9, 5), (2, 0)])
def test_the_label_holder_checks_its_arguments(providers, n_rows):
    peers = Peers([f"provider {i}" for i in range(providers)])
    with pytest.raises(InputError):
        run_in_process({"platform": predictor_label_holder(peers, n_rows)})


@pytest.mark.parametrize("change", [lambda v: v[:-1].copy(), lambda v: v[:0].copy()])
def test_a_share_of_another_length_is_refused(change):
    def tamper(sender, message):
        if sender == "housing" and message.kind == "predictor.share":
            return dataclasses.replace(message, values=change(message.values))
        return None

    end = outcome(roles(made_up(2)), tamper)["platform"]
    assert isinstance(end, PeerProtocolError)
    assert (end.party, end.step) == ("housing", "sum of predictors")


def test_masks_that_do_not_cancel_are_noticed():
    """Three of four random sums are out of range, so 300 rows never pass."""
    ends = outcome(roles(made_up(2), session={"tax": b"another session, number 2"}))
    assert isinstance(ends["platform"], FedCreditError)
    assert "cancel" in ends["platform"].reason
