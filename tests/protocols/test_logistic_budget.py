"""What a provider refuses, whatever the label holder says."""

import numpy as np
import pytest

from fedcredit.errors import BudgetError, PeerProtocolError, PolicyError
from fedcredit.protocols import logistic_messages as messages
from fedcredit.protocols.logistic import LogisticData, LogisticParams
from fedcredit.protocols.logistic_hidden import _Series
from fedcredit.protocols.logistic_holder import Holder
from fedcredit.protocols.logistic_types import LogisticLimits
from fedcredit.protocols.progress import ignore
from fedcredit.wire import Peers, Transcript, run_in_process
from tests.support.joint_logistic import PLATFORM, Case, fit, roles, synthetic

OWNERS = (2, 3)


def sent(transcript, name="tax"):
    return [r.message for r in transcript.records if r.sender == name]


def shares(transcript):
    return [m for m in sent(transcript) if m.kind == "predictor.share"]


def run_hostile(act, *, owners=OWNERS, limits=None, params=None, on_reveal=None):
    """Honest providers, and a label holder that opens the fit and then does what it likes."""
    X, y = synthetic(400, owners)
    params = params or LogisticParams()
    limits = limits or LogisticLimits(max_reveals=2)
    case = Case(X, y, owners, params=params, limits=limits, on_reveal=on_reveal)
    sizes = dict(zip(case.providers, owners[1:], strict=True))
    data = LogisticData(np.ascontiguousarray(X[:, : owners[0]]), y)

    async def label_holder():
        holder = Holder(Peers(case.providers), data, params, sizes, ignore)
        await holder.open(1)
        await act(holder)

    parts = roles(case)
    parts[PLATFORM].close()
    transcript = Transcript(keep=True)
    run_in_process({**parts, PLATFORM: label_holder()}, transcript=transcript)
    return transcript


async def begin(holder):
    await holder.begin()
    series = _Series(holder)
    await series.use()
    return series


# ---------------------------------------------------------------------------------- budgets


def test_no_predictor_leaves_without_a_budget():
    X, y = synthetic(600, OWNERS)
    transcript, calls = Transcript(keep=True), []
    case = Case(
        X, y, OWNERS, limits=LogisticLimits(max_reveals=0), on_reveal=lambda: calls.append(1)
    )
    with pytest.raises(BudgetError, match="no more than 0 predictors") as caught:
        fit(case, transcript)
    assert caught.value.party == "tax"
    assert not shares(transcript)
    assert not calls


def test_a_reveal_is_written_down_before_it_is_sent():
    X, y = synthetic(600, OWNERS)
    transcript, seen = Transcript(keep=True), []
    case = Case(X, y, OWNERS, on_reveal=lambda: seen.append(len(shares(transcript))))
    outcome = fit(case, transcript).outcome
    assert seen == list(range(outcome.revealed))
    assert len(shares(transcript)) == outcome.revealed == 1


def test_the_owner_may_refuse_a_reveal():
    X, y = synthetic(600, OWNERS)
    transcript = Transcript(keep=True)

    def refuse():
        raise PolicyError("no more predictors this year.", step="reveal", fix="ask next year")

    with pytest.raises(PolicyError, match="this year"):
        fit(Case(X, y, OWNERS, on_reveal=refuse), transcript)
    assert not shares(transcript)


def test_evaluations_are_capped():
    X, y = synthetic(600, OWNERS)
    limits = LogisticLimits(max_reveals=2, max_evaluations=3)
    with pytest.raises(BudgetError, match="no more than 3 gradients"):
        fit(Case(X, y, OWNERS, limits=limits))


def test_the_label_holder_keeps_its_own_cap():
    X, y = synthetic(600, OWNERS)
    params = LogisticParams(reveal_predictor=True, max_reveals=1)
    outcome = fit(Case(X, y, OWNERS, params=params)).outcome
    assert outcome.revealed == 1
    assert LogisticParams().reveals_allowed({"a": 13, "b": 4}) == 2
    assert LogisticParams().reveals_allowed({"a": 1}) == 1


# -------------------------------------------------------------------------------- out of turn


