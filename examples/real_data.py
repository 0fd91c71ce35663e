"""The same on real credit data: 30,000 card holders in Taiwan, cut into three parties.

The UCI set "default of credit card clients" (Yeh and Lien, 2009) belongs to one bank. Cut by
columns it stands for three parties: the platform keeps delays and bills, the "tax" party the limit
and the payments, the "social security" party the person's sex, education, marriage and age. Each
row gets a made-up code, so that the parties have something to align on.

The package ships no real data. Put UCI_Credit_Card.csv (or .csv.gz) into a folder
``default_credit`` and name the folder above:

    FEDCREDIT_DATA=/path/to/data python examples/real_data.py [rows]
    python examples/real_data.py [rows] /path/to/data

Who learns what is as in `joint_training.py`. On this set the delays of earlier months, which the
platform has, say most; do not expect the partners' columns to add as much as in the synthetic
population, where three causes of default lie with three parties.
"""

import sys

import fedcredit as fc


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 6_000
    path = sys.argv[2] if len(sys.argv) > 2 else None
    try:
        data = fc.datasets.load("default-credit", path, n=rows)
    except fc.errors.ConfigError as error:
        sys.exit(str(error))
    print(data)

    fed = fc.simulate(platform=data.platform, categorical=data.categorical, **data.providers)
    frame = fed.align(on=data.key)
    train, test = frame.train_test_split(test_size=0.3, stratify=data.label, random_state=0)
    model = fc.VerticalGBDTClassifier(n_estimators=10, max_depth=3, learning_rate=0.3)
    model.set_params(random_state=0).fit(train, y=data.label)

    report = model.report(test)
    for metric in report.uplift:
        print(
            f"{metric.metric:<5} platform alone {metric.alone:.4f}, joint {metric.joint:.4f} "
            f"({metric.low:+.4f} to {metric.high:+.4f})"
        )
    gain = model.importance().groupby("party")["gain"].sum()
    print((gain / gain.sum()).round(3).to_dict())


if __name__ == "__main__":
    main()
