"""``fedcredit registry``: the public keys of enterprises and institutions at one party."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.errors import InputError, KeyMaterialError, StorageError
from fedcredit.node.config import load_config

if TYPE_CHECKING:
    import sqlalchemy as sa

    from fedcredit.governance.keys import KeyRegistry

__all__ = ["Node", "day", "open_node", "read_public_key", "registry"]

_DAY = 86_400
_CONFIG = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


class Node:
    """A party's governance database, opened by its own operator.

    Parameters
    ----------
    path : Path
        The party's configuration file.
    must_exist : bool
        See :func:`fedcredit.node.governing.open_ledger`.
    """

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        from fedcredit.governance.consent import ConsentBook
        from fedcredit.governance.keys import KeyRegistry
        from fedcredit.node.governing import open_ledger

        self._config = load_config(path)
        self.party = self._config.party
        self.ledger = open_ledger(self._config, must_exist=must_exist)
        self.keys = KeyRegistry(self.ledger, self.party)
        self.consents = ConsentBook(self.keys, self.party)

    @contextlib.contextmanager
    def change(
        self, kind: str, facts: Mapping[str, Any], now: float
    ) -> Iterator[tuple[sa.Connection, list[str]]]:
        """Change something in one transaction with its entry in the audit log.

        Gives the transaction and a list to which the subjects concerned are added.
        """
        from fedcredit.node.governing import open_log

        log = open_log(self._config, self.ledger)
        subjects: list[str] = []
        with self.ledger.transaction() as tx:
            yield tx, subjects
            facts = {**facts, "outcome": "accepted", "by": "operator"}
            log.append(tx, kind, facts, subjects=subjects, now=now)


@contextlib.contextmanager
def open_node(path: Path, *, must_exist: bool = False) -> Iterator[Node]:
    """Open a party's governance database; to read it, ``must_exist``."""
    node = Node(path, must_exist=must_exist)
    try:
        yield node
    finally:
        node.ledger.close()


def read_public_key(path: Path) -> bytes:
    """Read an Ed25519 public key from a PEM file: a public key or a certificate.

    Raises
    ------
    StorageError
        The file cannot be read.
    InputError
        It holds something else, or a key that nobody should rely on.
    """
    from fedcredit.governance.keys import check_public_key

    try:
        data = path.read_bytes()
        if b"-----BEGIN CERTIFICATE-----" in data:
            key: object = x509.load_pem_x509_certificate(data).public_key()
        else:
            key = serialization.load_pem_public_key(data)
        if not isinstance(key, Ed25519PublicKey):
            raise InputError("the public key is of another kind than Ed25519.", step="keys")
        return check_public_key(key.public_bytes_raw())
    except OSError as error:
        raise StorageError(f"the file cannot be read ({error.strerror}).", step="keys") from None
    except KeyMaterialError as error:
        raise InputError(error.reason, step="keys", fix=error.fix) from None
    except InputError:
        raise
    except ValueError:
        raise InputError(
            "the file holds no public key.",
            step="keys",
            fix="give the .pub.pem file that `fedcredit consent keygen` wrote, or a certificate",
        ) from None


def day(seconds: float | None) -> str:
    """Return a time as a day of UTC, or a dash."""
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


@click.group()
def registry() -> None:
    """Enter, rotate and revoke the keys that sign consents."""


@registry.command(
    epilog="""\b
Examples:
  fedcredit registry add tax.toml --subject 91440300MA5EXAMPL3 --key enterprise.pub.pem
  fedcredit registry add tax.toml --institution bank --key bank/signing.pem

Enter a key only after making sure whose it is. From then on, what it signs counts."""
)
@click.argument("config", type=_CONFIG)
@click.option("--subject", metavar="USCC", help="The enterprise whose key it is.")
@click.option("--institution", metavar="NAME", help="The institution whose key it is.")
@click.option("--key", required=True, type=_FILE, help="Public key or certificate, PEM.")
@click.option("--valid-days", type=click.IntRange(1), help="Until when; default: no end.")
@json_option
def add(
    config: Path,
    subject: str | None,
    institution: str | None,
    key: Path,
    valid_days: int | None,
    as_json: bool,
) -> None:
    """Enter a public key."""
    if (subject is None) == (institution is None):
        raise click.UsageError("Give either --subject or --institution.")
    public, now = read_public_key(key), time.time()
    end = None if valid_days is None else now + valid_days * _DAY
    with open_node(config) as node, node.change("key", {"change": "added"}, now) as (tx, subjects):
        if subject is not None:
            kid = node.keys.add("subject", subject, public, now, valid_to=end, tx=tx)
        else:
            kid = node.keys.add("institution", str(institution), public, now, valid_to=end, tx=tx)
        subjects += _subjects(node.keys, kid, tx)
    _say(kid, f"{kid} is entered", as_json)