async def repeat_an_evaluation(holder):
    series = await begin(holder)
    holder.evaluations -= 1
    await holder.evaluate(series.current, pair=False)


async def skip_an_evaluation(holder):
    holder.evaluations += 1
    await holder.begin()


async def exact_without_reveal(holder):
    await begin(holder)
    await holder.move("newton", np.array([-1.0]))
    await holder.exact("exact", holder.y)


async def gram_without_reveal(holder):
    await begin(holder)
    await holder.move("newton", np.array([-1.0]))
    await holder.peers.broadcast(messages.Gram(1))
    await holder.peers["tax"].recv(messages.Basis)


async def second_gram_for_one_reveal(holder):
    await begin(holder)
    await holder.peers.broadcast(messages.Gram(2))
    await holder.peers["tax"].recv(messages.Basis)


async def step_before_gradient(holder):
    await holder.peers.broadcast(messages.BasisStep(np.zeros(3)))
    await holder.peers["tax"].recv(messages.Basis)


async def move_before_gradient(holder):
    await holder.move("newton", np.array([-1.0]))


async def pair_without_move(holder):
    series = await begin(holder)
    await holder.evaluate(series.current, pair=True)


async def reveal_out_of_turn(holder):
    await begin(holder)
    holder.reveals = 1
    await holder.reveal()


async def two_moves_for_one_gradient(holder):
    await begin(holder)
    for _ in range(2):
        await holder.move("newton", np.array([-1.0]))


async def begin_twice(holder):
    await begin(holder)
    await holder.begin()


async def two_exact_gradients_for_one_predictor(holder):
    await begin(holder)
    for _ in range(2):
        await holder.exact("exact", holder.y)
        await holder.peers["tax"].recv(messages.Basis)
        await holder.peers["tax"].recv(messages.BasisGradient)


async def unknown_move(holder):
    await begin(holder)
    await holder.peers.broadcast(messages.Move("reveal", (), 0.0, 0.0))
    await holder.peers["tax"].recv(messages.Ranges)


async def unknown_pass(holder):
    await holder.exact("reveal", holder.y)
    await holder.moments()


async def move_by_too_many(holder):
    await begin(holder)
    await holder.peers.broadcast(messages.Move("newton", (1.0, 2.0), 0.0, 0.0))
    await holder.peers["tax"].recv(messages.Ranges)


@pytest.mark.parametrize(
    "act",
    [
        repeat_an_evaluation,
        skip_an_evaluation,
        exact_without_reveal,
        gram_without_reveal,
        second_gram_for_one_reveal,
        step_before_gradient,
        move_before_gradient,
        pair_without_move,
        reveal_out_of_turn,
        two_moves_for_one_gradient,
        begin_twice,
        two_exact_gradients_for_one_predictor,
        unknown_move,
        unknown_pass,
    ],
    ids=lambda act: act.__name__,
)
def test_what_is_out_of_turn_is_refused(act):
    with pytest.raises(PeerProtocolError, match=r"out of turn|no such|was not made") as caught:
        run_hostile(act)
    assert caught.value.party == PLATFORM


def test_steps_that_do_not_fit_are_refused():
    with pytest.raises(Exception, match="do not fit the vectors"):
        run_hostile(move_by_too_many)


@pytest.mark.parametrize("owners", [(2, 3), (2, 2, 2)])
def test_evaluating_twice_at_one_place_never_uses_a_mask_twice(owners):
    """Whatever phase the label holder claims to be in."""

    async def act(holder):
        series = await begin(holder)
        for _ in range(3):
            await holder.evaluate(series.current, pair=False)
        await holder.peers.broadcast(messages.Finish(np.zeros((0, 0))))
        await holder.peers.gather(messages.Result)

    transcript = run_hostile(act, owners=owners)
    names = {r.sender for r in transcript.records} - {PLATFORM}
    for name in names:
        angles = [m.angles.astype(np.int64) for m in sent(transcript, name) if hasattr(m, "angles")]
        assert len(angles) == 3
        for one, other in ((0, 1), (1, 2), (0, 2)):
            apart = (angles[one] - angles[other]) % (1 << 16)
            assert np.unique(apart).size > 0.95 * apart.size
    assert not shares(transcript)
