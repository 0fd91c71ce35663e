"""Models at rest: round trips, what is refused, and what each party's store holds."""

import json

import numpy as np
import pytest

import fedcredit as fc
from fedcredit import errors
from fedcredit.models.load import load_model
from fedcredit.models.shares import StoredForest
from tests.support.parties import (
    LABEL,
    OPEN,
    assert_helpful,
    classifier,
    federation,
    regressor,
    tables,
)


def numbers(value):
    """Every number in a JSON value, however deep."""
    if isinstance(value, dict):
        return {n for item in value.values() for n in numbers(item)}
    if isinstance(value, list):
        return {n for item in value for n in numbers(item)}
    return {float(value)} if isinstance(value, int | float) else set()


@pytest.fixture(scope="module")
def frame():
    parts, pooled = tables()
    town = np.where(pooled[LABEL] == 1, "Nordstadt", "Suedheim")
    parts["tax"] = parts["tax"].merge(pooled[["id"]].assign(town=town), on="id")
    parts["platform"]["district"] = np.where(parts["platform"][LABEL] == 1, "Ost", "West")
    return federation(parts).align(on="id")


@pytest.fixture(scope="module")
def model(frame):
    return classifier(hide_membership=False, colsample_bytree=0.6, n_estimators=4).fit(
        frame, y=LABEL
    )


@pytest.fixture
def path(tmp_path, model):
    model.save(tmp_path / "model.fc")
    return tmp_path / "model.fc"


def test_round_trip(frame, model, path):
    twin = fc.VerticalGBDTClassifier.load(path, frame.federation)
    assert twin.fingerprint() == model.fingerprint()
    for name, value in model.get_params().items():
        # What was a tuple comes back as a list.
        assert twin.get_params()[name] == (list(value) if isinstance(value, tuple) else value)
    np.testing.assert_array_equal(twin.predict_proba(frame), model.predict_proba(frame))
    np.testing.assert_array_equal(twin.predict(frame), model.predict(frame))
    assert twin.classes_.dtype == model.classes_.dtype
    assert twin.importance().equals(model.importance())
    assert (twin.model_id_, twin.n_features_in_, twin.target_) == (
        model.model_id_,
        model.n_features_in_,
        LABEL,
    )
    same = load_model(path.read_bytes(), frame.federation)
    assert same.fingerprint() == model.fingerprint()


def test_a_model_can_be_scored_without_naming_the_federation(frame, model, path):
    twin = fc.VerticalGBDTClassifier.load(str(path))
    np.testing.assert_array_equal(twin.predict_proba(frame), model.predict_proba(frame))


@pytest.mark.parametrize("labels", [("good", "bad"), (False, True), (3, 7), (0.0, 1.0)])
def test_classes_keep_their_type(labels, tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 2))
    model = classifier().fit(X, np.array(labels)[(X[:, 0] > 0).astype(int)])
    model.save(tmp_path / "m")
    twin = fc.VerticalGBDTClassifier.load(tmp_path / "m")
    assert twin.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))


def test_regressor_of_one_table_with_names(tmp_path):
    _, pooled = tables()
    X = pooled[["age", "debt"]]
    model = regressor().fit(X, pooled["amount"])
    model.save(tmp_path / "m")
    twin = fc.VerticalGBDTRegressor.load(tmp_path / "m")
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="feature names"):
        twin.predict(X.rename(columns={"age": "years"}))


def refused(source, kind=errors.InputError, load=fc.VerticalGBDTClassifier.load):
    with pytest.raises(kind) as caught:
        load(source)
    assert caught.value.step == "load model"
    assert_helpful(caught.value)


