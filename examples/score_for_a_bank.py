"""A bank gets a credit score that it alone can read, because the enterprise agreed.

A platform and two bureaus have fitted a scorecard. The platform puts it into service; an enterprise
signs a consent for one bank, one model, one purpose, one use; the bank asks. Every party checks the
consent, its catalog and its budgets at its own gate, logs, and only then adds its points, masked by
a share of zero, encrypted under the bank's key. The platform sums ciphertexts.

==========  =====================================================================================
who         learns
==========  =====================================================================================
bank        the score, its band, the reasons that the enterprise agreed to, the date of each
            party's data, who has no record; never a single party's points
platform    who is asked about, by whom and for what; its own points of the enterprise; no score
bureau      the same of its own points; not whether the others agreed
==========  =====================================================================================

With real partners, `bank = fc.connect("bank.toml")` takes the place of the simulated service. The
protocol is in `fedcredit/protocols/scoring.py`, the story in `notebooks/03_bank_scoring.ipynb`.
"""

import fedcredit as fc


def refused(what: str, action) -> None:
    try:
        action()
    except fc.errors.Refusal as error:
        print(f"  {what}: {error.code}")
    else:
        print(f"  {what}: answered")


def main() -> None:
    population = fc.datasets.make_sme_population(3_000, seed=4, dirty=False)
    fed = fc.simulate(
        platform=population.platform,
        tax=population.tax,
        social_security=population.social_security,
    )
    service = fed.open_service()  # a gate, a register of keys and an audit log at every party
    frame = fed.align(on="uscc")
    train, test = frame.train_test_split(test_size=0.4, stratify="default", random_state=0)
    card = fc.VerticalScorecard(binner=fc.VerticalBinner(max_bins=4)).fit(train, y="default")
    fed.deploy(card, "sme-card@1", bands={"reject": -1e9, "review": 560, "accept": 600})

    # The enterprise's side: a key of its own, known to the parties, and a signed consent.
    enterprise = fc.Enterprise.generate(test.ids.iloc[0])
    service.register(enterprise)

    def consent(**more) -> str:
        return enterprise.grant(
            **{
                "institution": "bank",
                "purpose": "credit_granting",
                "scope": ["score:sme-card@1", "reasons"],
                **more,
            }
        )

    # The bank's side.
    bank = service.accede("bank")
    token = consent(valid_days=30, max_uses=1)
    result = bank.score(enterprise.uscc, token, model="sme-card@1", reasons=2)
    print(f"score {result.score:.0f}, band {result.band}; what costs most:")
    for reason in result.reasons[:3]:
        print(f"  {reason}")
    # Only a simulation can check this: the bank never saw the parts, the platform never the score.
    print(f"equal to the card's points: {result.score == card.points(test.take([0])).iloc[0]}")

    keys = {party: identity.public_key for party, identity in service.identities.items()}
    entries = {party: said["entry"] for party, said in result.receipt.verify(keys).items()}
    print(f"receipt signed by {', '.join(entries)}; entries in their logs: {entries}")

    print("what is refused, by each party for itself:")
    revoked = consent(max_uses=5)
    bank.deliver_revocation(enterprise.revoke(revoked))
    for what, given in {
        "the same consent again": token,
        "a consent given to an insurer": consent(institution="insurer"),
        "a consent for another purpose": consent(purpose="guarantee"),
        "a consent that was withdrawn": revoked,
        "no consent": "",
    }.items():
        refused(what, lambda given=given: bank.score(enterprise.uscc, given, model="sme-card@1"))


if __name__ == "__main__":
    main()
