"""What crosses the wire in a joint binning: no label, value, edge, category or id."""

import json

import numpy as np
import pandas as pd
import pytest

import fedcredit as fc
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.engine_binning import own_binning_tables
from fedcredit.protocols.binning_messages import BinFeatures
from fedcredit.wire import Transcript, encode, run_in_process
from fedcredit.wire.session import Peers

N = 400
#: Message kinds, and who sends them to whom.
KINDS = {
    ("platform", "tax", "bin.job"),
    ("tax", "platform", "bin.features"),
    ("platform", "tax", "sums.keys"),
    ("platform", "tax", "sums.chunk"),
    ("tax", "platform", "sums.reply"),
    ("platform", "tax", "bin.woe"),
    ("tax", "platform", "bin.ack"),
    ("platform", "tax", "bin.count"),
    ("tax", "platform", "bin.counts"),
}
WITHOUT_WOE = {kind for kind in KINDS if kind[2] in ("bin.job", "sums.keys", "sums.chunk")}


def tables(seed=0, labels=None):
    rng = np.random.default_rng(seed)
    ids = [f"Q{i + 81_000_000:08d}" for i in range(N)]
    tax = pd.DataFrame(
        {
            "id": ids,
            # Numbers whose eight bytes are found by chance nowhere.
            "annual_paid": rng.normal(size=N) * 1e6 + np.pi,
            "sector": rng.choice(["confectionery", "shipbuilding", "viticulture"], N),
        }
    )
    platform = pd.DataFrame({"id": ids, "defaulted": (rng.random(N) < 0.4).astype(int)})
    if labels is not None:
        platform["defaulted"] = labels
    platform["firm_age"] = rng.integers(1, 60, N).astype(float)
    return platform, tax


def record(monkeypatch, *, labels=None, steps=("fit", "publish", "stability")):
    """Run the jobs of a binner and keep every message."""
    platform, tax = tables(labels=labels)
    policy = fc.ProviderPolicy(min_intersection=1, max_binnings_per_feature=5)
    fed = fc.simulate(platform=platform, tax=tax, policy=policy, threads=1)
    frame = fed.align(on="id")
    transcript = Transcript(keep=True)

    def kept(role, *, providers=None, job, transcript_=transcript, **_):
        roles = {"platform": role(Peers(providers))}
        for name in providers:
            roles[name] = fed.engines[name].serve(Peers(["platform"]), "platform")
        return run_in_process(roles, transcript=transcript_)["platform"]

    monkeypatch.setattr(fed.backend, "run", kept)
    binner = VerticalBinner(max_bins=5).fit(frame, y="defaulted")
    if "publish" in steps:
        binner.publish()
    if "stability" in steps:
        binner.stability(frame)
    return fed, frame, binner, transcript


def test_only_the_messages_of_the_protocol_cross_the_wire(monkeypatch):
    *_, transcript = record(monkeypatch)
    assert set(transcript.counts) == KINDS


def test_no_value_edge_category_or_id_leaves_the_provider(monkeypatch):
    fed, _, binner, transcript = record(monkeypatch)
    sent = b"".join(r.data.to_pybytes() for r in transcript.between(sender="tax"))
    assert sent
    _, tax = tables()
    store = fed.engines["tax"].store
    columns = json.loads(store.get("binner", binner.binner_id_))["columns"]
    splits = [s for column in columns for s in column["rule"]["splits"]]
    assert len(splits) > 5
    numbers = [*tax["annual_paid"].tolist(), *splits]
    for number in numbers:
        assert np.float64(number).tobytes() not in sent
    texts = [*tax["sector"].unique(), *tax["id"], "annual_paid", "sector"]
    for text in texts:
        assert text.encode() not in sent
    # The owner does see its edges.
    own = own_binning_tables(fed.engines["tax"], binner.binner_id_)
    assert set(own) == {"annual_paid", "sector"}
    assert "inf" in own["annual_paid"]["Bin"].iloc[0]


def test_no_label_or_id_leaves_the_platform(monkeypatch):
    """Whatever the labels are, a provider gets messages of the same sizes, alike in the clear."""
    rng = np.random.default_rng(1)
    some = (rng.random(N) < 0.1).astype(int)
    runs = [record(monkeypatch, labels=labels, steps=("fit",)) for labels in (some, 1 - some)]
    received = [transcript.between(recipient="tax") for *_, transcript in runs]
    for records, (_, frame, _, _) in zip(received, runs, strict=True):
        assert {(r.sender, r.recipient, r.message.kind) for r in records} == WITHOUT_WOE
        data = b"".join(r.data.to_pybytes() for r in records)
        for identifier in frame.ids:
            assert identifier.encode() not in data
        assert b"defaulted" not in data
        assert b"firm_age" not in data
    sizes = [
        [(r.message.kind, r.data.size) for r in records if r.message.kind != "sums.keys"]
        for records in received
    ]
    assert sizes[0] == sizes[1]
    first, second = (
        next(r.message for r in records if r.message.kind == "bin.job") for records in received
    )
    for name in ("rows", "columns", "prebins", "splits", "specials", "split_labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_encrypted_labels_look_uniform_and_are_fresh(monkeypatch):
    chunks = []
    for _ in range(2):
        *_, transcript = record(monkeypatch, steps=("fit",))
        (message,) = (r.message for r in transcript.records if r.message.kind == "sums.chunk")
        chunks.append(message.c0.tobytes())
    for chunk in chunks:
        counts = np.bincount(np.frombuffer(chunk, np.uint8), minlength=256)
        mean = len(chunk) / 256
        assert abs(((counts - mean) ** 2 / mean).sum() - 255) < 6 * (2 * 255) ** 0.5
    windows = [{c[at : at + 16] for at in range(0, len(c) - 16, 16)} for c in chunks]
    assert not windows[0] & windows[1]


def test_counts_respect_the_floor(monkeypatch):
    _, frame, binner, transcript = record(monkeypatch, steps=("fit",))
    (features,) = (r.message for r in transcript.records if r.message.kind == "bin.features")
    assert isinstance(features, BinFeatures)
    assert features.labels == ("f1", "f2")
    assert ((features.counts == 0) | (features.counts >= 10)).all()
    transcript.records.clear()
    binner.stability(frame.take(np.arange(60)))
    (counts,) = (r.message for r in transcript.records if r.message.kind == "bin.counts")
    assert (counts.counts < 0).any()
    shown = counts.counts[counts.counts > 0]
    assert (shown >= 10).all()
    assert ((counts.small == 0) | (counts.small >= 10)).all()


def test_a_label_holder_that_keeps_weights_sends_none(monkeypatch):
    _, frame, _, transcript = record(monkeypatch, steps=())
    before = len(transcript.records)
    binner = VerticalBinner(release_woe=False).fit(frame, y="defaulted")
    with pytest.raises(fc.errors.PolicyError, match="keeps its weights"):
        binner.publish()
    assert "bin.woe" not in {r.message.kind for r in transcript.records[before:]}
    assert encode(transcript.records[0].message).size == transcript.records[0].data.size
