"""Bin columns by weight of evidence, and change the bins by hand.

The platform's labels are encrypted, summed up at each bureau over the fine bins of its columns, and
decrypted at the platform: that is the only pass. Everything after it, merging, splitting, trends,
works on the counts that the platform has, without another message.

==========  =====================================================================================
who         learns
==========  =====================================================================================
platform    of a bureau's column: how many enterprises and events each fine bin holds, not where
            it begins nor who is in it; with split points of its own choice, where it begins, too
bureau      which enterprises are binned; the WOE of its bins once the platform publishes them,
            and hence the event rate in each
==========  =====================================================================================

Three limits of a bureau apply. A bin holds no enterprise or at least ``min_bin_count``. The
platform chooses split points only where ``allow_user_splits`` is set. And the events of a column
are counted ``max_binnings_per_feature`` times at most, since each count tells something more.
`fedcredit/protocols/binning.py` has the full table.

Usage: python examples/binning_by_hand.py
"""

from dataclasses import replace

import fedcredit as fc
from fedcredit.models.engine_binning import own_binning_tables


def messages(fed: fc.Federation) -> int:
    return sum(count.messages for count in fed.transcript.counts.values())


def show(title: str, table) -> None:
    print(f"\n{title}\n{table.round(3).to_string()}")


def main() -> None:
    population = fc.datasets.make_sme_population(4_000, seed=2)
    closed = fc.ProviderPolicy(release_feature_names=True)
    fed = fc.simulate(
        # Enterprises without a loan have no utilisation. Give "no loan" a code of its own.
        platform=population.platform.fillna({"credit_utilisation": -1.0}),
        tax=population.tax,
        social_security=population.social_security,
        policy={"tax": closed, "social_security": replace(closed, allow_user_splits=True)},
    )
    frame = fed.align(on="uscc")

    asked = {
        "platform.credit_utilisation": [0.3, 0.6, 0.9],
        "social_security.average_tenure": [1, 2, 4],
        "tax.revenue_growth": [-0.1, 0.0, 0.1],
    }
    codes = {"platform.credit_utilisation": [-1.0]}
    try:
        fc.VerticalBinner(user_splits=asked, special_codes=codes).fit(frame, y="default")
    except fc.errors.PolicyError as error:
        print(f"Split points at the tax bureau: {error}")

    del asked["tax.revenue_growth"]
    binner = fc.VerticalBinner(user_splits=asked, special_codes=codes).fit(frame, y="default")
    show("Own split points, own code:", binner.binning_table("platform.credit_utilisation"))
    show("Allowed split points:", binner.binning_table("social_security.average_tenure"))
    show("A bureau's own bins:", binner.binning_table("tax.revenue_growth"))

    before = messages(fed)
    binner.merge("tax.revenue_growth", 0, 1)
    binner.force_trend("tax.invoice_volatility", "ascending")
    show("Lines 0 and 1 merged:", binner.binning_table("tax.revenue_growth"))
    print(f"messages sent for these edits: {messages(fed) - before}")

    binner.publish()
    own = own_binning_tables(fed.engines["tax"], binner.binner_id_)["revenue_growth"]
    show("What the tax bureau has of the same column:", own)

    print("\nCounting again:")
    try:
        for number in range(2, 10):
            fc.VerticalBinner(features=["tax.arrears"]).fit(frame, y="default")
            print(f"  pass {number} was allowed")
    except fc.errors.BudgetError as error:
        print(f"  pass {number}: {error}")


if __name__ == "__main__":
    main()
