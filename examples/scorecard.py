"""Fit a scorecard on three parties' data: bins, coefficients, whole points, reasons.

A lending platform wants a card that people can read: every bin of every characteristic has points,
and the points of an applicant are their sum. Some characteristics lie at the tax bureau, some at
the social-security bureau. Each party cuts, and keeps, its own bins; the platform sees a bureau's
bins by number, with how many enterprises and how many defaults are in each.

The regression on weights of evidence (WOE) is fitted without anyone seeing a score, up to one exact
step at the end. That step, and each first scoring of a row, shows the platform the *sum* of the
bureaus' parts; the bureaus count how often, per row, and refuse beyond a limit of their own.

==========  =====================================================================================
who         learns
==========  =====================================================================================
platform    enterprises and events per bin of a bureau's column, never its limits; correlations;
            the coefficients that bureaus release; per row the sum of the bureaus' points; the
            reasons of the applicants that it asks about
bureau      which of its enterprises are modelled and scored; the WOE of its own bins, hence the
            event rate in each; its own coefficients; never a label or a score
==========  =====================================================================================

The full tables stand in `fedcredit/protocols/`: `binning.py`, `gram.py`, `logistic.py`,
`predictor.py` and `reasons.py`. The whole path is in `notebooks/02_scorecard.ipynb`.

Usage: python examples/scorecard.py [report.html]
"""

import sys
import tempfile
from pathlib import Path

import fedcredit as fc


def main() -> None:
    population = fc.datasets.make_sme_population(6_000, seed=3)
    fed = fc.simulate(
        platform=population.platform,
        tax=population.tax,
        social_security=population.social_security,
        policy=fc.ProviderPolicy(release_feature_names=True, max_revealed_predictors=5),
    )
    frame = fed.align(on="uscc")
    train, test = frame.train_test_split(test_size=0.4, stratify="default", random_state=0)

    card = fc.VerticalScorecard(
        binner=fc.VerticalBinner(max_bins=5),
        selector=fc.FeatureSelector(stepwise="backward"),
    ).fit(train, y="default")
    kept = card.selection_["kept"]
    print(f"{kept.sum()} of {len(kept)} features are in the card, {card.n_fits_} regressions.")
    print(card.table().query("party == 'tax'").head(6).to_string(index=False))

    # 600 points are odds of 50 to 1; 20 more double them.
    points = card.points(test)
    print(f"\npoints of {len(test):,} test rows: {points.min()} to {points.max()}")
    print(card.cutoff_table(test, "default", [540, 570, 600]).round(3).to_string())

    worst = test.take(points.to_numpy().argsort()[:3])
    print("\nWhy the three lowest are low:")
    print(card.reason_codes(worst, n=2).to_string(index=False))

    report = card.report(test)
    for metric in report.run.uplift:
        print(
            f"{metric.metric:<5} on test rows: platform alone {metric.alone:.3f}, "
            f"joint {metric.joint:.3f} (difference {metric.low:+.3f} to {metric.high:+.3f})"
        )
    given = sys.argv[1] if len(sys.argv) > 1 else None
    path = Path(given) if given else Path(tempfile.mkdtemp()) / "scorecard.html"
    report.to_html(path)
    print(f"The model document, with what every party received: {path}")


if __name__ == "__main__":
    main()
