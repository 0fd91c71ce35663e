"""Every rule that refuses a question: its code, who refuses, and what stands in that party's books.

Not reached by a question of an institution: ``aggregation_too_small`` (jobs of the platform). The
``consent_*`` are the same for scores and verifications, so verifications show a few only.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fedcredit.errors import Refusal
from fedcredit.governance import institutions
from fedcredit.governance.alarms import list_alarms
from fedcredit.governance.budgets import BudgetRules
from fedcredit.governance.codes import CODES
from fedcredit.governance.question import Question
from fedcredit.protocols import scoring
from tests.support.refusals import RULES, SHOWN
from tests.support.service import (
    BANK,
    CARD,
    CAREFUL,
    LITE,
    NOW,
    PLATFORM,
    Case,
)


@pytest.fixture
def case():
    return Case(3, (CARD,), keep=True)


def assert_refused(case, code, party, ask):
    """Ask; see that it is refused by the rule, logged, counted, and not answered."""
    before = {name: (case.entries(name), case.outcomes(name)) for name in case.parties}
    answers = len([r for r in case.service.transcript.records if r.message.kind in ANSWERS])
    with pytest.raises(Refusal) as caught:
        ask()
    error = caught.value
    assert (error.code, error.reason[-1], bool(error.step)) == (code, ".", True), str(error)
    assert error.fix
    assert error.party in ((party,) if party else case.parties)
    for secret in (*case.codes(60), *case.world.strangers[:5]):
        assert secret not in str(error)
    logged, counted = before[error.party]
    new = case.entries(error.party)[len(logged) :]
    assert [e.kind for e in new] == ["refusal"], [e.facts for e in new]
    facts = new[0].facts
    assert (facts["outcome"], facts["institution"]) == (code, BANK)
    assert case.outcomes(error.party).get(code, 0) == counted.get(code, 0) + 1
    after = len([r for r in case.service.transcript.records if r.message.kind in ANSWERS])
    assert after == answers
    return error, new[0]


#: What would carry an answer; a refused verification carries its refusal under the same seal.
ANSWERS = {"scoring.answer", "verify.answer"}


@pytest.mark.parametrize(("code", "party", "prepare"), RULES)
def test_refused(case, code, party, prepare):
    error, entry = assert_refused(case, code, party, prepare(case))
    if entry.facts["target"] == CARD:
        assert entry.subjects == 1
    assert error.code in CODES


def test_a_binary_search_ends_in_a_suspension(case):
    """Of 24 thresholds five questions would do; the third is refused and ends everything."""
    code = case.codes(1)[0]
    late = case.world.tables["tax"]["late_filings_12m"][case.world.rows["tax"][code]]
    low, high, answers = 0, 23, []
    for _ in range(2):
        middle = (low + high) // 2
        answers.append(case.verify(code, threshold=middle).outcome)
        low, high = (low, middle) if answers[-1] == "yes" else (middle + 1, high)
    ask = lambda: case.verify(code, threshold=(low + high) // 2)  # noqa: E731
    assert_refused(case, "search_pattern", "tax", ask)
    assert answers[0] == ("yes" if late <= 11 else "no")
    with case.gate("tax").ledger.reading() as tx:
        assert [a.code for a in list_alarms(tx)] == ["search_pattern"]
    # At that party nothing is answered any more, of whatever kind and about whomever.
    for ask in (lambda: case.verify(case.codes(2)[1], threshold=3), case.ask):
        assert_refused(case, "institution_suspended", "tax", ask)
    with case.gate("tax").ledger.transaction() as tx:
        institutions.release(tx, BANK, why="settled", by="Li Na", now=NOW)
    case.ask(case.codes(3)[2])
    assert_refused(case, "search_pattern", "tax", lambda: case.verify(code, threshold=9))


def test_guessing_codes_suspends(case):
    """Enterprises without a record, far more than honest questions have."""
    gate = case.gate("social")
    gate.budgets = BudgetRules(unknown_from=5, max_unknown_share=0.5)
    strangers = [c for c in case.world.strangers if c not in case.world.rows["social"]][:6]
    case.bank.score_batch(strangers, case.consents(strangers), model=CARD)
    with gate.ledger.reading() as tx:
        assert [a.code for a in list_alarms(tx)] == ["scraping_pattern"]
    assert_refused(case, "institution_suspended", "social", case.ask)


# ------------------------------------------------------------------------- models and requests


def test_a_model_that_nobody_serves(case):
    with pytest.raises(Refusal) as caught:
        case.bank.score(case.codes(1)[0], "x", model="nobodys@1")
    assert (caught.value.code, caught.value.party) == ("model_unknown", PLATFORM)
    SHOWN.add("model_unknown")


def test_a_purpose_that_is_none(case):
    """It is no question, so it has no line in the usage table; that it came is logged."""
    (token,) = case.consents(case.codes(1))
    with pytest.raises(Refusal) as caught:
        case.ask(consent=token, purpose="marketing")
    assert caught.value.code == "purpose_denied"
    (entry,) = case.entries(caught.value.party, "refusal")
    assert entry.facts["outcome"] == "purpose_denied"


# -------------------------------------------------------------- in the protocol or a party's own


def test_a_request_that_came_before(case):
    """The same request at one gate, although its consent has uses left."""
    (token,) = case.consents(case.codes(1), max_uses=5)
    question = Question(
        BANK, "credit_granting", "score", CARD, (), tuple(case.codes(1)), (token,), bytes(32)
    )
    gate = case.gate("tax")
    gate.admit(question)
    with pytest.raises(Refusal) as caught:
        gate.admit(question)
    assert caught.value.code == "request_repeated"
    gate.admit(dataclasses.replace(question, request=bytes(31) + b"1"))
    assert case.outcomes("tax") == {"admitted": 2, "request_repeated": 1}
    SHOWN.add("request_repeated")


def test_a_share_of_another_shape(case, monkeypatch):
    """A provider that gives two words where one is due."""
    make = scoring.party_share

    def two(keys, encryptor, request, digest, given):
        if keys.me == "tax":
            given = dataclasses.replace(given, words=np.repeat(given.words, 2, axis=1))
        return make(keys, encryptor, request, digest, given)

    monkeypatch.setattr(scoring, "party_share", two)
    with pytest.raises(Refusal) as caught:
        case.ask()
    assert (caught.value.code, caught.value.party) == ("share_invalid", "tax")
    monkeypatch.undo()
    case.ask(case.codes(2)[1])
    SHOWN.add("share_invalid")


@pytest.mark.parametrize("party", [PLATFORM, "tax", "social"])
def test_a_refusal_costs_no_consent(case, party):
    """Whoever refuses, the others give back what they had already counted as a use."""
    code = case.codes(1)[0]
    (token,) = case.consents([code])
    with case.gate(party).ledger.transaction() as tx:
        institutions.suspend(tx, BANK, why="asked too much", by="Li Na", now=NOW)
    assert_refused(case, "institution_suspended", party, lambda: case.ask(code, token))
    with case.gate(party).ledger.transaction() as tx:
        institutions.release(tx, BANK, why="settled", by="Li Na", now=NOW)
    assert case.ask(code, token).score
    with pytest.raises(Refusal) as caught:
        case.ask(code, token)
    assert caught.value.code == "consent_used"


# ---------------------------------------------------------------------------- a party is away


def test_a_party_is_away(case):
    case.world.deploy(CAREFUL)
    case.service.away.add("social")
    code = case.codes(1)[0]
    (token,) = case.consents([code], CARD, CAREFUL, LITE, max_uses=9)
    for model, hint in ((CARD, False), (CAREFUL, True)):
        with pytest.raises(Refusal, match="social cannot be reached") as caught:
            case.bank.score(code, token, model=model)
        assert (caught.value.code, caught.value.party) == ("party_missing", "social")
        assert ("fallback" in caught.value.fix) == hint
    # Without one to fall back on, allowing it does not help.
    with pytest.raises(Refusal) as caught:
        case.bank.score(code, token, model=CARD, allow_fallback=True)
    assert caught.value.code == "party_missing"
    with pytest.raises(Refusal) as caught:
        case.bank.verify(code, token, provider="social", predicate="any", threshold=1)
    assert (caught.value.code, caught.value.party) == ("party_missing", "social")
    assert not any(case.answered(name) for name in case.parties)
    SHOWN.add("party_missing")


def test_the_fallback_is_flagged(case):
    case.world.deploy(CAREFUL)
    case.service.away.add("social")
    codes = case.codes(20)
    tokens = case.consents(codes, LITE)
    batch = case.bank.score_batch(codes, tokens, model=CAREFUL, allow_fallback=True)
    assert (batch.fallback, batch.missing, batch.header.target) == (True, ("social",), LITE)
    assert batch.to_frame()["fallback"].all()
    result = batch[0]
    assert (result.fallback, result.missing, result.model) == (True, ("social",), LITE)
    assert result.to_dict()["fallback"] is True
    assert set(result.receipt.statements) == {PLATFORM, "tax"}
    want = case.world.lite.decision_function(case.world.frame.take(np.arange(20)))
    assert np.abs(batch.scores - want).max() < 1e-6
    # A consent for the model that was asked for covers no other.
    with pytest.raises(Refusal) as caught:
        case.bank.score(
            codes[0], case.consents(codes[:1], CAREFUL)[0], model=CAREFUL, allow_fallback=True
        )
    assert caught.value.code == "consent_scope"
    # The party is back: no fallback although it is allowed.
    case.service.away.clear()
    back = case.ask(model=CAREFUL, allow_fallback=True)
    assert (back.fallback, back.missing, back.model) == (False, (), CAREFUL)


# ------------------------------------------------------------------------------------- all codes

#: Codes of other occasions: jobs of the platform, logs that cannot be written (tested elsewhere),
#: and what a party reports of itself.
ELSEWHERE = {
    "aggregation_too_small",
    "declined_elsewhere",
    "log_failed",
}


def test_every_code_is_shown():
    assert not SHOWN & ELSEWHERE
    assert set(CODES) == SHOWN | ELSEWHERE