@registry.command(
    "list",
    epilog="""\b
Examples:
  fedcredit registry list tax.toml
  fedcredit registry list tax.toml --subject 91440300MA5EXAMPL3 --json""",
)
@click.argument("config", type=_CONFIG)
@click.option("--subject", metavar="USCC", help="Only this enterprise's.")
@click.option("--institution", metavar="NAME", help="Only this institution's.")
@json_option
def list_keys(config: Path, subject: str | None, institution: str | None, as_json: bool) -> None:
    """List the keys."""
    with open_node(config, must_exist=True) as node:
        keys = node.keys.list(owner=subject or institution)
    if as_json:
        fields = ("kid", "owner_kind", "owner", "status", "valid_from", "valid_to", "added")
        print_json([{name: getattr(key, name) for name in fields} for key in keys])
        return
    rows = [
        (key.owner_kind, key.owner, key.status, day(key.valid_from), day(key.valid_to), key.kid)
        for key in keys
    ]
    print_table("Keys", ["kind", "owner", "status", "from", "to", "key"], rows)


@registry.command(
    epilog="""\b
Example:
  fedcredit registry rotate tax.toml zpIeXzzcRTGf5dQ9RSq1HIWWuWRLO4XuYmE8jzGJcjg --key new.pub.pem

Within the grace period, tokens of the old key may still be presented for the first time. Consents
that are registered by then stay valid. A key that may be in wrong hands is revoked instead."""
)
@click.argument("config", type=_CONFIG)
@click.argument("kid")
@click.option("--key", required=True, type=_FILE, help="The new public key, PEM.")
@click.option("--grace-days", default=30, show_default=True, type=click.IntRange(0, 400))
@json_option
def rotate(config: Path, kid: str, key: Path, grace_days: int, as_json: bool) -> None:
    """Replace the key KID by a new one of the same owner."""
    public, now = read_public_key(key), time.time()
    facts = {"change": "rotated", "key": kid[:64]}
    with open_node(config) as node, node.change("key", facts, now) as (tx, subjects):
        new = node.keys.rotate(kid, public, now, grace=grace_days * _DAY, tx=tx)
        subjects += _subjects(node.keys, new, tx)
    _say(new, f"{new} replaces {kid}", as_json)


@registry.command(
    epilog="""\b
Example:
  fedcredit registry revoke tax.toml zpIeXzzcRTGf5dQ9RSq1HIWWuWRLO4XuYmE8jzGJcjg

Nothing counts any more that the key ever signed. This cannot be undone."""
)
@click.argument("config", type=_CONFIG)
@click.argument("kid")
@json_option
def revoke(config: Path, kid: str, as_json: bool) -> None:
    """Revoke the key KID."""
    now, facts = time.time(), {"change": "revoked", "key": kid[:64]}
    with open_node(config) as node, node.change("key", facts, now) as (tx, subjects):
        node.keys.revoke(kid, now, tx=tx)
        subjects += _subjects(node.keys, kid, tx)
    _say(kid, f"{kid} is revoked", as_json)


def _subjects(keys: KeyRegistry, kid: str, tx: sa.Connection) -> list[str]:
    found = keys.find(kid, tx)
    return [found.owner] if found is not None and found.owner_kind == "subject" else []


def _say(kid: str, text: str, as_json: bool) -> None:
    if as_json:
        print_json({"key": kid})
    else:
        click.echo(text)
