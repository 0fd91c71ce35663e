"""Who exchanges checkpoints when: sessions of institutions, and a job of the platform.

In an institution's session every member exchanges with every other right after the keys, and again
when the institution says so (:class:`~fedcredit.protocols.checkpoints.CheckpointRound`), every 256
questions by default. The platform does it as a job with all its providers, who exchange with one
another in the same session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from fedcredit.errors import ConfigError
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.witnessing import LogWitness, WitnessedLog
from fedcredit.protocols.checkpoints import CheckpointRound, Exchanged, exchange_checkpoints
from fedcredit.wire import Identity, Peers

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine
    from fedcredit.models.federation import Federation
    from fedcredit.models.scoring.desk import Desk

__all__ = ["Watch", "answer_round", "exchange_at_desk", "exchange_of_federation"]

log = logging.getLogger(__name__)


class Watch:
    """What an institution has seen of the parties' audit logs.

    Parameters
    ----------
    identity : Identity
        The institution's; cosigns.
    ledger : Ledger
        Keeps the checkpoints, over sessions if it is a file's.
    clock : callable
        Gives seconds since the epoch (UTC).

    Attributes
    ----------
    alarms : dict of str to str
        Parties whose logs were refused, here or by other parties, and why.
    """

    def __init__(self, identity: Identity, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._name = identity.name
        self._witness = LogWitness(ledger, identity, clock)
        self.alarms: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Watch({self._name!r}, {len(self.alarms)} alarms)"

    def known(self, party: str) -> int:
        """Return the largest size at which a party's log was witnessed; 0 if never."""
        return self._witness.known(party)

    async def exchange(self, peers: Peers) -> None:
        """Witness the logs of all members of a session, as its client; note what is wrong."""
        done = await exchange_checkpoints(
            peers, self._name, client=self._name, logs=tuple(peers), witness=self._witness
        )
        found = dict(done.refused)
        for reporter, names in done.reports.items():
            for name in names:
                found.setdefault(name, f"{reporter} refuses the audit log of {name}.")
        for name, why in found.items():
            log.warning("the audit log of %s is not to be relied on: %s", name, why)
        self.alarms |= found

    async def ask_again(self, peers: Peers) -> None:
        """Have all members of an open session exchange once more."""
        await peers.broadcast(CheckpointRound(log=False))
        await self.exchange(peers)


async def exchange_at_desk(
    desk: Desk, peers: Peers, client: str, *, client_has_log: bool = False
) -> Exchanged:
    """Exchange checkpoints as a party; tell the operator what is wrong.

    Raises
    ------
    PeerProtocolError
        A peer does not follow the protocol.
    StorageError
        The own log is damaged, or a refusal cannot be logged.
    """
    own = WitnessedLog(desk.gate.log, desk.signer, desk.gate.now)
    logs = [name for name in peers if client_has_log or name != client]
    return await _exchange(peers, desk.party, client, logs, own)


async def answer_round(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: CheckpointRound
) -> None:
    """Exchange checkpoints as a provider in the platform's job."""
    await exchange_at_desk(engine.desk, peers, coordinator, client_has_log=job.log)


def exchange_of_federation(
    federation: Federation, providers: Sequence[str] | None = None
) -> Exchanged:
    """Exchange as the platform; see :meth:`fedcredit.Federation.exchange_checkpoints`."""
    if federation.own_log is None:
        raise ConfigError(
            "the platform has no audit log here.",
            party=federation.platform,
            step="exchange checkpoints",
            fix="connect with the platform's configuration file, or open_service() in a simulation",
        )
    with federation.own_log() as own:

        async def role(peers: Peers) -> Exchanged:
            await peers.broadcast(CheckpointRound(log=True))
            name = federation.platform
            return await _exchange(peers, name, name, tuple(peers), own)

        return federation.run(role, providers=providers, job="checkpoints", phase="checkpoints")


async def _exchange(
    peers: Peers, me: str, client: str, logs: Collection[str], own: WitnessedLog
) -> Exchanged:
    done = await exchange_checkpoints(peers, me, client=client, logs=logs, witness=own, own=own)
    for name, why in done.refused.items():
        log.warning("the audit log of %s is refused: %s", name, why)
    for name, what in done.refused_by.items():
        log.warning("%s %s; run `fedcredit audit verify`", name, what)
    return done
