"""How a role's failure reaches its peers: the error's class and its data-free text."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit import errors
from fedcredit.errors import FedCreditError, ProtocolError
from fedcredit.wire.message import Message

__all__ = ["Abort"]

MAX_TEXT = 600


@dataclass(frozen=True, eq=False, repr=False)
class Abort(Message, kind="wire.abort", version=1, max_bytes=16 << 10):
    """Any party to every peer of its session: it ends, and why.

    Reveals the class and text of a :class:`~fedcredit.errors.FedCreditError`, which by that
    tree's rule contain no data; of any other exception the type's name only.
    """

    code: str
    reason: str
    party: str
    step: str
    fix: str

    @classmethod
    def of(cls, error: BaseException, *, party: str) -> Abort:
        """Describe ``error``, raised at ``party``."""
        if not isinstance(error, FedCreditError):
            reason = f"an internal error ({type(error).__name__}) ended the session."
            return cls("ProtocolError", reason, party, "", f"see the log of {party}")
        return cls(
            type(error).__name__,
            error.reason[:MAX_TEXT],
            error.party or party,
            (error.step or "")[:MAX_TEXT],
            (error.fix or "")[:MAX_TEXT],
        )

    def to_error(self, sender: str) -> FedCreditError:
        """Rebuild the error at a peer; an unknown class becomes a ProtocolError."""
        kind = getattr(errors, self.code, None)
        if not (isinstance(kind, type) and issubclass(kind, FedCreditError)):
            kind = ProtocolError
        error: FedCreditError = kind(
            self.reason[:MAX_TEXT],
            party=self.party or sender,
            step=self.step or None,
            fix=self.fix or None,
        )
        return error