def test_truncated_files_are_refused(path):
    data = path.read_bytes()
    for size in (0, 1, 100, len(data) // 2, len(data) - 1):
        refused(data[:size])


def test_garbage_is_refused(path):
    refused(b"")
    refused(b"not a model" * 100)
    refused(b"\x80\x04\x95" + bytes(200))
    refused(bytes(10_000))


def test_models_of_another_class_are_refused(path):
    refused(path, load=fc.VerticalGBDTRegressor.load)


def test_other_messages_are_refused(frame):
    order = frame.federation.store.get("alignment", frame.frame_id)
    refused(order)


def test_files_that_cannot_be_opened(tmp_path, model):
    refused(tmp_path / "nothing", errors.StorageError)
    refused(tmp_path, errors.StorageError)
    with pytest.raises(errors.StorageError) as caught:
        model.save(tmp_path / "no" / "folder")
    assert_helpful(caught.value)


def forged(path, change):
    stored = StoredForest.read(path.read_bytes())
    header = json.loads(stored.header)
    change(header)
    return StoredForest(json.dumps(header), stored.score, stored.best_score).to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.pop("trees"),
        lambda h: h.pop("extra"),
        lambda h: h["extra"].pop("own"),
        lambda h: h["extra"].update(arguments={"nonsense": 1}),
        lambda h: h["extra"].update(arguments={"n_estimators": "x"}),
        lambda h: h["extra"].update(arguments=None),
        lambda h: h["extra"].update(classes_type="no type"),
        lambda h: h["extra"]["own"]["bins"][0].update(edges=["a"]),
        lambda h: h.update(init_score="high"),
        lambda h: h["trees"].append({}),
        lambda h: h["pooled"]["infos"].append([1, 2]),
        lambda h: h["pooled"].update(infos=None),
        lambda h: h["split_numbers"].pop(),
        lambda h: h["trees"].pop(),
    ],
)
def test_damaged_headers_are_refused(path, change):
    refused(forged(path, change))


def test_a_header_that_is_no_json(path):
    stored = StoredForest.read(path.read_bytes())
    for header in ("", "{", "[]", "null", "1", "[" * 100_000):
        refused(StoredForest(header, stored.score, stored.best_score).to_bytes())


class TestWhatIsStored:
    """A party's store holds its own share of the model and nothing of another party's."""

    def records(self, frame, model):
        engines = frame.federation.engines
        return {
            name: json.loads(engine.store.get("model", model.model_id_))
            for name, engine in engines.items()
        }

    def test_a_provider_keeps_its_splits_only(self, frame, model):
        leaves = {v for tree in model.state_.trees for v in tree.value if v}
        gains = {g for tree in model.state_.trees for g in tree.gain if g}
        for name, record in self.records(frame, model).items():
            assert set(record) == {"job", "coders", "bins", "share"}
            assert set(record["share"]) == {"n_trees", "trees", "splits"}
            for split in record["share"]["splits"]:
                assert set(split) == {
                    "feature",
                    "threshold_bin",
                    "left_bins",
                    "default_left",
                    "missing_bin",
                }
            splits = model.importance().query("party == @name")["splits"].sum()
            assert len(record["share"]["splits"]) == splits
            assert numbers(record).isdisjoint(leaves | gains)
            own = set(frame.federation.engines[name]._table.frame.columns)
            assert {coder["name"] for coder in record["coders"]} == own - {"id"}
            text = json.dumps(record)
            assert not [word for word in (LABEL, "debt", "Ost", "West") if f'"{word}"' in text]

    def test_the_platform_keeps_no_cut_point_or_category_of_a_provider(self, frame, model, path):
        header = StoredForest.read(path.read_bytes()).header
        records = self.records(frame, model)
        assert "Nordstadt" in json.dumps(records["tax"])
        assert "Nordstadt" not in header
        assert "Ost" in header
        theirs = {
            edge
            for record in records.values()
            for bins in record["bins"]
            for edge in bins["edges"]
            # Half-way between three-digit values: no count or bin number looks like that.
            if round(edge * 2) != edge * 2
        }
        assert len(theirs) > 50
        own = {edge for bins in model.own_.bins for edge in bins.edges}
        assert numbers(json.loads(header)).isdisjoint(theirs - own)

    def test_the_platform_keeps_no_name_that_is_not_released(self, tmp_path):
        parts, _ = tables()
        hidden = type(OPEN)(min_intersection=1, min_bin_count=1)
        frame = federation(parts, policy=hidden).align(on="id")
        model = classifier(hide_membership=False).fit(frame, y=LABEL)
        store = frame.federation.store
        data = b"".join(
            store.get(kind, key)
            for kind in ("model", "frame", "alignment")
            for key in store.keys(kind)
        )
        assert b"debt" in data
        assert not [name for name in (b"growth", b"staff", b"arrears") if name in data]
        assert model.model_id_ in store.keys("model")

    def test_checkpoints_are_removed(self, frame, model):
        assert frame.federation.store.keys("checkpoint") == []
        assert model.model_id_ in frame.federation.store.keys("model")

    def test_ids_are_nowhere_in_the_stores(self, frame, model):
        some = frame.ids.iloc[0].encode()
        for store in (
            frame.federation.store,
            *(engine.store for engine in frame.federation.engines.values()),
        ):
            for kind in ("model", "frame", "alignment"):
                assert all(some not in store.get(kind, key) for key in store.keys(kind))
