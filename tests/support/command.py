"""Commands of ``fedcredit``, run within this process."""

from __future__ import annotations

import logging

from click.testing import CliRunner, Result

from fedcredit.cli.main import cli


def invoke(*arguments: object, code: int = 0) -> Result:
    """Run a command to its end; its code is checked, and the loggers are as before."""
    logger = logging.getLogger("fedcredit")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        words = [str(argument) for argument in arguments]
        result = CliRunner().invoke(cli, words, prog_name="fedcredit")
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert result.exit_code == code, (result.stderr, result.exception)
    return result
