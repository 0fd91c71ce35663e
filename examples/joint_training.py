"""Train a credit model on three parties' data and see what the partners were worth.

A lending platform knows who defaulted. The tax bureau and the social-security bureau know how the
same enterprises sell, pay and employ. None of them may hand its table to another. Here all three
live in one process, but they exchange the messages and ciphertexts that real nodes exchange over a
network: replace `fc.simulate` by ``fc.connect("platform.toml")`` and the rest stays as it is.

The platform grows the trees. For every level it sends its encrypted gradients, and gets back sums
per bin of a bureau's column, which it alone can decrypt. Where a bureau's column gives the best
split, the platform fetches which way its rows go, without showing which rows are in that node.

==========  =====================================================================================
who         learns
==========  =====================================================================================
platform    sums of gradients per bin, which rows of a splitting node went left, the scores; never
            a value or a cut point of a bureau's column
bureau      which of its enterprises are modelled, and its own splits; never a label, a score or
            a gradient, nor (by default) which rows share a node
==========  =====================================================================================

The full tables stand in `fedcredit/protocols/gbdt.py`, `encrypted_sums.py` and `directions.py`.

Usage: python examples/joint_training.py [report.html]
"""

import sys
import tempfile
from pathlib import Path

import fedcredit as fc
from fedcredit.models.report import TrainingReport

PARAMETERS = {"n_estimators": 10, "max_depth": 3, "learning_rate": 0.25, "random_state": 0}


def train(seed: int = 3) -> TrainingReport:
    population = fc.datasets.make_sme_population(5_000, seed=seed)
    fed = fc.simulate(
        platform=population.platform,
        tax=population.tax,
        social_security=population.social_security,
    )
    frame = fed.align(on="uscc")
    train, test = frame.train_test_split(test_size=0.4, stratify="default", random_state=0)
    print(f"{len(frame):,} enterprises are known to all parties; {len(train):,} of them train.")

    joint = fc.VerticalGBDTClassifier(**PARAMETERS).fit(train, y="default")

    # The platform's own model: same rows and parameters, its own columns only, and no messages.
    own = [name for name in frame.columns if name.startswith("platform.")]
    own.remove("platform.default")
    alone = fc.VerticalGBDTClassifier(**PARAMETERS, features=own).fit(train, y="default")

    return joint.report(test, alone=alone)


def main() -> None:
    report = train()
    for metric in report.uplift:
        print(
            f"{metric.metric:<5} on test rows: platform alone {metric.alone:.3f}, "
            f"joint {metric.joint:.3f} (difference {metric.low:+.3f} to {metric.high:+.3f})"
        )
    for phase in report.phases:
        print(f"{phase.name:<8} {phase.seconds:6.2f} s {phase.bytes / 1e6:8.2f} MB")

    given = sys.argv[1] if len(sys.argv) > 1 else None
    path = Path(given) if given else Path(tempfile.mkdtemp()) / "report.html"
    report.to_html(path)
    print(f"The report with all figures and with what every party received: {path}")


if __name__ == "__main__":
    main()
