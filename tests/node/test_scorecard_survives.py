"""Scorecards with real processes, mutual TLS and the real engine, while processes are killed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedcredit.cli.card_lines import provider_table
from fedcredit.errors import BudgetError, PeerUnavailable
from fedcredit.models.federation import Federation
from fedcredit.models.reveal_ledger import RevealLedger
from fedcredit.models.scorecard import VerticalScorecard
from fedcredit.models.store import MemoryStore
from fedcredit.node.config import load_config
from fedcredit.node.remote import Event
from tests.support.site import Site, make_site

FRAME = "pilot"
FEATURES = (
    *("platform.credit_utilisation", "platform.enquiries_6m"),
    *("tax.f4", "tax.f10", "social_security.f3", "social_security.f4"),
)
#: Nothing is dropped, so that every fit is one regression on the same columns.
OPTIONS = {"features": FEATURES, "selector": {"max_correlation": None, "max_vif": None}}


def set_policy(site: Site, party: str, **limits: int) -> None:
    """Write limits into a provider's configuration, in place of what was there before."""
    path = site.config(party)
    lines = [
        line for line in path.read_text().splitlines() if line.partition(" =")[0] not in limits
    ]
    place = lines.index("[policy]") + 1
    lines[place:place] = [f"{name} = {value}" for name, value in limits.items()]
    path.write_text("\n".join(lines) + "\n")


@dataclass
class Blow:
    """Something that is done once, at a moment of a phase.

    ``kind`` and ``number``: when the ``number``-th message of this kind (of any, if None) from
    ``sender`` has arrived in the phase; without a sender, when the phase's session is over.
    """

    phase: str
    do: Callable[[], object]
    sender: str | None = None
    kind: str | None = None
    number: int = 1


@dataclass
class Watch:
    """Deals the blows in their order, and notes which sessions were opened."""

    blows: list[Blow] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    lost: list[tuple[str, str | None]] = field(default_factory=list)
    federation: Federation | None = None
    _phase: str = ""

    def on_event(self, event: Event) -> None:
        phase = (event.job or "").partition("-")[0]
        if event.kind == "opened":
            self._phase = phase
            self.opened.append(phase)
        elif event.kind == "lost":
            self.lost.append((phase, event.party))
        elif event.kind == "finished":
            self._phase = ""
            if self.blows and self.blows[0].sender is None and self.blows[0].phase == phase:
                self.blows.pop(0).do()

    def on_message(self) -> None:
        if not self.blows or self.blows[0].phase != self._phase or not self.blows[0].sender:
            return
        blow = self.blows[0]
        arrived = sum(
            count.messages
            for (sender, _, kind), count in self.federation.session_counts().items()
            if sender == blow.sender and kind in (blow.kind, blow.kind or kind)
        )
        if arrived >= blow.number:
            self.blows.pop(0).do()


@dataclass
class Card:
    """What a training leaves, at every party."""

    card: VerticalScorecard
    table: pd.DataFrame
    own: dict[str, pd.DataFrame]
    points: np.ndarray
    passes: dict[str, int]
    reveals: dict[str, int]


def kept(site: Site, party: str) -> MemoryStore:
    """Return a copy of what a provider has stored."""
    store = MemoryStore()
    for path in site.state(party).glob("*/[!.]*"):
        store.put(path.parent.name, path.name, path.read_bytes())
    return store


def passes(site: Site, party: str) -> int:
    """Return how often the events in a feature's bins were counted, at most."""
    book = json.loads(kept(site, party).get("binning", "ledger") or b"{}")
    return max((entry["passes"] for entry in book.values()), default=0)


def reveals(site: Site, party: str) -> int:
    """Return how many predictors of a row were revealed, at most."""
    rows = np.arange(len(site.data.parties[party]))
    return 1000 - RevealLedger(kept(site, party), 1000, party=party).left(rows)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = make_site(tmp_path_factory.mktemp("card"), rows=1200, seed=5)
    for party in site.providers:
        set_policy(site, party, max_binnings_per_feature=50, max_revealed_predictors=50)
    with site.run():
        with site.connect() as federation:
            federation.align(name=FRAME)
        yield site


def build(site: Site, watch: Watch, config: Path | None = None) -> Card:
    """Train a card on the aligned rows and score those held out."""
    counted = {party: passes(site, party) for party in site.providers}
    shown = {party: reveals(site, party) for party in site.providers}
    with site.connect(config, on_event=watch.on_event, on_message=watch.on_message) as federation:
        watch.federation = federation
        train, test = federation.frame(FRAME).train_test_split(
            random_state=0, stratify=site.data.label
        )
        card = VerticalScorecard(**OPTIONS).fit(train, site.data.label)
        fitted = {party: reveals(site, party) - shown[party] for party in site.providers}
        points = card.points(test).to_numpy()
    return Card(
        card,
        card.table(),
        {p: provider_table(load_config(site.config(p)), card.model_id_) for p in site.providers},
        points,
        {party: passes(site, party) - counted[party] for party in site.providers},
        fitted,
    )


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> Card:
    watch = Watch()
    made = build(site, watch)
    assert watch.opened == ["bin", "woe", "regress", "card", "score"]
    assert set(made.card.features_) == set(FEATURES)
    assert made.passes == {"tax": 1, "social_security": 1}
    assert made.reveals == {"tax": 1, "social_security": 1}
    return made


