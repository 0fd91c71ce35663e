"""Prove what a bureau did: its audit log, a witness, and a file of evidence for a court.

Every answer and every refusal is an entry in the log of the party that gave it, written in the same
transaction; what cannot be logged is not answered. Entries are leaves of a Merkle tree (RFC 9162),
name enterprises by salted commitments only, and are fixed by signed checkpoints, which other
parties countersign as witnesses.

==========  =====================================================================================
who         learns
==========  =====================================================================================
witness     the size and the root hash of the log: nothing about its entries
auditor     with an entry: what was asked, by whom, for what, and how it ended; not about whom,
            unless the bureau discloses one enterprise
==========  =====================================================================================

The log shows that something was changed, and only up to the last checkpoint that somebody else
holds. It does not show that the bureau's record of an enterprise is true.

Usage: python examples/audit_evidence.py [bundle.json]
"""

import json
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

import fedcredit as fc
from fedcredit.governance.evidence import Document, verify_bundle
from fedcredit.governance.schema import AUDIT_ENTRIES


def main() -> None:
    population = fc.datasets.make_sme_population(1_000, seed=8, dirty=False)
    catalog = fc.Catalog.open_for(population.tax, provider="tax", key="uscc").to_dict()
    catalog["fields"]["arrears"]["predicates"] = [
        {"id": "no_arrears", "text": "there are no arrears", "operator": "==", "values": [0]}
    ]
    service = fc.simulate(
        platform=population.platform,
        tax=population.tax,
        catalog={"tax": fc.Catalog.from_dict(catalog)},
    ).open_service()
    bank = service.accede("bank")
    firms = [fc.Enterprise.generate(code) for code in population.tax["uscc"][:5]]
    service.register(*firms)
    scope, question = ["verify:tax.no_arrears"], {"provider": "tax", "predicate": "no_arrears"}
    consents = [f.grant(institution="bank", purpose="credit_granting", scope=scope) for f in firms]
    for firm, consent in zip(firms, consents, strict=True):
        print(f"no arrears? {bank.verify(firm.uscc, consent, **question).outcome}")
    try:
        bank.verify(firms[0].uscc, consents[0], **question)
    except fc.errors.Refusal as error:
        print(f"again with the first consent: {error.code}")

    gate = service.desks["tax"].gate
    keys = {party: identity.public_key for party, identity in service.identities.items()}
    entries = list(gate.log.entries())
    number = next(entry.number for entry in entries if entry.kind == "verify")
    print(f"\n{len(entries)} entries; the first answer is entry {number}:")
    print(entries[number].data.decode())
    proof = gate.log.prove_inclusion(number)
    print(f"inclusion in the log of {proof.size}: {proof.holds(entries[number].data)}")

    note, witness = gate.log.checkpoint(gate.now()).note, service.desks["platform"].gate.log
    copy = witness.witness(note, keys["tax"], gate.now(), proof=gate.log.prove_consistency)
    gate.log.accept_copy(copy.note, gate.now())

    token = Document("consent.jwt", consents[0].encode(), "consent")
    disclosed = {"disclose": firms[0].uscc, "documents": [token], "now": gate.now()}
    given = sys.argv[1] if len(sys.argv) > 1 else None
    path = Path(given) if given else Path(tempfile.mkdtemp()) / "bundle.json"
    path.write_text(json.dumps(gate.log.export(number, **disclosed)), encoding="utf-8")
    print(f"\nEvidence in {path}, verified offline:")
    for check in verify_bundle(path.read_bytes(), keys=keys).checks:
        print(f"  {'ok' if check.ok else 'FAILED':<7}{check.name:<12}{check.text}")

    with gate.ledger.transaction() as tx:
        forged = entries[number].data.replace(b'"bank"', b'"fund"')
        row = AUDIT_ENTRIES.c.number == number
        tx.execute(sa.update(AUDIT_ENTRIES).where(row).values(entry=forged))
    print("\nAfter one word was changed in the database, these fail:", gate.log.verify().failed)


if __name__ == "__main__":
    main()
