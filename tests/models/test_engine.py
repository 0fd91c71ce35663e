"""A provider's engine refuses jobs that do not fit its alignment, its models or its limits."""

import dataclasses

import numpy as np
import pytest

from fedcredit import errors
from fedcredit.governance.catalog import Catalog
from fedcredit.models.engine import ProviderEngine
from fedcredit.protocols.gbdt_messages import Features, PredictJob, TrainJob, TreeEnd
from fedcredit.wire import Peers, run_in_process
from tests.support.parties import LABEL, OPEN, classifier, federation, tables


@pytest.fixture(scope="module")
def frame():
    parts, _ = tables(n=60)
    return federation({name: parts[name] for name in ("platform", "tax")}).align(on="id")


@pytest.fixture(scope="module")
def model(frame):
    return classifier(hide_membership=False).fit(frame, y=LABEL)


@pytest.fixture
def train(frame):
    return TrainJob(
        model_id="0123",
        frame_id=frame.frame_id,
        rows=np.arange(60, dtype=np.uint32),
        salt=bytes(32),
        n_trees=2,
        trees=0,
        max_depth=2,
        max_bins=32,
        hide_membership=True,
        columns=(),
        monotone=(),
        signs=(),
    )


@pytest.fixture
def predict(frame, model):
    return PredictJob(
        model_id=model.model_id_,
        frame_id=frame.frame_id,
        rows=np.arange(60, dtype=np.uint32),
        salt=bytes(32),
        trees=2,
        hide_membership=True,
    )


def ask(engine, message, reply=Features):
    """Send one message to the engine; return its answer, or raise its refusal."""

    async def platform(peers):
        await peers["tax"].send(message)
        answers.append(await peers["tax"].recv(reply))
        raise Answered

    class Answered(Exception):
        pass

    answers = []
    roles = {
        "platform": platform(Peers(["tax"])),
        "tax": engine.serve(Peers(["platform"]), "platform"),
    }
    try:
        run_in_process(roles)
    except Answered:
        return answers[0]
    raise AssertionError("the engine neither answered nor refused")


def test_a_proper_job_is_answered(frame, train):
    features = ask(frame.federation.engines["tax"], train)
    assert features.labels == ("paid", "growth", "sector")
    chosen = dataclasses.replace(train, columns=("sector", "paid"), monotone=("paid",), signs=(-1,))
    features = ask(frame.federation.engines["tax"], chosen)
    assert features.labels == ("paid", "sector")
    assert features.monotone.tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"frame_id": "other"}, errors.ProtocolError, "alignment is not known"),
        ({"rows": np.array([], np.uint32)}, errors.ProtocolError, "strictly ascending"),
        ({"rows": np.array([3, 3], np.uint32)}, errors.ProtocolError, "strictly ascending"),
        ({"rows": np.array([3, 1], np.uint32)}, errors.ProtocolError, "strictly ascending"),
        ({"rows": np.array([0, 60], np.uint32)}, errors.ProtocolError, "outside the alignment"),
        ({"rows": np.array([2**32 - 1], np.uint32)}, errors.ProtocolError, "outside the align"),
        ({"n_trees": 1001}, errors.PolicyError, "at most 1000 trees"),
        ({"max_depth": 9}, errors.ProtocolError, "out of range"),
        ({"max_depth": 0}, errors.ProtocolError, "out of range"),
        ({"max_bins": 1}, errors.ProtocolError, "out of range"),
        ({"max_bins": 70_000}, errors.ProtocolError, "out of range"),
        ({"columns": ("salary",)}, errors.InputError, "unknown features: salary"),
        ({"monotone": ("salary",), "signs": (1,)}, errors.InputError, "unknown features"),
        ({"monotone": ("paid",), "signs": ()}, errors.ProtocolError, "malformed"),
        ({"monotone": ("paid",), "signs": (3,)}, errors.ProtocolError, "malformed"),
    ],
    ids=str,
)
def test_training_jobs_that_are_refused(frame, train, change, kind, reason):
    with pytest.raises(kind, match=reason) as caught:
        ask(frame.federation.engines["tax"], dataclasses.replace(train, **change))
    assert caught.value.party == "tax"
    assert caught.value.step


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_id": "other"}, "model is not known"),
        ({"frame_id": "other"}, "alignment is not known"),
        ({"rows": np.array([5, 4], np.uint32)}, "strictly ascending"),
        ({"rows": np.array([60], np.uint32)}, "outside the alignment"),
    ],
    ids=str,
)
def test_scoring_jobs_that_are_refused(frame, predict, change, reason):
    with pytest.raises(errors.ProtocolError, match=reason) as caught:
        ask(frame.federation.engines["tax"], dataclasses.replace(predict, **change))
    assert caught.value.party == "tax"
    assert caught.value.step


def test_a_message_that_is_no_job(frame):
    with pytest.raises(errors.PeerProtocolError) as caught:
        ask(frame.federation.engines["tax"], TreeEnd(0))
    assert caught.value.party == "tax"


def test_a_table_that_lost_rows_since_the_alignment(frame, train):
    engine = frame.federation.engines["tax"]
    shorter = ProviderEngine(
        "tax",
        engine._table.frame.iloc[:30],
        catalog=engine.catalog,
        store=engine.store,
        policy=OPEN,
    )
    with pytest.raises(errors.ProtocolError, match="fewer rows") as caught:
        ask(shorter, train)
    assert caught.value.fix == "align again"


def test_a_provider_offers_the_columns_it_chose(train, frame):
    engine = frame.federation.engines["tax"]
    table, store = engine._table.frame, engine.store
    few = ProviderEngine(
        "tax",
        table,
        catalog=engine.catalog,
        store=store,
        policy=OPEN,
        features=["sector", "paid"],
    )
    assert ask(few, train).labels == ("paid", "sector")
    for option in ({"features": ["salary"]}, {"categorical": ["salary"]}):
        with pytest.raises(errors.InputError, match="salary") as caught:
            ProviderEngine("tax", table, catalog=engine.catalog, **option)
        assert caught.value.party == "tax"


def test_another_id_column_and_kind(frame):
    """A provider that is configured with its own id column uses it."""
    fed = frame.federation
    renamed = fed.engines["tax"]._table.frame.rename(columns={"id": "code"})
    catalog = Catalog.open_for(renamed, provider="tax", key="code")
    engine = ProviderEngine(
        "tax", renamed, catalog=catalog, policy=OPEN, id_column="code", id_kind="text"
    )
    fed.backend._servers["tax"], kept = engine, fed.backend._servers["tax"]
    try:
        other = fed.align(on="id")
    finally:
        fed.backend._servers["tax"] = kept
    assert sorted(other.ids) == sorted(frame.ids)
    assert other.labels == {"tax": ("paid", "growth", "sector")}
