"""How failures end a command: one line on standard error and an exit code."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import click

from fedcredit.errors import (
    AuthenticationError,
    ConfigError,
    FedCreditError,
    InputError,
    PeerUnavailable,
    ProtocolError,
    StorageError,
)

__all__ = ["exit_code", "report_failures"]

INTERRUPTED = 130
_CODES: tuple[tuple[type[FedCreditError], int], ...] = (
    (ConfigError, 2),
    (InputError, 2),
    (StorageError, 2),
    (ProtocolError, 3),
    (PeerUnavailable, 4),
    (AuthenticationError, 5),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code of a failure: 2 input, 3 refused, 4 away, 5 authentication, 1 other."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


@contextlib.contextmanager
def report_failures(ctx: click.Context, *, debug: bool) -> Iterator[None]:
    """Turn a failure within the block into a line and an exit code.

    Parameters
    ----------
    ctx : click.Context
    debug : bool
        Show the traceback too.
    """
    try:
        yield
    except FedCreditError as error:
        _end(ctx, error, str(error), exit_code(error), debug)
    except KeyboardInterrupt as error:
        _end(ctx, error, "interrupted", INTERRUPTED, debug)
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise  # click ends quietly when nobody reads the output any more
    except Exception as error:
        # The text of an unexpected error may quote data: only its type is shown by default.
        text = f"an internal error ({type(error).__name__}); `fedcredit --debug ...` shows where"
        _end(ctx, error, text, 1, debug)


def _end(ctx: click.Context, error: BaseException, text: str, code: int, debug: bool) -> None:
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo(f"{click.style('error:', fg='red', bold=True)} {text}", err=True)
    ctx.exit(code)
