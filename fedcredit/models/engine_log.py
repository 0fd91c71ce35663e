"""What a provider logs of the platform's jobs: who ran which, on which fields and how many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcredit.errors import FedCreditError, ProtocolError, Refusal
from fedcredit.governance import usage
from fedcredit.models.alignment import AlignJob
from fedcredit.models.linear_jobs import GramJob
from fedcredit.models.scoring.messages import DeployJob, WithdrawJob
from fedcredit.wire import Message

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine

__all__ = ["log_job", "log_refused_job"]

#: These log themselves, with what they decide.
_LOGGED = (DeployJob, WithdrawJob)


def log_job(engine: ProviderEngine, coordinator: str, job: Message) -> None:
    """Log a job before it is done; nothing is done that cannot be logged.

    Raises
    ------
    Refusal
        ``log_failed``.
    """
    if isinstance(job, _LOGGED):
        return
    use = {AlignJob: "align", GramJob: "correlate"}.get(type(job), "train")
    fields = [] if use == "align" else _fields(engine, job)
    rows, target = len(getattr(job, "rows", ())), _target(job)
    facts = _facts(coordinator, job, "admitted") | {"fields": fields, "rows": rows}

    def record(tx: Any, entry: int, now: float) -> None:
        usage.record_job(tx, coordinator, use, fields, rows, "admitted", entry, now, target=target)

    engine.desk.gate.note("job", facts, record=record)


def log_refused_job(
    engine: ProviderEngine, coordinator: str, job: Message, error: ProtocolError
) -> None:
    """Log that a job was refused, and by which rule."""
    code = error.code if isinstance(error, Refusal) else type(error).__name__
    engine.desk.gate.note("job", _facts(coordinator, job, code))


def _facts(coordinator: str, job: Message, outcome: str) -> dict[str, object]:
    return {
        "outcome": outcome,
        "institution": coordinator,
        "job": job.kind,
        "target": _target(job),
    }


def _target(job: Message) -> str:
    return str(getattr(job, "model_id", "") or getattr(job, "frame_id", ""))[:100]


def _fields(engine: ProviderEngine, job: Message) -> list[str]:
    """Return the columns that a job names, or all that are offered."""
    offered = engine.offered
    try:
        return engine.chosen(tuple(getattr(job, "columns", ())), offered)
    except FedCreditError:
        return []  # it names columns that it does not get, and will be refused
