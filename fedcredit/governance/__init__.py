"""What a party holds its answers to: catalog, consent, budgets, the audit log, usage."""
