"""What a report says in plain words, and which of its figures it says it about."""

from __future__ import annotations

from fedcredit.models.report.data import TrainingReport
from fedcredit.models.report.quality import ClassifierQuality, RegressorQuality
from fedcredit.models.report.scores import best_split
from fedcredit.models.report.text import count, decimal, name, percent, signed, words

__all__ = ["MODEL_NAMES", "SPLIT_NAMES", "headline", "shown"]

MODEL_NAMES = {"joint": "joint model", "alone": "platform alone"}
SPLIT_NAMES = {
    "train": "training",
    "valid": "validation",
    "test": "test",
    "out_of_time": "out-of-time",
}
_BASIS = {
    "out_of_time": "which are of another time than the training rows",
    "test": "which took no part in training",
    "valid": "by which training may have been stopped or tuned, so the figures may be optimistic",
    "train": "which the models were fitted to, so the figures are optimistic",
}


def shown(
    report: TrainingReport, model: str = "joint"
) -> ClassifierQuality | RegressorQuality | None:
    """Return a model's quality on the best part of the data that the joint model was scored on."""
    found: tuple[ClassifierQuality | RegressorQuality, ...] = (
        *report.classification,
        *report.regression,
    )
    split = best_split({q.split for q in found if q.name == "joint"} or {q.split for q in found})
    return next((q for q in found if q.name == model and q.split == split), None)


def headline(report: TrainingReport) -> tuple[str, ...]:
    """Say in plain words what the joint data were worth; empty without scores."""
    joint = shown(report)
    if joint is None:
        return ()
    rows = f"{SPLIT_NAMES[joint.split]} rows"
    basis = f"Measured on {count(joint.rows)} {rows}, {_BASIS[joint.split]}"
    if not report.uplift:
        metric, value = _main_metric(joint)
        return (
            f"The joint model reaches {metric} {decimal(value)} on the {rows}.",
            "What the other parties' data added is not measured: there are no scores of the "
            "platform alone on the same rows.",
            f"{basis}.",
        )
    main = report.uplift[0]
    split = SPLIT_NAMES[main.split]
    interval = f"{percent(main.confidence, 0)} interval {signed(main.low)} to {signed(main.high)}"
    change = f"{signed(main.difference)}; {interval}"
    owners = words([name(p) for p in report.providers]) or "the other parties"
    if main.verdict == "open":
        first = (
            f"The {split} rows do not tell the joint model from the platform alone: "
            f"{main.metric} {decimal(main.joint)} against {decimal(main.alone)} "
            f"({change}, which holds zero)."
        )
    else:
        moved = "rose" if main.difference > 0 else "fell"
        first = (
            f"With the data of {owners}, {split} {main.metric} {moved} from "
            f"{decimal(main.alone)} to {decimal(main.joint)} ({change})."
        )
    sentences = [first]
    alone = shown(report, "alone")
    if isinstance(joint, ClassifierQuality) and isinstance(alone, ClassifierQuality):
        sentences.append(
            f"The riskiest {percent(0.1, 0)} by the joint score hold {percent(joint.top_capture)} "
            f"of all events; ranked by the platform alone, {percent(alone.top_capture)}."
        )
    elif isinstance(joint, RegressorQuality) and isinstance(alone, RegressorQuality):
        sentences.append(
            f"The mean absolute error is {decimal(joint.mae)}; for the platform alone it is "
            f"{decimal(alone.mae)}."
        )
    sentences.append(
        f"{basis}; {count(main.resamples)} paired bootstrap resamples (seed {main.seed})."
    )
    return tuple(sentences)


def _main_metric(quality: ClassifierQuality | RegressorQuality) -> tuple[str, float | None]:
    if isinstance(quality, ClassifierQuality):
        return "AUC", quality.auc
    return "R²", quality.r2
