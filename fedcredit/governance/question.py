"""What an institution asks, as every rule of governance sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from fedcredit.errors import Refusal

__all__ = ["MAX_SUBJECTS", "PURPOSES", "Question", "Use", "check_purpose"]

#: What data may be used for through this service: the financing of the enterprise itself.
PURPOSES: dict[str, str] = {
    "credit_granting": "decision on a loan or credit line of the enterprise",
    "credit_renewal": "renewal or extension of a loan of the enterprise",
    "post_loan_monitoring": "monitoring of a loan that the enterprise has",
    "guarantee": "decision on a guarantee for the enterprise",
    "insurance": "underwriting of a credit or bond insurance of the enterprise",
    "financial_leasing": "decision on a financial lease of the enterprise",
}
#: Subjects of one question: one ciphertext holds so many scores.
MAX_SUBJECTS = 4096

Use = Literal["score", "verify"]
_TARGET = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}(?:@[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31})?")
_REQUEST_BYTES = 32


def check_purpose(purpose: str) -> str:
    """Return ``purpose`` if it is one of :data:`PURPOSES`.

    Raises
    ------
    Refusal
        ``purpose_denied``: anything but financing.
    """
    if purpose not in PURPOSES:
        raise Refusal(
            "the purpose is none of those that the service is for.",
            code="purpose_denied",
            step="purpose",
            fix=f"use one of {', '.join(PURPOSES)}",
        )
    return purpose


@dataclass(frozen=True)
class Question:
    """One question about one enterprise, or the same question about several.

    Attributes
    ----------
    institution : str
        Who asks, as its certificate names it.
    purpose : str
        One of :data:`PURPOSES`.
    use : {"score", "verify"}
    target : str
        The model as ``name@version``, or the predicate as ``provider.id``.
    fields : tuple of str
        The fields of this party that the answer uses.
    subjects : tuple of str
        Normalised USCCs, 1 to :data:`MAX_SUBJECTS`, each once.
    consents : tuple of str
        Of each subject: the compact token, or ``sha256:<hex>`` of one that was presented before.
    request : bytes
        Digest of the whole request, 32 bytes, the same at every party.
    detail : str
        Arguments of a predicate as canonical text; no subject and no value of one.
    reasons : bool
        Whether reason codes are asked for as well.

    Raises
    ------
    Refusal
        ``request_invalid`` or ``purpose_denied``.
    """

    institution: str
    purpose: str
    use: Use
    target: str
    fields: tuple[str, ...]
    subjects: tuple[str, ...] = field(repr=False)
    consents: tuple[str, ...] = field(repr=False)
    request: bytes = field(repr=False)
    detail: str = ""
    reasons: bool = False

    def __post_init__(self) -> None:
        check_purpose(self.purpose)
        n = len(self.subjects)
        if self.use not in get_args(Use) or not _TARGET.fullmatch(self.target):
            _invalid("the request names no model or predicate.")
        if not 1 <= n <= MAX_SUBJECTS:
            _invalid(f"a request is about 1 to {MAX_SUBJECTS} enterprises.")
        if len(set(self.subjects)) != n:
            _invalid("an enterprise stands in the request more than once.")
        if len(self.consents) != n:
            _invalid("the request does not have one consent per enterprise.")
        if len(self.request) != _REQUEST_BYTES or len(self.detail) > 200:
            _invalid("the request's digest or detail has the wrong length.")


def _invalid(reason: str) -> None:
    raise Refusal(
        reason,
        code="request_invalid",
        step="request",
        fix="ask through fedcredit.Institution or the command line of the same release",
    )
