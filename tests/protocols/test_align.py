"""Private alignment: the right rows in one order, the floor, unusable input, the cache."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.errors import BudgetError, InputError, PeerProtocolError, PolicyError
from fedcredit.protocols import align, align_cached, align_many, align_terms
from fedcredit.protocols.align_cached import KnownLists, TagCache
from fedcredit.protocols.align_many import align_platform, align_provider
from fedcredit.wire import Peers, Session, Transcript, run_in_process
from tests.support.alignment import SESSION, SETS, STRATEGIES, check_aligned, outcome, roles, uscc


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n_providers", [1, 2, 3])
def test_rows_are_aligned(strategy, n_providers):
    sets = SETS[: n_providers + 1]
    check_aligned(run_in_process(roles(*sets, strategy=strategy)), *sets)


def test_two_party_roles():
    platform, provider = SETS[:2]
    reports = []
    results = run_in_process(
        {
            "platform": align.platform_role(
                Peers(["tax"]),
                np.array(platform),
                floor=1,
                session=SESSION,
                on_progress=lambda *report: reports.append(report),
            ),
            "tax": align.provider_role(
                Peers(["platform"]), "platform", np.array(provider), floor=1, session=SESSION
            ),
        }
    )
    check_aligned(results, platform, provider)
    step, done, total = reports[-1]
    assert (step, done) == ("align: columns", total)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(STRATEGIES),
    st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=2, max_size=3),
)
def test_against_python_sets(strategy, numbers):
    sets = [uscc(*sorted(some)) for some in numbers]
    if set.intersection(*numbers):
        check_aligned(run_in_process(roles(*sets, strategy=strategy)), *sets)
    else:
        ends = outcome(roles(*sets, strategy=strategy))
        assert all(isinstance(end, PolicyError) for end in ends.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("platform", "provider"),
    [([7], [7]), ([7], range(300)), (range(300), [7]), (range(3, 300), range(5))],
)
def test_unequal_sizes(strategy, platform, provider):
    sets = uscc(*platform), uscc(*provider)
    check_aligned(run_in_process(roles(*sets, strategy=strategy)), *sets)


def test_blocks_are_put_together(monkeypatch):
    """The same with blocks so small that every list travels in several messages."""
    for module, name, size in [
        (align_terms, "BLOCK", 3),
        (align_many, "_WORDS", 50),
        (align_many, "_TAGS", 3),
        (align_cached, "_BLOCK", 4),
        (align_cached, "_PART_BYTES", 100),
    ]:
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(align_terms.pieces, "__defaults__", (3,))
    for strategy in STRATEGIES:
        sets = SETS[: 2 if strategy == "cached" else 3]
        check_aligned(run_in_process(roles(*sets, strategy=strategy)), *sets)


def test_order_is_fresh_and_tells_nothing_of_the_input_order():
    sets = uscc(*range(200)), uscc(*range(200))
    orders = [check_aligned(run_in_process(roles(*sets)), *sets) for _ in range(2)]
    assert orders[0] != orders[1]
    for order in orders:
        places = np.array([int(item[-7:]) for item in order])
        # Spearman's rank correlation with the input order, 5 standard errors of 1/sqrt(n-1).
        assert abs(np.corrcoef(places, np.arange(200))[0, 1]) < 5 / 199**0.5


# ---------------------------------------------------------------------------------- the floor


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n_providers", [1, 2])
def test_below_the_floor_every_party_stops_without_a_number(strategy, n_providers):
    sets = [uscc(*range(60)), uscc(*range(49, 110)), uscc(*range(49, 150))][: n_providers + 1]
    ends = outcome(roles(*sets, strategy=strategy, floor=12))
    for end in ends.values():
        assert isinstance(end, PolicyError)
        assert "fewer common ids than the agreed floor" in str(end)
        assert not any(character.isdigit() for character in str(end))


@pytest.mark.parametrize("strict", ["platform", "tax", "social_security"])
def test_the_highest_floor_counts(strict):
    sets = uscc(*range(30)), uscc(*range(20, 60)), uscc(*range(20, 70))
    for floor, stops in [(10, False), (11, True)]:
        ends = outcome(roles(*sets, floors={strict: floor}))
        assert all(isinstance(end, PolicyError) == stops for end in ends.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "sets",
    [([], [1, 2]), ([1, 2], []), ([], []), ([1, 2], [3, 4]), ([1, 2], [2, 3], [3, 1])],
)
def test_nothing_in_common(strategy, sets):
    ends = outcome(roles(*(uscc(*some) for some in sets), strategy=strategy))
    assert all(isinstance(end, PolicyError) for end in ends.values())


# --------------------------------------------------------------------------- input of the caller


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (uscc(1, 2, 1), "twice"),
        ([*uscc(1), b""], "empty"),
        (["91440300MA50000001"], "must be bytes"),
    ],
)
def test_unusable_ids_are_refused(ids, message):
    for made in (roles(ids, uscc(1)), roles(uscc(1), ids)):
        ends = outcome(made)
        assert sum(isinstance(end, InputError) for end in ends.values()) == 2  # by the abort
        error = next(iter(ends.values()))
        assert message in str(error)
        assert "91440300" not in str(error)


def start(role):
    """Run a role to its first wait."""
    return list(Session(role).outgoing())


def test_unusable_arguments_are_refused():
    ids = uscc(1)
    calls = [
        {"floor": 0, "session": SESSION},
        {"floor": 1, "session": b"short"},
        {"floor": 1, "session": SESSION, "strategy": "fast"},
    ]
    for arguments in calls:
        with pytest.raises(InputError):
            start(align_platform(Peers(["tax"]), ids, **arguments))
        with pytest.raises(InputError):
            start(align_provider(Peers(["platform"]), "platform", [], ids, **arguments))
    with pytest.raises(InputError):
        start(align_platform(Peers([]), ids, floor=1, session=SESSION))
    for others in (["absent"], ["platform"], ["tax", "tax"]):
        peers = Peers(["platform", "tax"])
        with pytest.raises(InputError):
            start(align_provider(peers, "platform", others, ids, floor=1, session=SESSION))


def test_parties_that_disagree_stop():
    for arguments, message in [
        ({"strategy": "pairwise", "session": SESSION}, "another strategy"),
        ({"strategy": "private", "session": SESSION[::-1]}, "does not open its commitment"),
    ]:
        made = roles(uscc(1), uscc(1))
        made["tax"].close()
        made["tax"] = align_provider(
            Peers(["platform"]), "platform", [], uscc(1), floor=1, **arguments
        )
        ends = outcome(made)
        assert all(isinstance(end, PeerProtocolError) for end in ends.values())
        assert message in str(ends["tax"])


# -------------------------------------------------------------------------------------- the cache


def test_a_cached_list_travels_once_and_its_capacity_is_charged():
    platform, provider = uscc(*range(30)), uscc(*range(20, 220))
    cache, known = TagCache.build(provider, capacity=70), KnownLists()
    arguments = {"strategy": "cached", "caches": {"tax": cache}, "known": known}
    parts = []
    for _ in range(2):
        transcript = Transcript()
        made = roles(platform, provider, **arguments)
        check_aligned(run_in_process(made, transcript=transcript), platform, provider)
        parts.append(transcript.received_by("platform").get("align.list-part"))
    assert parts[0].messages == 1
    assert parts[1] is None
    assert cache.remaining == 10
    ends = outcome(roles(platform, provider, **arguments))
    assert all(isinstance(end, BudgetError) for end in ends.values())
    assert cache.remaining == 10
    assert known.get(bytes(16), cache.tags.shape) is None


def test_a_cache_serves_only_the_ids_it_was_built_of():
    provider = uscc(1, 2, 3)
    cache = TagCache.build(provider)
    for changed in (uscc(1, 3, 2), uscc(1, 2), uscc(1, 2, 4)):
        ends = outcome(roles(uscc(1), changed, strategy="cached", caches={"tax": cache}))
        assert all(isinstance(end, InputError) for end in ends.values())


def test_caches_show_and_pickle_nothing():
    reports = []
    cache = TagCache.build(uscc(1, 2), on_progress=lambda *report: reports.append(report))
    assert repr(cache) == "TagCache(n=2, remaining=65536)"
    assert reports == [("align: cached list", 2, 2)]
    with pytest.raises(TypeError):
        pickle.dumps(cache)
    agreement = align_terms.Agreement(SESSION, (bytes(32), bytes(32)), 1, 2, 1)
    assert repr(agreement) == "Agreement(size=1, peer_size=2, floor=1)"
    with pytest.raises(TypeError):
        pickle.dumps(agreement)
    for bad in ([], uscc(1, 1)):
        with pytest.raises(InputError):
            TagCache.build(bad)
    with pytest.raises(InputError):
        TagCache.build(uscc(1), capacity=0)


def test_two_party_roles_take_one_provider():
    with pytest.raises(InputError, match="exactly one provider"):
        start(align.platform_role(Peers(["tax", "housing"]), uscc(1), floor=1, session=SESSION))


def test_a_cache_draws_another_key_when_two_tags_meet(monkeypatch):
    original, keys = align_cached.TagList.build, []

    def meeting_once(digests, capacity):
        keys.append(digests.tobytes())
        if len(keys) == 1:
            digests = np.zeros_like(digests)
        return original(digests, capacity)

    monkeypatch.setattr(align_cached.TagList, "build", meeting_once)
    ids = uscc(1, 2, 3)
    cache = TagCache.build(ids)
    assert len(set(keys)) == 2
    arguments = {"strategy": "cached", "caches": {"tax": cache}}
    check_aligned(run_in_process(roles(uscc(2, 9), ids, **arguments)), uscc(2, 9), ids)
