"""Ask a bureau yes-or-no questions, and have a declared figure compared without showing it.

A bureau's catalog is its menu: which questions it answers, with which thresholds. What is not on
the menu is refused. One question of this menu compares a figure that the enterprise declared, in a
signed *credit commitment*, with the bureau's record, and tells the bank whether they agree.

================  ===============================================================================
who               learns
================  ===============================================================================
bank              yes, no or no record; of a declared figure (which it has from the enterprise)
                  whether it matches within the tolerance, not how far off it is
bureau            who is asked about and which question; of a declared figure neither the figure
                  nor whether it matched
platform (relay)  which bank asks which bureau which question; not about whom, not the answer
================  ===============================================================================

One answer is one bit, and bits add up: a third threshold about one enterprise counts as a search
and suspends the bank at this bureau. `fedcredit/protocols/verification.py` has the full table.
"""

import fedcredit as fc

MENU = [
    {
        "id": "paid_at_least",
        "text": "the tax paid last year is at least {threshold} CNY",
        "operator": ">=",
        "thresholds": [100_000, 500_000, 1_000_000],
    },
    {
        "id": "paid_as_declared",
        "text": "the tax paid last year is what was declared, within {tolerance} CNY",
        "operator": "declared",
        "resolution": 1_000,
        "tolerances": [5],
    },
]


def main() -> None:
    population = fc.datasets.make_sme_population(1_000, seed=6, dirty=False)
    catalog = fc.Catalog.open_for(population.tax, provider="tax", key="uscc").to_dict()
    catalog["fields"]["annual_paid"]["predicates"] = MENU
    service = fc.simulate(
        platform=population.platform,
        tax=population.tax,
        catalog={"tax": fc.Catalog.from_dict(catalog)},
    ).open_service()

    records = population.tax.set_index("uscc")["annual_paid"]
    enterprise = fc.Enterprise.generate(records[records.between(200_000, 400_000)].index[0])
    service.register(enterprise)
    bank = service.accede("bank")

    def ask(predicate: str, **arguments) -> None:
        consent = enterprise.grant(
            institution="bank", purpose="credit_granting", scope=[f"verify:tax.{predicate}"]
        )
        try:
            answer = bank.verify(
                enterprise.uscc, consent, provider="tax", predicate=predicate, **arguments
            )
        except fc.errors.Refusal as error:
            print(f"  refused ({error.code}): {error.reason}")
        else:
            print(f"  {answer.outcome}: {answer.text}")

    print("From the menu, and off it:")
    ask("paid_at_least", threshold=100_000)
    ask("paid_at_least", threshold=250_000)

    print("Declared figures, signed by the enterprise:")
    paid = float(records[enterprise.uscc])
    for figure in (paid + 3_000, 1.5 * paid):
        pledge = enterprise.declare(field="annual_paid", value=figure, unit="CNY", resolution=1_000)
        ask("paid_as_declared", declared=pledge)

    print("A figure that the bank made up:")
    ask("paid_as_declared", declared=300)

    print("A search:")
    ask("paid_at_least", threshold=500_000)
    ask("paid_at_least", threshold=1_000_000)
    ask("paid_as_declared", declared=pledge)


if __name__ == "__main__":
    main()
