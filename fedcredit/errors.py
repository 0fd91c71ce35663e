"""One exception tree for the whole package.

::

    FedCreditError
    ├── InputError              bad data or argument (also a ValueError)
    ├── ConfigError             a configuration file or certificate is unusable
    ├── StorageError            a party's own storage cannot be read or written
    ├── CryptoError
    │   ├── ParameterError      parameters outside the standard tables
    │   ├── KeyMaterialError    a key that cannot be read or does not fit
    │   └── CiphertextError     a ciphertext that is malformed or out of range
    ├── ProtocolError
    │   ├── PeerProtocolError   a peer sent something else than the protocol's next message
    │   ├── SessionStalled      every role waits and nobody can go on
    │   ├── BudgetError         a budget (passes, questions, reveals) is used up
    │   └── PolicyError         the data owner's policy forbids it
    │       └── Refusal         a rule of governance forbids it; has a code
    └── TransportError
        ├── PeerUnavailable     a party or the hub cannot be reached
        │   └── SessionLost     a party has lost a session's memory; it can be opened anew
        └── AuthenticationError a certificate, signature or session does not check

Every message names the party, the step and the fix where they are known and never contains data:
no identifier, no value, no key.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "BudgetError",
    "CiphertextError",
    "ConfigError",
    "CryptoError",
    "FedCreditError",
    "InputError",
    "KeyMaterialError",
    "ParameterError",
    "PeerProtocolError",
    "PeerUnavailable",
    "PolicyError",
    "ProtocolError",
    "Refusal",
    "SessionLost",
    "SessionStalled",
    "StorageError",
    "TransportError",
]


class FedCreditError(Exception):
    """Base of every error that fedcredit raises on purpose.

    Parameters
    ----------
    reason : str
        What is wrong, in one sentence, without data.
    party : str, optional
        The party at which it happened.
    step : str, optional
        The step of the work, for instance ``"align"`` or ``"train: tree 3"``.
    fix : str, optional
        What the reader can do about it.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        party: str | None = None,
        step: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.party = party
        self.step = step
        self.fix = fix

    def __str__(self) -> str:
        where = ", ".join(
            f"{name} {value}"
            for name, value in (("party", self.party), ("step", self.step))
            if value is not None
        )
        text = f"[{where}] {self.reason}" if where else self.reason
        return f"{text} Fix: {self.fix}." if self.fix else text

    def at(self, *, party: str | None = None, step: str | None = None) -> FedCreditError:
        """Fill in the party and the step where the raiser could not know them; return self."""
        self.party = self.party or party
        self.step = self.step or step
        return self


class InputError(FedCreditError, ValueError):
    """Data or an argument that cannot be used."""


class ConfigError(FedCreditError):
    """A configuration file, certificate or directory that cannot be used."""


class StorageError(FedCreditError):
    """A party's own storage that cannot be read or written (full, read-only, damaged)."""


class CryptoError(FedCreditError):
    """Anything that a cryptographic primitive refuses."""


class ParameterError(CryptoError):
    """Parameters outside the standard tables or the agreed profile."""


class KeyMaterialError(CryptoError):
    """A key that cannot be read, or that does not belong to this profile."""


class CiphertextError(CryptoError):
    """A ciphertext that is malformed, out of range or of the wrong parameters."""


class ProtocolError(FedCreditError):
    """A run of a protocol that cannot go on."""


class PeerProtocolError(ProtocolError):
    """A peer sent something else than the protocol's next message.

    Parameters
    ----------
    reason : str
        What is wrong.
    found, expected : str, optional
        The message kinds.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        found: str | None = None,
        expected: str | None = None,
        party: str | None = None,
        step: str | None = None,
        fix: str | None = None,
    ) -> None:
        if not reason:
            reason = f"expected message {expected}, found {found}."
        super().__init__(reason, party=party, step=step, fix=fix)
        self.found = found
        self.expected = expected


class SessionStalled(ProtocolError):
    """Every role waits for a message and none is on its way."""


class BudgetError(ProtocolError):
    """A budget of passes, questions or reveals is used up."""


class PolicyError(ProtocolError):
    """The data owner's policy does not allow what was asked."""


class Refusal(PolicyError):
    """Catalog, consent, budget or standing of an institution does not allow what was asked.

    Parameters
    ----------
    code : str
        Which rule, as a short fixed word such as ``"consent_expired"``, for scripts and logs; the
        codes are listed in :mod:`fedcredit.governance.codes`.
    reason, party, step, fix : str
        See :class:`FedCreditError`.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        code: str = "refused",
        party: str | None = None,
        step: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(reason, party=party, step=step, fix=fix)
        self.code = code

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.code})"


class TransportError(FedCreditError):
    """Messages cannot be carried."""


class PeerUnavailable(TransportError):
    """A party or the hub cannot be reached."""


class SessionLost(PeerUnavailable):
    """A party restarted or left, and the session with it; a new one can be opened."""


class AuthenticationError(TransportError):
    """A certificate, signature, sequence number or session does not check."""
