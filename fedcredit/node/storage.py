"""A party's private directory: one file per entry, replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from fedcredit.errors import InputError, StorageError

__all__ = ["DirectoryStore", "exclusive"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,199}")
_TEMPORARY = ".new-"
#: Between making a temporary file and locking it, its writer needs far less.
_SECONDS_TO_ABANDON = 60.0


class DirectoryStore:
    """Implements :class:`fedcredit.models.store.Store` on a directory.

    An entry is ``<directory>/<kind>/<key>``, mode 0600. A put writes a temporary file, forces
    it to the disk and renames it, so that a crash leaves the old entry or the new one.

    An error of the store may end a session and then travels to the peers: it names the kind of
    the entry; where the directory is stands in this party's log only.

    Parameters
    ----------
    directory : Path
        Made with mode 0700 if it is not there.
    party : str
        Names the owner in errors.

    Raises
    ------
    StorageError
        The directory cannot be made or written.
    """

    def __init__(self, directory: str | Path, *, party: str | None = None) -> None:
        self._root = Path(directory)
        self._party = party
        with self._errors("open"):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            # What a crash left behind half-written; entries themselves are always whole.
            for path in self._root.glob(f"*/{_TEMPORARY}*"):
                if _is_abandoned(path):
                    path.unlink(missing_ok=True)
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise self._error("open", None, "it is not writable")

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Write or replace an entry.

        Raises
        ------
        InputError
            ``kind`` or ``key`` is not ``[a-z0-9._-]+``.
        StorageError
            The disk is full or refuses.
        """
        target = self._path(kind, key)
        temporary = target.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        with self._errors("write", kind):
            target.parent.mkdir(exist_ok=True, mode=0o700)
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    # Says that a writer lives, to another process that tidies up.
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_directory(target.parent)

    def get(self, kind: str, key: str) -> bytes | None:
        """Return an entry, or None; errors as in :meth:`put`."""
        with self._errors("read", kind):
            try:
                return self._path(kind, key).read_bytes()
            except FileNotFoundError:
                return None

    def delete(self, kind: str, key: str) -> None:
        """Remove an entry if it is there; errors as in :meth:`put`."""
        path = self._path(kind, key)
        with self._errors("delete", kind), contextlib.suppress(FileNotFoundError):
            path.unlink()
            _sync_directory(path.parent)

    def keys(self, kind: str) -> list[str]:
        """Return the keys of a kind, sorted; errors as in :meth:`put`."""
        directory = self._path(kind, "-").parent
        with self._errors("list", kind):
            try:
                return sorted(p.name for p in directory.iterdir() if _NAME.fullmatch(p.name))
            except FileNotFoundError:
                return []

    def _path(self, kind: str, key: str) -> Path:
        for name in (kind, key):
            if not isinstance(name, str) or _NAME.fullmatch(name) is None:
                raise InputError(
                    "a storage key may hold a-z, 0-9, '.', '_' and '-' and not start with a dot.",
                    party=self._party,
                    step="storage",
                )
        return self._root / kind / key

    @contextlib.contextmanager
    def _errors(self, step: str, kind: str | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if full else (error.strerror or "input/output error")
            raise self._error(step, kind, reason) from error

    def _error(self, step: str, kind: str | None, reason: str) -> StorageError:
        log.error("the storage directory %s failed (%s): %s", self._root, step, reason)
        what = f" for a file of kind {kind!r}" if kind is not None else ""
        return StorageError(
            f"the storage directory failed{what}: {reason}.",
            party=self._party,
            step=f"storage: {step}",
            fix="free space at the directory in [storage] directory or correct its permissions, "
            "then start again",
        )

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self._root)!r})"


def _is_abandoned(path: Path) -> bool:
    """Whether a temporary file is over a minute old and no process writes it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(descriptor).st_mtime > _SECONDS_TO_ABANDON
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(directory: Path, *, party: str) -> Iterator[None]:
    """Hold a party's directory for this process; a second process is refused.

    The lock ends with the process, however it ends. No session is open yet: unlike the store's,
    these errors never leave the machine, and name the directory.

    Raises
    ------
    StorageError
        Another process holds it, or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(
            f"the storage directory {directory} failed: {error.strerror}.",
            party=party,
            step="storage: open",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(
                f"another process uses the storage directory {directory}.",
                party=party,
                step="storage: open",
                fix="run one serving process per party",
            ) from None
        yield
    finally:
        os.close(descriptor)
