"""The storage directory: whole entries only, private, and clear about failures."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from fedcredit.errors import InputError, StorageError
from fedcredit.node.storage import DirectoryStore
from fedcredit.wire import Abort


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "state", party="tax")


def test_entries_come_back_and_survive_reopening(store: DirectoryStore, tmp_path: Path):
    assert store.get("model", "a") is None
    assert store.keys("model") == []
    store.put("model", "b.1", b"two")
    store.put("model", "a", b"one")
    store.put("model", "a", b"\x00" * 100_000)
    again = DirectoryStore(tmp_path / "state")
    assert again.get("model", "a") == b"\x00" * 100_000
    assert again.keys("model") == ["a", "b.1"]
    again.delete("model", "a")
    again.delete("model", "a")
    again.delete("other", "a")
    assert store.keys("model") == ["b.1"]
    assert (tmp_path / "state" / "model" / "b.1").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("key", ["", "..", ".", "a/b", "/etc", "A", ".new-1", "a\n", "x" * 201, 3])
def test_keys_that_could_leave_the_directory_are_refused(store: DirectoryStore, key):
    for call in (
        lambda: store.put("model", key, b""),
        lambda: store.put(key, "a", b""),
        lambda: store.get("model", key),
        lambda: store.delete("model", key),
    ):
        with pytest.raises(InputError, match="storage key"):
            call()


def test_a_full_disk_leaves_the_old_entry(store: DirectoryStore, tmp_path: Path, monkeypatch):
    store.put("model", "a", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fedcredit.node.storage.os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        store.put("model", "a", b"new")
    assert (caught.value.party, caught.value.step) == ("tax", "storage: write")
    monkeypatch.undo()
    assert store.get("model", "a") == b"old"
    assert os.listdir(tmp_path / "state" / "model") == ["a"]


def test_what_a_crash_left_half_written_is_removed(store: DirectoryStore, tmp_path: Path):
    store.put("model", "a", b"whole")
    half = tmp_path / "state" / "model" / ".new-0011"
    half.write_bytes(b"ha")
    hour_ago = time.time() - 3600
    os.utime(half, (hour_ago, hour_ago))
    again = DirectoryStore(tmp_path / "state")
    assert again.keys("model") == ["a"]
    assert os.listdir(tmp_path / "state" / "model") == ["a"]


def test_what_another_process_writes_is_left_alone(store: DirectoryStore, tmp_path: Path):
    store.put("model", "a", b"whole")
    young, held = (tmp_path / "state" / "model" / f".new-00{n}" for n in (22, 33))
    hour_ago = time.time() - 3600
    young.write_bytes(b"he")
    with held.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        os.utime(held, (hour_ago, hour_ago))
        DirectoryStore(tmp_path / "state")
        assert young.exists()
        assert held.exists()
    DirectoryStore(tmp_path / "state")
    assert not held.exists()


def test_a_directory_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="storage directory failed: Not a directory"):
        DirectoryStore(tmp_path / "file" / "state")


def test_where_the_directory_is_stays_in_the_local_log(store: DirectoryStore, tmp_path, caplog):
    (tmp_path / "state" / "model").write_text("in the way")
    calls = {
        "write": lambda: store.put("model", "a", b""),
        "read": lambda: store.get("model", "a"),
        "delete": lambda: store.delete("model", "a"),
        "list": lambda: store.keys("model"),
        "open": lambda: DirectoryStore(tmp_path / "state" / "model", party="tax"),
    }
    for step, call in calls.items():
        caplog.clear()
        with pytest.raises(StorageError) as caught:
            call()
        abort = Abort.of(caught.value, party="tax")
        told = " ".join((abort.reason, abort.step, abort.fix, str(caught.value)))
        assert f"storage: {step}" in told
        assert "[storage] directory" in told
        assert ("'model'" in told) == (step != "open")
        assert "/" not in told
        assert str(tmp_path / "state") in caplog.text
