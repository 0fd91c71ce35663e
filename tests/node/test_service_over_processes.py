"""The service between real processes: at once, killed in the middle, with no room for the log."""

from __future__ import annotations

import dataclasses
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

import fedcredit as fc
from fedcredit.errors import AuthenticationError, FedCreditError, Refusal, TransportError
from fedcredit.governance import institutions
from fedcredit.governance.audit_read import AuditReader
from fedcredit.governance.enterprise import Enterprise
from fedcredit.governance.keys import KeyRegistry
from fedcredit.governance.ledger import Ledger
from fedcredit.models.scoring.receipts import Receipt
from fedcredit.node.config import load_config
from fedcredit.node.connect import institution_of
from fedcredit.uscc import normalise
from tests.support.site import PLATFORM, make_site

pytestmark = pytest.mark.slow

BANK, MODEL = "bank", "sme-trees@1"
DAY = 86_400.0
AT_ONCE, SESSIONS = 100, 16


class Served:
    """A site with a model in service, and what the bank's side needs to ask."""

    def __init__(self, site):
        self.site = site
        self.parties = (PLATFORM, *site.providers)
        config = site.config(BANK)
        # A lost party is to be noticed soon.
        config.write_text(config.read_text() + "\n[session]\nabsence_timeout = 5\n")

    def deploy(self):
        with self.site.connect() as federation:
            frame = federation.align()
            model = fc.VerticalGBDTClassifier(n_estimators=4, max_depth=3, learning_rate=0.5)
            model.fit(frame, self.site.data.label)
            federation.deploy(model, MODEL)
            self.codes = [code.decode() for code in normalise(frame.ids[:200].tolist()).ids]
            self.scores = model.decision_function(frame.take(np.arange(200)))
        self.enterprises = [Enterprise.generate(code) for code in self.codes]
        for party in self.parties:
            with self.ledger(party) as ledger, ledger.transaction() as tx:
                now = time.time()
                registry = KeyRegistry(ledger, party)
                for one in self.enterprises:
                    registry.add("subject", one.uscc, one.public_key, now - DAY, tx=tx)
                institutions.onboard(
                    tx,
                    BANK,
                    assessment="A-1",
                    assessed=now - DAY,
                    expires=now + DAY,
                    purposes=["credit_granting"],
                    now=now,
                )

    def ledger(self, party):
        return closing(Ledger(load_config(self.site.config(party)).database, party=party))

    def entries(self, party, *kinds):
        with self.ledger(party) as ledger:
            return [e for e in AuditReader(ledger, party).entries() if e.kind in kinds]

    def bank(self):
        return institution_of(load_config(self.site.config(BANK)))

    def grant(self, number, **changes):
        settings = {"institution": BANK, "purpose": "credit_granting", "scope": [f"score:{MODEL}"]}
        return self.enterprises[number].grant(**(settings | changes))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    site = make_site(tmp_path_factory.mktemp("service"), rows=900, institutions=(BANK,))
    served = Served(site)
    with site.run(serve=True):
        served.deploy()
        yield served


def test_scores_and_receipts_under_the_federations_authority(served):
    codes = served.codes[:50]
    with served.bank() as bank:
        batch = bank.score_batch(
            codes, [served.grant(i) for i in range(50)], model=MODEL, mode="homomorphic"
        )
        masked = bank.score_batch(
            codes, [served.grant(i) for i in range(50)], model=MODEL, mode="masked"
        )
    assert np.abs(batch.scores - served.scores[:50]).max() < 1e-5
    np.testing.assert_array_equal(batch.scores, masked.scores)

    # Offline: the file, and the certificate of the federation's authority.
    receipt = Receipt.from_json(batch.receipt.to_json())
    trust = trust_of(served)
    keys = {p: trust.verify_signing(p, der) for p, der in receipt.certificates.items()}
    assert set(keys) == set(served.parties)
    stated = receipt.verify(keys)
    for party in served.parties:
        entry = stated[party]["entry"]
        (logged,) = [e for e in served.entries(party, "score") if e.number == entry]
        assert logged.facts["request"] == stated[party]["request"]
        assert logged.subjects == 50
    swapped = {**receipt.certificates, "tax": receipt.certificates[PLATFORM]}
    with pytest.raises(AuthenticationError):
        trust.verify_signing("tax", swapped["tax"])
    forged = {**receipt.statements, "tax": receipt.statements[PLATFORM]}
    with pytest.raises(AuthenticationError) as caught:
        dataclasses.replace(receipt, statements=forged).verify(keys)
    assert caught.value.party == "tax"


def trust_of(served):
    return load_config(served.site.config(BANK)).load_signing().trust


