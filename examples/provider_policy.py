"""What a data owner may refuse, and how its refusals read.

A bureau does not have to trust the platform's good intentions: its own engine holds every job to
its own `ProviderPolicy`, whatever the platform asks. On a real node the same names stand in the
``[policy]`` table of the party's TOML file, where a misspelt name is refused.

========================  =======================================================================
limit                     what it is against
========================  =======================================================================
min_intersection          an alignment that singles out a few enterprises
min_bin_count             sums over so few rows that they speak of single enterprises
min_node_rows             the same for the nodes of a tree, when membership is open
release_feature_names     a platform that reads from a column's name what the bureau records
max_trees                 a model so large that its splits retell the columns
max_splits_per_feature    an (unnamed) column ordered ever more finely, split after split
allow_sorted              jobs that show the bureau which rows share a node
========================  =======================================================================

A refusal names the party, the step and what to do; it never holds an id or a value, so it may be
logged and sent to anyone.
"""

import fedcredit as fc


def refused(what: str, action) -> None:
    try:
        action()
    except fc.errors.FedCreditError as error:
        print(f"\n{what}\n  {type(error).__name__}: {error}")
    else:
        print(f"\n{what}\n  was allowed")


def main() -> None:
    population = fc.datasets.make_sme_population(3_000, seed=5)
    policy = fc.ProviderPolicy(
        min_intersection=500,
        max_trees=20,
        max_splits_per_feature=2,
        allow_sorted=False,
        release_feature_names=False,
    )
    fed = fc.simulate(platform=population.platform, tax=population.tax, policy=policy)

    frame = fed.align(on="uscc")
    print(f"aligned {len(frame):,} rows; the bureau's columns are numbers to the platform:")
    print(" ", [name for name in frame.columns if name.startswith("tax.")])

    refused("Reading a column of the bureau:", lambda: frame["tax.f3"])
    refused("Naming a column that the bureau did not release:", lambda: fit(frame, "tax.arrears"))
    refused("Open membership:", lambda: fit(frame, hide_membership=False))
    refused("21 trees where 20 are allowed:", lambda: fit(frame, n_estimators=21))

    # A cap on splits is no refusal: the platform's trees go on with the other columns.
    model = fit(frame, n_estimators=12, max_depth=3)
    splits = model.importance().query("party == 'tax'")["splits"]
    print(f"\nmost splits on one of the bureau's columns: {splits.max()}, {splits.sum()} in all")

    # A table of 520 enterprises, of whom the bureau does not know all.
    small = fc.simulate(platform=population.platform.head(520), tax=population.tax, policy=policy)
    refused("An alignment below the bureau's floor:", lambda: small.align(on="uscc"))


def fit(frame, *features, n_estimators=2, **options) -> fc.VerticalGBDTClassifier:
    model = fc.VerticalGBDTClassifier(
        n_estimators, features=features or None, random_state=0, **options
    )
    return model.fit(frame, y="default")


if __name__ == "__main__":
    main()
