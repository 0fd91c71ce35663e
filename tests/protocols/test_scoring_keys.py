"""Masks that cancel among one request's participants, once; seals for one reader and purpose."""

import numpy as np
import pytest

from fedcredit.crypto.encscore import WORD_MASK
from fedcredit.errors import InputError, PeerProtocolError, Refusal
from fedcredit.protocols.scoring_keys import ServiceKeys
from tests.support.parties import assert_helpful
from tests.support.scoring import BANK, PLATFORM, PROVIDERS


def members(session_keys=None):
    """The keys of a bank, a platform and three providers, all pair keys known."""
    names = (BANK, PLATFORM, *PROVIDERS[:3])
    pair = session_keys or {
        frozenset((a, b)): bytes([i, j]) * 16
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i < j
    }
    return {
        me: ServiceKeys(
            me,
            BANK,
            PLATFORM,
            names[2:],
            {other: pair[frozenset((me, other))] for other in names if other != me},
            b"" if me == BANK else bytes(range(32)),
        )
        for me in names
    }


@pytest.mark.parametrize("taking", [("tax",), ("tax", "customs"), PROVIDERS[:3]])
def test_masks_cancel_among_the_participants_alone(taking):
    keys = members()
    masks = [keys[name].mask_words(b"r" * 32, taking, 500) for name in (PLATFORM, *taking)]
    assert not np.any(sum(masks) & WORD_MASK)
    for some in (masks[1:], masks[:-1]):
        words = sum(some) & WORD_MASK
        counts = np.bincount((words >> np.uint64(55)).astype(int), minlength=16)
        assert ((counts - 500 / 16) ** 2 / (500 / 16)).sum() < 60


def test_masks_of_requests_and_groups_are_unrelated():
    keys = members()["tax"]
    seen = [
        keys.mask_words(b"a" * 32, ("tax",), 100),
        keys.mask_words(b"b" * 32, ("tax",), 100),
        members()["tax"].mask_words(b"a" * 32, ("tax", "social"), 100),
    ]
    for i in range(3):
        for j in range(i):
            assert not np.any(seen[i] == seen[j])


def test_masks_of_different_groups_do_not_cancel_piece_by_piece():
    """The mask with the platform alone is no part of the mask of a larger group."""
    alone = sum(members()[n].mask_words(b"a" * 32, (n,), 100) for n in ("tax", "social"))
    group = members()[PLATFORM].mask_words(b"a" * 32, ("tax", "social"), 100)
    assert np.count_nonzero((alone + group) & WORD_MASK) == 100


def test_a_mask_is_given_once():
    keys = members()["tax"]
    keys.admit(b"r" * 32)
    keys.mask_words(b"r" * 32, ("tax",), 5)
    for again in (
        lambda: keys.mask_words(b"r" * 32, ("tax",), 5),
        lambda: keys.mask_words(b"r" * 32, ("tax", "social"), 5),
        lambda: keys.admit(b"r" * 32),
    ):
        with pytest.raises(Refusal) as caught:
            again()
        assert (caught.value.code, caught.value.party) == ("request_repeated", "tax")


@pytest.mark.parametrize("taking", [(), ("social",), ("tax", "nobody"), ("tax", BANK)])
def test_a_mask_needs_participants_of_the_session(taking):
    with pytest.raises(InputError):
        members()["tax"].mask_words(b"r" * 32, taking, 5)


def test_the_seed_is_common_to_all_but_the_institution():
    keys = members()
    seeds = {keys[name].request_seed(b"r" * 32) for name in (PLATFORM, *PROVIDERS[:3])}
    assert len(seeds) == 1
    assert keys["tax"].request_seed(b"s" * 32) not in seeds
    with pytest.raises(InputError):
        keys[BANK].request_seed(b"r" * 32)


def test_what_is_sealed_opens_for_one_purpose_sender_and_reader():
    keys = members()
    sealed = keys["tax"].seal_to_institution(b"words", b"purpose")
    assert keys[BANK].open_from("tax", sealed, b"purpose") == b"words"
    for sender, data, purpose in (
        ("tax", sealed, b"another"),
        ("social", sealed, b"purpose"),
        ("tax", sealed[:-1], b"purpose"),
        ("tax", b"", b"purpose"),
        ("tax", bytes(12) + sealed[12:], b"purpose"),
    ):
        with pytest.raises(PeerProtocolError) as caught:
            keys[BANK].open_from(sender, data, purpose)
        assert_helpful(caught.value, party=sender)
    with pytest.raises(PeerProtocolError):
        keys[PLATFORM].open_from("tax", sealed, b"purpose")
    with pytest.raises(PeerProtocolError):  # not back to its sender either
        keys["tax"].open_from(BANK, sealed, b"purpose")
    with pytest.raises(InputError):
        keys["tax"].seal_to("nobody", b"", b"")
