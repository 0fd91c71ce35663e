"""What is measured of the service: single scores, batches, verifications, the audit log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.scoring_site import (
    CARD,
    DECLARED,
    FIELD,
    FOREST,
    MENU,
    RESOLUTION,
    THRESHOLD,
    TOLERANCE,
    VERIFIER,
    Service,
    Size,
)
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.ledger import Ledger
from fedcredit.wire import Identity

MODES = ("homomorphic", "masked")
_WARM_UP = 3


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and mean in milliseconds."""
    ms = np.asarray(seconds) * 1e3
    return {
        "p50_ms": float(np.median(ms)),
        "p99_ms": float(np.percentile(ms, 99)),
        "mean_ms": float(ms.mean()),
    }


def timed(service: Service, count: int, one: Callable[[int], object]) -> dict[str, Any]:
    """Run ``one(0)``, ``one(1)``, … and return latency, CPU per process and bytes of each."""
    for k in range(_WARM_UP):
        one(k)
    seconds = []
    cpu, (sent, received) = service.cpu(), service.connection.bytes
    for k in range(_WARM_UP, _WARM_UP + count):
        started = time.perf_counter()
        one(k)
        seconds.append(time.perf_counter() - started)
    after, (sent_after, received_after) = service.cpu(), service.connection.bytes
    return {
        **spread(seconds),
        "cpu_ms": {name: (after[name] - cpu[name]) / count * 1e3 for name in after},
        "sent_bytes": (sent_after - sent) / count,
        "received_bytes": (received_after - received) / count,
        "n": count,
    }


def check(found: Any, expected: Any, what: str) -> None:
    """Hold answers to what the training side computes."""
    difference = np.abs(np.asarray(found, np.float64) - expected).max()
    if not difference <= 1e-4:
        raise RuntimeError(f"{what}: an answer differs from the model's score by {difference:g}")


def single_scores(service: Service, size: Size) -> list[dict[str, Any]]:
    """One enterprise per request, each with a consent that nobody has seen before."""
    out = []
    for model in (CARD, FOREST):
        for mode in MODES:
            chosen = np.arange(size.singles + _WARM_UP) % len(service.enterprises)
            tokens = service.consents(chosen.tolist(), f"score:{model}")
            found: dict[int, float] = {}

            def one(
                k: int,
                model: str = model,
                mode: str = mode,
                chosen: Any = chosen,
                tokens: list[str] = tokens,
                found: dict[int, float] = found,
            ) -> None:
                subject = service.enterprises[chosen[k]].uscc
                found[k] = service.bank.score(subject, tokens[k], model=model, mode=mode).score

            figures = timed(service, size.singles, one)
            check(list(found.values()), service.expected[model][chosen], f"{model} {mode}")
            out.append({"model": model, "mode": mode, **figures})
    return out


def batches(service: Service, size: Size) -> list[dict[str, Any]]:
    """Many enterprises per request."""
    cases = [(CARD, mode, size.batch, size.batches) for mode in MODES]
    cases.append((FOREST, "masked", size.tree_batch, size.tree_batches))
    return [_batch(service, *case) for case in cases]


def _batch(service: Service, model: str, mode: str, n: int, repeats: int) -> dict[str, Any]:
    """Batches with consents presented before; the presentation; and batches that bring them."""
    bank, chosen = service.bank, range(n)
    subjects = [service.enterprises[k].uscc for k in chosen]

    def ask(consents: Sequence[str]) -> None:
        answer = bank.score_batch(subjects, consents, model=model, mode=mode)
        check(answer.scores, service.expected[model][:n], f"{model} {mode}")

    tokens = service.consents(chosen, f"score:{model}", uses=repeats + _WARM_UP)
    started = time.perf_counter()
    references = bank.present(tokens)
    presenting = time.perf_counter() - started
    figures = timed(service, repeats, lambda _: ask(references))
    fresh = []
    for _ in range(min(repeats, 3)):
        brought = service.consents(chosen, f"score:{model}")
        started = time.perf_counter()
        ask(brought)
        fresh.append(time.perf_counter() - started)
    mean, first = figures["mean_ms"] / 1e3, float(np.mean(fresh))
    return {
        "model": model,
        "mode": mode,
        "batch": n,
        **figures,
        "scores_per_s": n / mean,
        "present_s": presenting,
        "scores_per_s_with_present": n / (presenting + mean),
        "first_use_s": first,
        "scores_per_s_first_use": n / first,
    }


def verifications(service: Service, size: Size) -> list[dict[str, Any]]:
    """Yes-or-no questions of the menu, and declared values with a tolerance."""
    known = np.flatnonzero(~np.isnan(service.paid))
    chosen = np.resize(known, size.verifications + _WARM_UP)
    out = []
    for kind, predicate in (("menu", MENU), ("declared", DECLARED)):
        tokens = service.consents(chosen.tolist(), f"verify:{VERIFIER}.{predicate}")
        arguments: list[dict[str, Any]] = [{"threshold": THRESHOLD}] * len(chosen)
        truth = service.paid[chosen] >= THRESHOLD
        if kind == "declared":
            # Every other declaration is out by more than the tolerance.
            values = np.rint(service.paid[chosen] / RESOLUTION).astype(int) * RESOLUTION
            values = values + np.arange(len(chosen)) % 2 * (2 * TOLERANCE) * RESOLUTION
            arguments = [
                {
                    "declared": service.enterprises[k].declare(
                        field=FIELD, value=int(value), unit="CNY", resolution=RESOLUTION
                    ),
                    "tolerance": TOLERANCE,
                }
                for k, value in zip(chosen, values, strict=True)
            ]
            truth = np.arange(len(chosen)) % 2 == 0

        def one(
            k: int,
            predicate: str = predicate,
            tokens: list[str] = tokens,
            arguments: list[dict[str, Any]] = arguments,
            truth: Any = truth,
        ) -> None:
            answer = service.bank.verify(
                service.enterprises[chosen[k]].uscc,
                tokens[k],
                provider=VERIFIER,
                predicate=predicate,
                **arguments[k],
            )
            if answer.outcome != ("yes" if truth[k] else "no"):
                raise RuntimeError(f"{predicate}: the answer is not what the record says")

        figures = timed(service, size.verifications, one)
        out.append({"kind": kind, **figures, "per_s": 1e3 / figures["mean_ms"]})
    return out


def audit_log(service: Service, size: Size) -> dict[str, Any]:
    """Append to a log of its own on this disk: a commit each, and many in one transaction."""
    path = service.directory / "audit.sqlite"
    subjects, consent = [one.uscc for one in service.enterprises], bytes(32)
    with contextlib.closing(Ledger(f"sqlite:///{path}", party="bench")) as ledger:
        log = AuditLog(ledger, Identity.generate("bench"))
        fields = {"institution": "bank", "target": CARD, "outcome": "admitted"}

        def append(tx: Any, k: int) -> None:
            subject = subjects[k % len(subjects)]
            log.append(tx, "score", fields, [subject], [consent], now=time.time())

        seconds = []
        for k in range(size.appends):
            started = time.perf_counter()
            with ledger.transaction() as tx:
                append(tx, k)
            seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        with ledger.transaction() as tx:
            for k in range(size.appends):
                append(tx, k)
        together = (time.perf_counter() - started) / size.appends
    return {
        **spread(seconds),
        "n": size.appends,
        "appends_per_s": 1 / float(np.mean(seconds)),
        "in_one_transaction_us": together * 1e6,
        "in_one_transaction_per_s": 1 / together,
    }
