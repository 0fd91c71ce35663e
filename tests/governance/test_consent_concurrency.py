"""Many at once want to use the same consent: it is used as often as it says."""

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedcredit.errors import Refusal
from tests.support.consents import Book, enterprise, grant
from tests.support.databases import new_postgres

THREADS, PROCESSES, USES = 100, 4, 3

WORKER = """
import sys
from tests.support.consents import Book
from fedcredit.errors import Refusal
url, reference, attempts = sys.argv[1], sys.argv[2], int(sys.argv[3])
book = Book(url)
print("ready", flush=True)
sys.stdin.readline()
outcomes = []
for _ in range(attempts):
    try:
        book.ask(reference)
        outcomes.append("accepted")
    except Refusal as refusal:
        outcomes.append(refusal.code)
print(" ".join(outcomes), flush=True)
"""


@contextlib.contextmanager
def sqlite_file(tmp_path):
    yield f"sqlite:///{tmp_path / 'governance.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    with sqlite_file(tmp_path) if request.param == "sqlite" else new_postgres() as url:
        yield url


@pytest.fixture
def book(url):
    book = Book(url)
    yield book
    book.ledger.close()


@pytest.mark.parametrize("registered", [False, True], ids=["token", "reference"])
@pytest.mark.parametrize("uses", [1, USES])
def test_threads(book, registered, uses):
    consent = grant(enterprise(), max_uses=uses)
    if registered:
        (consent,) = book.present(consent)
    start = threading.Barrier(THREADS, timeout=60)

    def attempt(_):
        start.wait()
        try:
            book.ask(consent)
        except Refusal as refusal:
            return refusal.code
        return "accepted"

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = list(pool.map(attempt, range(THREADS)))
    assert outcomes.count("accepted") == uses
    assert outcomes.count("consent_used") == THREADS - uses
    assert [one.used for one in book.listing()] == [uses]


def test_one_request_that_many_threads_bring(book):
    (consent,) = book.present(grant(enterprise(), max_uses=THREADS))

    def attempt(_):
        try:
            book.ask(consent, request=b"r" * 32)
        except Refusal as refusal:
            return refusal.code
        return "accepted"

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(attempt, range(20)))
    assert sorted(outcomes) == ["accepted"] + ["request_repeated"] * 19
    assert [one.used for one in book.listing()] == [1]


def test_processes(book, url):
    token = grant(enterprise(), max_uses=USES)
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, url, token, "5"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(PROCESSES)
    ]
    try:
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        outcomes = [worker.communicate(timeout=60)[0].split() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    together = [outcome for process in outcomes for outcome in process]
    assert len(together) == 5 * PROCESSES
    assert together.count("accepted") == USES
    assert set(together) == {"accepted", "consent_used"}
    assert [one.used for one in book.listing()] == [USES]


def test_a_withdrawal_stops_threads_that_are_under_way(book):
    consent = grant(enterprise(), max_uses=10_000)
    (reference,) = book.present(consent)
    word = enterprise().revoke(consent, now=1_800_000_000.0)
    withdrawn, after = threading.Event(), []

    def ask_on(_):
        while True:
            late = withdrawn.is_set()
            try:
                book.ask(reference)
            except Refusal as refusal:
                return refusal.code
            if late:
                after.append("accepted")

    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(ask_on, i) for i in range(4)]
        book.revoke(word)
        withdrawn.set()
        assert {one.result(timeout=60) for one in running} == {"consent_revoked"}
    assert after == []


def test_a_large_question_on_either_database(url):
    book = Book(url, subjects=200)
    tokens = [grant(one, max_uses=2) for one in book.enterprises]
    references = book.present(*tokens[:150])
    request = b"q" * 32
    book.ask(*references, *tokens[150:], request=request)
    with pytest.raises(Refusal) as caught:
        book.ask(*tokens, request=request)
    assert caught.value.code == "request_repeated"
    book.ask(*tokens)
    with pytest.raises(Refusal) as caught:
        book.ask(*tokens)
    assert caught.value.code == "consent_used"
    word = book.enterprises[7].revoke(tokens[7], now=1_800_000_000.0)
    book.revoke(word)
    states = [one.state for one in book.listing()]
    assert (states.count("used"), states.count("revoked")) == (199, 1)
    assert {one.used for one in book.listing()} == {2}
    book.ledger.close()
