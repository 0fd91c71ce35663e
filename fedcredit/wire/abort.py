"""How a role's failure reaches its peers: the error's class and its data-free text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fedcredit import errors
from fedcredit.errors import FedCreditError, ProtocolError, Refusal
from fedcredit.wire.message import Message

__all__ = ["Abort"]

MAX_TEXT = 600
MAX_NAME = 128
_RULE = re.compile(r"[a-z][a-z_]{0,39}")


def _clean(text: str | None, limit: int = MAX_TEXT) -> str:
    """Cut to ``limit`` characters; what a terminal or a log would interpret becomes ``?``."""
    return "".join(c if c.isprintable() else "?" for c in (text or "")[:limit])


@dataclass(frozen=True, eq=False, repr=False)
class Abort(
    Message,
    kind="wire.abort",
    version=1,
    max_bytes=16 << 10,
    reveals="that a party ended the session, and why",
):
    """Any party to every peer of its session: it ends, and why.

    Reveals the class and text of a :class:`~fedcredit.errors.FedCreditError`, which by that
    tree's rule contain no data; of any other exception the type's name only, and of an
    interruption (a signal, an exit) that there was one.
    """

    code: str
    reason: str
    party: str
    step: str
    fix: str

    @classmethod
    def of(cls, error: BaseException, *, party: str) -> Abort:
        """Describe ``error``, raised at ``party``."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            error = ProtocolError(f"interrupted at {party}.", party=party)
        if not isinstance(error, FedCreditError):
            reason = f"an internal error ({type(error).__name__}) ended the session."
            party = _clean(party, MAX_NAME)
            return cls("ProtocolError", _clean(reason), party, "", f"see the log of {party}")
        code = type(error).__name__
        if isinstance(error, Refusal):
            code = f"{code}:{error.code}"
        return cls(
            _clean(code, MAX_NAME),
            _clean(error.reason),
            _clean(error.party or party, MAX_NAME),
            _clean(error.step),
            _clean(error.fix),
        )

    def to_error(self, sender: str) -> FedCreditError:
        """Rebuild the error at a peer; an unknown class becomes a ProtocolError.

        The texts are the peer's: they are cut and cleaned again before they reach a log.
        """
        name, _, rule = self.code.partition(":")
        kind = getattr(errors, name, None) if name in errors.__all__ else None
        if not (isinstance(kind, type) and issubclass(kind, FedCreditError)):
            kind = ProtocolError
        error: FedCreditError = kind(
            _clean(self.reason) or "the session was ended without a reason.",
            party=_clean(self.party, MAX_NAME) or sender,
            step=_clean(self.step) or None,
            fix=_clean(self.fix) or None,
        )
        if isinstance(error, Refusal) and _RULE.fullmatch(rule):
            error.code = rule
        return error