def test_one_consent_at_once_in_many_sessions(served):
    """A hundred questions with one single-use consent: never more than one answer.

    Two questions may take the use at one party each and both be refused at the other, which gives
    the uses back; then the consent is still good for one answer.
    """
    token = served.grant(60)
    code = served.codes[60]
    banks = [served.bank() for _ in range(SESSIONS)]
    try:
        with ThreadPoolExecutor(SESSIONS) as pool:
            assert all(pool.map(lambda bank: len(bank.models()) > 0, banks))

            def ask(number):
                try:
                    return banks[number % SESSIONS].score(code, token, model=MODEL).score
                except Refusal as refusal:
                    return refusal.code

            results = list(pool.map(ask, range(AT_ONCE)))
        answers = [r for r in results if isinstance(r, float)]
        assert len(answers) <= 1
        assert {r for r in results if isinstance(r, str)} == {"consent_used"}
        if not answers:
            answers.append(banks[0].score(code, token, model=MODEL).score)
        with pytest.raises(Refusal) as caught:
            banks[1].score(code, token, model=MODEL)
        assert caught.value.code == "consent_used"
    finally:
        for bank in banks:
            bank.close()
    assert abs(answers[0] - served.scores[60]) < 1e-5


def test_different_consents_at_once_are_all_answered(served):
    banks = [served.bank() for _ in range(4)]
    try:
        with ThreadPoolExecutor(8) as pool:

            def ask(number):
                bank = banks[number % 4]
                return bank.score(served.codes[number], served.grant(number), model=MODEL).score

            scores = list(pool.map(ask, range(70, 100)))
    finally:
        for bank in banks:
            bank.close()
    assert np.abs(np.array(scores) - served.scores[70:100]).max() < 1e-5


def until(condition, seconds=60.0):
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.02)


@pytest.mark.parametrize("party", ["tax", PLATFORM])
def test_a_party_is_killed_in_the_middle_of_a_request(served, party):
    number = {"tax": 110, PLATFORM: 111}[party]
    code, token = served.codes[number], served.grant(number)
    before = len(served.entries("social_security", "score"))
    with served.bank() as bank:
        bank.score(served.codes[number + 5], served.grant(number + 5), model=MODEL)
        talk = next(t for t in bank._talks._open.values() if len(t.conversation.members) == 3)
        process = served.site.running[party].process
        counts = talk.conversation.transcript.counts

        def sent():
            return counts[BANK, party, "scoring.request"].messages

        already = sent()
        outcome = SimpleNamespace(error=None)

        def ask():
            try:
                bank.score(code, token, model=MODEL)
            except FedCreditError as error:
                outcome.error = error

        # It receives the request and gets no further.
        process.send_signal(signal.SIGSTOP)
        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: sent() > already)
        until(lambda: len(served.entries("social_security", "score")) > before + 1)
        served.site.end(party, signal.SIGKILL)
        asking.join(90)
        assert not asking.is_alive()
        error = outcome.error
        assert isinstance(error, (TransportError, Refusal)), repr(error)
        assert error.party == party or party in error.reason
        assert error.fix
        assert code not in str(error)
        # Asked while it is away: who is missing, in so many words.
        with pytest.raises(FedCreditError) as caught:
            bank.score(code, token, model=MODEL)
        assert caught.value.party == party or party in caught.value.reason

        served.site.start(party).wait_for_line("connected")
        until(lambda: party in bank._connection.present())
        result = bank.score(code, served.grant(number), model=MODEL)
        assert abs(result.score - served.scores[number]) < 1e-5


def test_no_room_for_the_log_of_a_provider(served):
    """The files of the tax office's process cannot grow: no answer is given without its entry."""
    pid = served.site.running["tax"].process.pid
    database = served.site.state("tax") / "governance.db"
    with served.bank() as bank:
        bank.score(served.codes[120], served.grant(120), model=MODEL)
        before = len(served.entries("tax", "score"))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (database.stat().st_size, hard))
        given, codes = [], []
        try:
            for number in range(121, 181):
                try:
                    token = served.grant(number)
                    given.append(bank.score(served.codes[number], token, model=MODEL))
                except Refusal as refusal:
                    codes.append((refusal.party, refusal.code))
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert set(codes) == {("tax", "log_failed")}
        assert len(codes) > 10
        logged = {e.number: e.facts["request"] for e in served.entries("tax", "score")}
        assert len(logged) - before == len(given)
        trust = trust_of(served)
        for result in given:
            keys = {p: trust.verify_signing(p, c) for p, c in result.receipt.certificates.items()}
            statement = result.receipt.verify(keys)["tax"]
            assert logged[statement["entry"]] == statement["request"]
        # Room again, and it goes on without being restarted.
        assert bank.score(served.codes[199], served.grant(199), model=MODEL).score
