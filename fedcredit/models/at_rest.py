"""Files and messages in which estimators rest: Arrow messages, no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from fedcredit.errors import InputError, PeerProtocolError, StorageError
from fedcredit.wire import Message, decode, encode

__all__ = [
    "AtRest",
    "check_class",
    "describe",
    "json_able",
    "read_bytes",
    "reading_model",
    "restore",
    "write_bytes",
]


class AtRest:
    """Reading and writing of a stored :class:`~fedcredit.wire.Message`; mixed into its class."""

    #: What the message is, with its article, for errors.
    _holds: ClassVar[str]
    _step: ClassVar[str] = "load model"

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Decode.

        Raises
        ------
        InputError
            The bytes are something else.
        """
        try:
            stored = decode(data)
        except PeerProtocolError as error:
            raise InputError(
                f"the file cannot be read: {error.reason}",
                step=cls._step,
                fix="load a file that this release of fedcredit has saved",
            ) from None
        if not isinstance(stored, cls):
            raise InputError(
                f"the file holds something other than {cls._holds}.",
                step=cls._step,
                fix=f"load a file in which {cls._holds} was saved",
            )
        return stored

    def to_bytes(self) -> bytes:
        """Encode."""
        assert isinstance(self, Message)
        data: bytes = encode(self).to_pybytes()
        return data


def read_bytes(source: str | Path | bytes, *, step: str) -> bytes:
    """Return what a file holds; bytes stand for themselves.

    Raises
    ------
    StorageError
        The file cannot be read.
    """
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise _unusable(error, step) from None


def write_bytes(path: str | Path, data: bytes, *, step: str) -> None:
    """Write or replace a file.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise _unusable(error, step) from None


def _unusable(error: OSError, step: str) -> StorageError:
    return StorageError(
        f"the file cannot be used ({error.strerror}).",
        step=step,
        fix="check the path and its permissions",
    )


def describe(estimator: Any) -> dict[str, Any]:
    """Return what every stored estimator says of itself: its class, and what it was fitted to."""
    classes = np.asarray(getattr(estimator, "classes_", []))
    return {
        "estimator": type(estimator).__name__,
        "classes": classes.tolist(),
        "classes_type": "object" if classes.dtype.hasobject else classes.dtype.str,
        "n_features_in": getattr(estimator, "n_features_in_", None),
        "feature_names_in": list(getattr(estimator, "feature_names_in_", [])),
    }


def restore(estimator: Any, described: Mapping[str, Any]) -> None:
    """Set what :func:`describe` returned, all but the class; within :func:`reading_model`."""
    if described["classes"]:
        kind = np.dtype(described["classes_type"])
        estimator.classes_ = np.array(described["classes"], kind)
    if described["n_features_in"] is not None:
        estimator.n_features_in_ = int(described["n_features_in"])
    if described["feature_names_in"]:
        estimator.feature_names_in_ = np.array(described["feature_names_in"], object)


def check_class(kind: type[Any], name: Any, *, step: str) -> None:
    """Check that a class saved the file that it is to load.

    Raises
    ------
    InputError
        Another one did.
    """
    if name != kind.__name__:
        raise InputError(
            f"the file holds no {kind.__name__}.",
            step=step,
            fix="load it with the class that saved it",
        )


def json_able(value: Any) -> Any:
    """Return an estimator's argument as plain JSON values; a random generator becomes None."""
    if isinstance(value, Mapping):
        return {str(name): json_able(item) for name, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return None
    return [json_able(item) for item in value]


@contextmanager
def reading_model() -> Iterator[None]:
    """Refuse a model whose parts do not fit together.

    Raises
    ------
    InputError
        Instead of whatever the block stumbled over.
    """
    try:
        yield
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError):
        raise InputError(
            "the model file is damaged or of another release.",
            step="load model",
            fix="load a file that this release of fedcredit has saved",
        ) from None