def assert_same_card(made: Card, expected: Card) -> None:
    """The bins are the same to the last bit; coefficients are found under fresh masks."""
    bins = ["party", "feature", "bin", "count", "event rate", "woe"]
    pd.testing.assert_frame_equal(made.table[bins], expected.table[bins], check_exact=True)
    assert (made.table["points"] - expected.table["points"]).abs().max() <= 1
    for party, own in made.own.items():
        other = expected.own[party]
        names = ["feature", "bin", "count", "woe"]
        pd.testing.assert_frame_equal(own[names], other[names], check_exact=True)
        assert (own["points"] - other["points"]).abs().max() <= 1
    # Whole points of six characteristics, each off by one at most.
    assert np.abs(made.points - expected.points).max() <= len(FEATURES)


def kill(site: Site, *parties: str) -> Callable[[], None]:
    """Return what kills providers and starts them again, without waiting until they are back."""
    return lambda: [site.restart(party) for party in parties]


def test_one_after_the_other(site: Site, undisturbed: Card):
    watch = Watch(
        [
            Blow("bin", kill(site, "tax"), "tax"),
            Blow("regress", kill(site, "social_security"), "social_security", "predictor.share"),
            Blow("regress", kill(site, "tax")),
        ]
    )
    made = build(site, watch)
    assert not watch.blows
    assert watch.lost == [("bin", "tax"), ("regress", "social_security")]
    assert watch.opened == ["bin", "bin", "woe", "regress", "regress", "card", "score"]
    assert_same_card(made, undisturbed)
    # What was cut off counts: labels, or coefficients, may have been others.
    assert made.passes == {"tax": 2, "social_security": 2}
    assert made.reveals["social_security"] == 2
    assert 1 <= made.reveals["tax"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "victims", "sender", "kind", "number"),
    [
        ("bin", ["tax"], "tax", None, 1),
        ("bin", ["tax", "social_security"], "platform", "sums.chunk", 1),
        ("woe", ["social_security"], None, None, 1),
        ("regress", ["tax"], "tax", "logistic.sums", 1),
        ("regress", ["social_security"], "tax", "logistic.sums", 4),
        ("regress", ["tax", "social_security"], "tax", "logistic.sums", 4),
        ("regress", ["tax"], "tax", "predictor.share", 1),
        ("regress", ["tax"], "tax", "logistic.result", 1),
        ("regress", ["tax"], None, None, 1),
        ("card", ["social_security"], None, None, 1),
    ],
)
def test_at_every_step(site: Site, undisturbed: Card, phase, victims, sender, kind, number):
    watch = Watch([Blow(phase, kill(site, *victims), sender, kind, number)])
    made = build(site, watch)
    assert not watch.blows
    assert {party for _, party in watch.lost} <= set(victims)
    assert len(watch.opened) <= 5 + len(victims)
    assert_same_card(made, undisturbed)


@pytest.mark.slow
def test_interrupted_reveals_use_up_the_limit(site: Site, undisturbed: Card):
    left = reveals(site, "tax") + 1
    before = set(kept(site, "tax").keys("card"))

    def tighten() -> None:
        # The reveal that has just arrived was the last that this limit allows.
        set_policy(site, "tax", max_revealed_predictors=left)
        site.restart("tax")

    watch = Watch([Blow("regress", tighten, "tax", "predictor.share")])
    try:
        with pytest.raises(BudgetError, match=f"0 of {left} reveals are left") as caught:
            build(site, watch)
        assert (caught.value.party, caught.value.step) == ("tax", "train")
        assert "polish_steps=0" in caught.value.fix
        assert watch.opened == ["bin", "woe", "regress", "regress"]
        assert reveals(site, "tax") == left
        # No party keeps a card of a fit that did not end.
        assert set(kept(site, "tax").keys("card")) == before
    finally:
        set_policy(site, "tax", max_revealed_predictors=50)
        site.restart("tax")


def test_nobody_scores_without_a_provider(site: Site, undisturbed: Card):
    data = undisturbed.card.to_bytes()
    site.end("tax", signal.SIGTERM)
    try:
        with site.connect(site.impatient(1.0)) as federation:
            card = VerticalScorecard.load(data, federation)
            frame = federation.frame(FRAME)
            before = reveals(site, "social_security")
            for ask in (card.points, card.predict_proba, lambda f: card.reason_codes(f[:5])):
                begin = time.monotonic()
                with pytest.raises(PeerUnavailable, match="not connected to the hub: tax") as told:
                    ask(frame)
                assert time.monotonic() - begin < 20
                assert (told.value.party, told.value.step) == ("tax", "open a session")
                assert "fedcredit party start" in told.value.fix
            # The one that is there was asked for nothing.
            assert reveals(site, "social_security") == before
    finally:
        site.start("tax").wait_for_line("connected")
    with site.connect() as federation:
        card = VerticalScorecard.load(data, federation)
        _, test = federation.frame(FRAME).train_test_split(random_state=0, stratify=site.data.label)
        np.testing.assert_array_equal(card.points(test), undisturbed.points)
