"""Log lines for people and for machines."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from fedcredit.errors import ConfigError
from fedcredit.node.config import LoggingConfig
from fedcredit.node.logs import setup_logging


@pytest.fixture
def restored():
    logger = logging.getLogger("fedcredit")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


def test_json_lines_in_a_private_file(tmp_path: Path, restored):
    path = tmp_path / "logs" / "tax.log"
    setup_logging(LoggingConfig("INFO", path, json=True))
    log = logging.getLogger("fedcredit.node.hub")
    log.debug("not this")
    log.info("%s connected", "tax")
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("broken")
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["level"], first["logger"], first["message"]) == (
        "INFO",
        "fedcredit.node.hub",
        "tax connected",
    )
    assert first["time"].endswith("+00:00")
    assert "ValueError" in second["error"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_text_lines_replace_an_earlier_set_up(tmp_path: Path, restored):
    setup_logging(LoggingConfig("INFO", tmp_path / "a.log"))
    setup_logging(LoggingConfig("DEBUG", tmp_path / "b.log"))
    logging.getLogger("fedcredit.x").debug("hello")
    assert (tmp_path / "a.log").read_text() == ""
    assert (tmp_path / "b.log").read_text().endswith(" DEBUG   fedcredit.x: hello\n")


def test_an_unwritable_file(tmp_path: Path, restored):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        setup_logging(LoggingConfig("INFO", tmp_path / "file" / "x.log"))
