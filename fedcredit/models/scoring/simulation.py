"""Institutions and enterprises in a simulation: all parties here, the same gates and protocols."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import InputError
from fedcredit.governance import institutions
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.budgets import BudgetRules
from fedcredit.governance.catalog import Catalog
from fedcredit.governance.enterprise import Enterprise
from fedcredit.governance.gate import Gate
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.question import PURPOSES
from fedcredit.governance.witnessing import WitnessedLog
from fedcredit.models.backend import InProcessBackend
from fedcredit.models.conversation import Conversation, InProcessConversation
from fedcredit.models.scoring.institution import Institution
from fedcredit.models.scoring.platform_server import PlatformServer
from fedcredit.wire import Identity, Transcript

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation
    from fedcredit.models.scoring.desk import Desk

__all__ = ["SimulatedService"]

_YEAR = 366 * 86_400.0


class SimulatedService:
    """The serving side of a simulated federation.

    Parameters
    ----------
    federation : Federation
        From :func:`fedcredit.simulate`.
    budgets : BudgetRules, optional
        Of every party.
    clock : callable, optional

    Attributes
    ----------
    desks : dict of str to Desk
        Of every party; ``desks[party].gate`` holds its log, catalog and keys.
    transcript : Transcript
        Counts the messages of all institutions.
    """

    def __init__(
        self,
        federation: Federation,
        *,
        budgets: BudgetRules | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not federation.engines:
            raise InputError(
                "this federation has real nodes, which govern themselves.",
                step="service",
                fix='connect as an institution: fedcredit.connect("bank.toml")',
            )
        self.clock, self._federation = clock, federation
        self.transcript = Transcript()
        self.away: set[str] = set()
        today = datetime.date.fromtimestamp(clock()).isoformat()
        self.identities: dict[str, Identity] = {}
        self.servers: dict[str, Any] = {}
        for name, engine in federation.engines.items():
            gate = self._gate(name, engine.catalog, budgets)
            engine.govern(
                gate, self.identities[name], as_of=today, id_column=federation.default_key
            )
            self.servers[name] = engine
        name, key = federation.platform, federation.default_key
        table = federation.table.frame
        self.servers[name] = PlatformServer(
            name,
            table,
            store=federation.store,
            gate=self._gate(name, Catalog.open_for(table, provider=name, key=key), budgets),
            identity=self.identities[name],
            id_column=key,
            id_kind=federation.default_id_kind or ("uscc" if key.lower() == "uscc" else "text"),
            as_of=today,
        )
        backend = federation.backend
        assert isinstance(backend, InProcessBackend)
        backend.keys |= {name: signer.public_key for name, signer in self.identities.items()}
        federation.own_log = self._platform_log

    def _platform_log(self) -> AbstractContextManager[WitnessedLog]:
        desk = self.desks[self._federation.platform]
        return nullcontext(WitnessedLog(desk.gate.log, desk.signer, desk.gate.now))

    def _gate(self, party: str, catalog: Catalog, budgets: BudgetRules | None) -> Gate:
        identity = self.identities[party] = Identity.generate(party)
        ledger = Ledger("sqlite://", party=party)
        log = AuditLog(ledger, identity)
        return Gate(ledger, catalog, log, party=party, clock=self.clock, budgets=budgets)

    @property
    def desks(self) -> dict[str, Desk]:
        """Every party's desk."""
        return {name: server.desk for name, server in self.servers.items()}

    def register(self, *enterprises: Enterprise) -> None:
        """Enter enterprises' public keys into the registry of every party."""
        now = self.clock()
        for desk in self.desks.values():
            for enterprise in enterprises:
                desk.gate.keys.add("subject", enterprise.uscc, enterprise.public_key, now)

    def accede(self, name: str, purposes: Sequence[str] = tuple(PURPOSES)) -> Institution:
        """Onboard an institution at every party and return its side.

        Its assessment is the simulation's own and ends in a year.
        """
        now = self.clock()
        for desk in self.desks.values():
            with desk.gate.ledger.transaction() as tx:
                institutions.onboard(
                    tx,
                    name,
                    assessment="simulation",
                    assessed=now,
                    expires=now + _YEAR,
                    purposes=tuple(purposes),
                    now=now,
                )
        return Institution(_Connection(name, self), clock=self.clock)


class _Connection:
    """An institution's way to servers in this process."""

    def __init__(self, institution: str, service: SimulatedService) -> None:
        self.institution = institution
        self.platform = service._federation.platform
        self.identity = Identity.generate(institution)
        self._service = service

    def present(self) -> tuple[str, ...]:
        return tuple(name for name in self._service.servers if name not in self._service.away)

    def open(self, members: Sequence[str]) -> Conversation:
        servers = {name: self._service.servers[name] for name in members}
        identities = {**self._service.identities, self.institution: self.identity}
        return InProcessConversation(
            self.institution,
            servers,
            transcript=self._service.transcript,
            keys={name: signer.public_key for name, signer in identities.items()},
        )

    def keys(self, conversation: Any) -> Mapping[str, Ed25519PublicKey]:
        return {name: self._service.identities[name].public_key for name in conversation.members}

    def certificates(self, conversation: Any) -> Mapping[str, bytes]:
        return {}

    def close(self) -> None:
        pass
