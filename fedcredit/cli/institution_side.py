"""What the institution's commands share: the connection and the reading of tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedcredit.cli.service import require_role, warn_of_expiry
from fedcredit.errors import ConfigError
from fedcredit.node.config import load_config

if TYPE_CHECKING:
    from fedcredit.models.scoring.institution import Institution

__all__ = ["consent_text", "open_institution"]

_MAX_TOKEN = 16_384


@contextlib.contextmanager
def open_institution(config: Path) -> Iterator[Institution]:
    """Connect as the institution of a configuration file; disconnect at the end."""
    settings = load_config(config)
    require_role(settings, "institution")
    from fedcredit.node.connect import institution_of

    warn_of_expiry(settings)
    with institution_of(settings) as institution:
        yield institution


def consent_text(given: str, *, beside: Path | None = None) -> str:
    """Return a token that was given as itself or as the path of a file that holds it.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    if (given.count(".") == 2 and "/" not in given) or given.startswith("sha256:"):
        return given
    path = Path(given) if beside is None else beside.parent / given
    try:
        return path.read_text("ascii").strip()[:_MAX_TOKEN]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the consent {path} cannot be read ({type(error).__name__}).",
            step="score",
            fix="give a token or the path of a file that holds one",
        ) from None
