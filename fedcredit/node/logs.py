"""Log lines on standard error or in a file, for people or as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from fedcredit.errors import ConfigError
from fedcredit.node.config import LoggingConfig

__all__ = ["JsonFormatter", "setup_logging"]

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and where an error arose."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def setup_logging(config: LoggingConfig) -> None:
    """Send the package's log lines where ``config`` says; replaces what was set up before.

    Raises
    ------
    ConfigError
        The log file cannot be written.
    """
    handler: logging.Handler
    if config.file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        try:
            config.file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(config.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            handler = logging.FileHandler(config.file, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"the log file {config.file} cannot be written ({error.strerror}).",
                step="set up logging",
                fix="correct [logging] file",
            ) from None
    handler.setFormatter(JsonFormatter() if config.json else logging.Formatter(_TEXT))
    logger = logging.getLogger("fedcredit")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(config.level)
    logger.propagate = False
