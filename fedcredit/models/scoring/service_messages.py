"""What an institution asks in a session besides scores and verifications."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit.wire import Message

__all__ = [
    "ConsentsPresented",
    "ModelHeader",
    "ModelQuery",
    "RevocationPresented",
    "ServiceStart",
    "TokensChecked",
    "UsesReturned",
    "VoidRequest",
    "VoidWord",
]


@dataclass(frozen=True, eq=False, repr=False)
class ServiceStart(
    Message,
    kind="service.start",
    version=1,
    max_bytes=16 << 10,
    reveals="who takes part in the session in which role",
):
    """Institution to every party: the first message of a session; ``session`` is random."""

    platform: str
    providers: tuple[str, ...]
    session: bytes


@dataclass(frozen=True, eq=False, repr=False)
class ModelQuery(
    Message,
    kind="service.model_query",
    version=1,
    max_bytes=4 << 10,
    reveals="which model the institution is interested in",
):
    """Institution to platform: the header of this model; of all models if empty."""

    target: str


@dataclass(frozen=True, eq=False, repr=False)
class ModelHeader(
    Message,
    kind="service.model_header",
    version=1,
    max_bytes=16 << 20,
    reveals="which models are served, for what, by whom, in which bands",
):
    """Platform to institution: headers (JSON) of served models; none if the model is unknown."""

    headers: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class ConsentsPresented(
    Message,
    kind="service.consents",
    version=1,
    max_bytes=64 << 20,
    reveals="which enterprises have consented to what",
):
    """Institution to every party: consents to register ahead of questions."""

    tokens: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class TokensChecked(
    Message,
    kind="service.tokens_checked",
    version=1,
    max_bytes=4 << 10,
    reveals="whether consents or a withdrawal check",
):
    """Party to institution: accepted, with an empty code, or the code and text of why not."""

    code: str
    reason: str
    fix: str


@dataclass(frozen=True, eq=False, repr=False)
class RevocationPresented(
    Message,
    kind="service.revocation",
    version=1,
    max_bytes=64 << 10,
    reveals="which consent its subject has withdrawn",
):
    """Institution to every party: an enterprise's signed withdrawal."""

    token: str


@dataclass(frozen=True, eq=False, repr=False)
class VoidRequest(
    Message,
    kind="service.void",
    version=1,
    max_bytes=16 << 10,
    reveals="that an answer did not reach the institution",
):
    """Institution to platform and participants: this request was not answered.

    ``request`` is the digest of a request for scores that the platform or a participant declined,
    or whose session was lost.
    """

    request: bytes
    participants: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class VoidWord(
    Message,
    kind="service.void_word",
    version=1,
    max_bytes=4 << 10,
    reveals="whether the platform has answered the request",
):
    """Platform to participant: whether the request was not answered, and never will be."""

    request: bytes
    void: bool


@dataclass(frozen=True, eq=False, repr=False)
class UsesReturned(
    Message,
    kind="service.uses_returned",
    version=1,
    max_bytes=4 << 10,
    reveals="how many consents may be used again",
):
    """Participant to institution: so many uses of consents were given back."""

    request: bytes
    consents: int
