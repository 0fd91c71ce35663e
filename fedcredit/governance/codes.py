"""Why a question is refused: one fixed code per rule, for scripts, logs and answers."""

from __future__ import annotations

__all__ = ["CODES"]

#: Code to its meaning. Every :class:`~fedcredit.errors.Refusal` carries one of these.
CODES: dict[str, str] = {
    "field_unknown": "the catalog does not list the field",
    "field_denied": "the field's sharing attribute or grade does not allow this use",
    "purpose_denied": "the field or the service is not open for this purpose",
    "aggregation_too_small": "fewer rows than the field's minimum aggregation",
    "predicate_unknown": "the catalog does not offer the predicate",
    "threshold_denied": "the threshold or tolerance is not on the predicate's menu",
    "consent_missing": "there is no consent for this subject",
    "consent_malformed": "the consent cannot be read",
    "consent_signature": "the consent's signature does not check",
    "consent_key": "the key that signed is unknown, retired or revoked",
    "consent_expired": "the consent has expired",
    "consent_not_yet": "the consent is not valid yet",
    "consent_revoked": "the subject has withdrawn the consent",
    "consent_used": "the consent's uses are used up",
    "consent_audience": "the consent is given to another institution",
    "consent_subject": "the consent is another enterprise's",
    "consent_purpose": "the consent is for another purpose",
    "consent_scope": "the consent does not cover this model, predicate or field",
    "declaration_invalid": "a declared value or credit commitment does not check",
    "institution_unknown": "the institution has not been onboarded",
    "institution_suspended": "the institution is suspended",
    "assessment_expired": "the institution's security assessment has expired",
    "budget_exhausted": "a budget of questions is used up",
    "rate_exceeded": "too many questions in a short time",
    "search_pattern": "the questions look like a search for a value",
    "scraping_pattern": "the questions look like an attempt to copy the data",
    "model_unknown": "the model is not served here in this version",
    "party_missing": "a party of the model is away",
    "request_invalid": "the request is malformed or out of range",
    "request_repeated": "the same request came before",
    "share_invalid": "a party's contribution to the answer does not check",
    "part_failed": "a party could not compute its part",
    "declined_elsewhere": "another party of the model declined, so this one did not answer",
    "log_failed": "the answer could not be logged, so none was given",
}
