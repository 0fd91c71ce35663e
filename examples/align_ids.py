"""Match the enterprises of three parties whose id columns are as untidy as real ones.

Parties can only model together on rows that they all hold, and so the first step is to find the
common enterprises without showing anyone the others. Two things get in the way.

*Spelling.* A unified social credit code arrives in full-width letters, in lower case, with blanks,
hyphens, an apostrophe from a spreadsheet. `fedcredit.uscc.normalise` brings every spelling to one
and counts what it cannot use. It never guesses: a mistyped character stays mistyped, and a wrong
check character is only counted, since genuine codes from before the standard have one.

*Secrecy.* Hashing the codes would hide little: they follow a known pattern, and anyone can hash
candidates until one fits. The parties run a private set intersection instead
(`fedcredit.protocols.align_many`), with fresh keys for every run.

==========  =====================================================================================
who         learns
==========  =====================================================================================
platform    how many ids each provider holds; which of its own ids all providers hold
provider    how many ids the platform holds; which of its own ids all parties hold, and only if
            the number reaches every party's floor; nothing of the other provider's ids
==========  =====================================================================================

A floor keeps an alignment from becoming a question about a single enterprise: below it, the
providers get an error that does not say how many ids were common.
"""

import fedcredit as fc
from fedcredit.uscc import normalise
from fedcredit.wire import message_class

CODE = "91350100M000100Y43"
SPELLINGS = [
    CODE,
    CODE.lower(),
    " 9135 0100 M000 100Y 43",
    "91350100-M000100Y-43",
    f"'{CODE}",
    "".join(chr(ord(character) + 0xFEE0) for character in CODE),  # full-width
]


def main() -> None:
    report = normalise(SPELLINGS)
    print(f"{len(SPELLINGS)} spellings are {len(report)} code: {report.ids[0].decode()}")

    population = fc.datasets.make_sme_population(3_000, seed=7)
    print("\nThe platform's own column:")
    for sentence in normalise(population.platform["uscc"]).warnings():
        print(" -", sentence)

    fed = fc.simulate(
        platform=population.platform,
        tax=population.tax,
        social_security=population.social_security,
    )
    frame = fed.align(on="uscc")
    print(f"\n{frame}")
    report_by_party = frame.match_report.round(3).astype(object).T
    print(report_by_party.to_string())

    # Only a simulation can check this: the truth knows which ids are common.
    print(f"\ntrue matches {int(population.truth['matches'].sum())}, found {len(frame)}")

    print("\nWhat reached the tax bureau, and what each message tells it:")
    for kind, count in sorted(fed.transcript.received_by("tax").items()):
        message = message_class(kind)
        print(f"  {kind:<16} {count.bytes:>8,} bytes  {message.reveals}")

    print("\nWith a floor of 2,000 common enterprises:")
    try:
        fed.align(on="uscc", min_intersection=2_000)
    except fc.errors.PolicyError as error:
        print(" ", error)


if __name__ == "__main__":
    main()
