"""Members of sessions with audit logs in memory, and exchanges of checkpoints between them."""

from __future__ import annotations

from fedcredit.governance import witness as witnesses
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import AUDIT_ENTRIES, AUDIT_NODES, AUDIT_OPENINGS, CHECKPOINTS
from fedcredit.governance.witnessing import LogWitness, WitnessedLog
from fedcredit.protocols.checkpoints import exchange_checkpoints
from fedcredit.wire import Identity, Peers, run_in_process

NOW = 1_764_000_000.0
BANK, TAX, SOCIAL, PLATFORM = "bank", "tax", "social", "platform"
PARTIES = (PLATFORM, TAX, SOCIAL)
SIZES = {PLATFORM: 5, TAX: 6, SOCIAL: 7}


class Member:
    """A member of sessions; the bank has no log."""

    def __init__(self, name):
        self.identity = Identity.generate(name)
        self.ledger = Ledger("sqlite://", party=name)
        self.log = None if name == BANK else AuditLog(self.ledger, self.identity)
        self.made()

    def made(self):
        clock = lambda: NOW  # noqa: E731
        if self.log is None:
            self.side = LogWitness(self.ledger, self.identity, clock)
        else:
            self.side = WitnessedLog(self.log, self.identity, clock)

    def rekey(self):
        self.identity = Identity.generate(self.identity.name)
        self.log = AuditLog(self.ledger, self.identity)
        self.made()

    def write(self, n, what="score"):
        for i in range(n):
            with self.ledger.transaction() as tx:
                self.log.append(tx, what, {"outcome": "admitted"}, [f"enterprise {i}"], now=NOW)

    def cut(self, size, *, checkpoints=True):
        """Make the log forget what came after its first entries."""
        with self.ledger.transaction() as tx:
            tx.execute(AUDIT_ENTRIES.delete().where(AUDIT_ENTRIES.c.number >= size))
            tx.execute(AUDIT_OPENINGS.delete().where(AUDIT_OPENINGS.c.number >= size))
            nodes = AUDIT_NODES.c
            for level in range(64):
                gone = (nodes.level == level) & (nodes.position >= size >> level)
                tx.execute(AUDIT_NODES.delete().where(gone))
            if checkpoints:
                own = CHECKPOINTS.c.origin == self.log.origin
                tx.execute(CHECKPOINTS.delete().where(own & (CHECKPOINTS.c.size > size)))

    def entries(self, kind):
        return [entry for entry in self.log.entries() if entry.kind == kind]

    def seen(self, origin):
        with self.ledger.reading() as tx:
            return witnesses.seen(tx, origin)

    def refused(self):
        with self.ledger.reading() as tx:
            return witnesses.refused(tx)


class World:
    def __init__(self, *names):
        self.members = {name: Member(name) for name in names or (BANK, *PARTIES)}
        for name in self:
            if self[name].log is not None:
                self[name].write(SIZES[name])

    def __getitem__(self, name):
        return self.members[name]

    def __iter__(self):
        return iter(self.members)

    def role(self, name, client=BANK):
        keys = {other: self[other].identity.public_key for other in self}
        side = self[name].side
        return exchange_checkpoints(
            Peers([other for other in self if other != name], keys),
            name,
            client=client,
            logs=[other for other in self if self[other].log is not None],
            witness=side,
            own=side if self[name].log is not None else None,
        )

    def exchange(self, client=BANK, transcript=None, **roles):
        """Exchange once; some members may play another role than theirs."""
        played = {name: roles.get(name) or self.role(name, client) for name in self}
        return run_in_process(played, transcript=transcript)


def copy_of(ledger):
    copy = Ledger("sqlite://", party=ledger.party)
    with ledger.reading() as source, copy.transaction() as tx:
        for table in (AUDIT_ENTRIES, AUDIT_NODES, AUDIT_OPENINGS, CHECKPOINTS):
            rows = [dict(row._mapping) for row in source.execute(table.select())]
            tx.execute(table.insert(), rows)
    return copy


class Forging:
    """The own log of a member that shows something else."""

    def __init__(self, side, note=None, proof=None):
        self.side, self.note, self.proof = side, note, proof

    def head(self):
        note, size = self.side.head()
        return (note if self.note is None else self.note(note)), size

    def prove(self, first, size):
        proof = self.side.prove(first, size)
        return proof if self.proof is None else self.proof(proof)

    def keep(self, *arguments):
        self.side.keep(*arguments)
