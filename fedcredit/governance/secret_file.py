"""New files that only their owner may read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fedcredit.errors import StorageError

__all__ = ["unusable_file", "write_secret"]


def write_secret(path: str | Path, data: bytes, *, step: str) -> None:
    """Write a new file of mode 0600, durably; an existing one is never replaced.

    Raises
    ------
    StorageError
        The file is there already or cannot be written.
    """
    target = Path(path)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise unusable_file(error, step) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            target.unlink()
        raise unusable_file(error, step) from None


def unusable_file(error: OSError, step: str) -> StorageError:
    """Make the error for a file that cannot be read or written."""
    return StorageError(
        f"the file cannot be used ({error.strerror}).",
        step=step,
        fix="check the path and its permissions; a secret is never written over another file",
    )
