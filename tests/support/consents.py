"""A party's consent book with enterprises whose keys it knows."""

import base64
import json
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.governance.consent import ConsentBook
from fedcredit.governance.enterprise import Enterprise
from fedcredit.governance.keys import KeyRegistry
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.tokens import thumbprint

NOW = 1_800_000_000.0
DAY = 86_400
BANK = "bank"
SCORE = "score:sme-card@1"


def uscc(number):
    return f"91440300MA5{number:07d}"


def enterprise(number=1):
    """The same enterprise with the same key every time."""
    key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
    return Enterprise(uscc(number), key)


def grant(who, **changes):
    settings = {"institution": BANK, "purpose": "credit_granting", "scope": [SCORE, "reasons"]}
    return who.grant(**(settings | {"now": NOW, "max_uses": 1} | changes))


class Book:
    """Ledger, registry and consent book of one party, and questions put to it."""

    def __init__(self, url="sqlite://", subjects=1, **settings):
        self.ledger = Ledger(url, party="tax")
        self.keys = KeyRegistry(self.ledger, "tax")
        self.book = ConsentBook(self.keys, "tax", **settings)
        self.enterprises = [enterprise(i + 1) for i in range(subjects)]
        with self.ledger.transaction() as tx:
            for one in self.enterprises:
                if self.keys.find(one.kid, tx) is None:
                    self.keys.add("subject", one.uscc, one.public_key, NOW - DAY, tx=tx)

    def question(self, *consents, now=NOW, request=None, **changes):
        asked = {"institution": BANK, "purpose": "credit_granting", "use": "score"} | {
            "target": "sme-card@1",
            "subjects": [one.uscc for one in self.enterprises[: len(consents)]],
            "consents": consents,
            "request": request or os.urandom(32),
            "now": now,
        }
        return asked | changes

    def ask(self, *consents, **changes):
        """Check and use consents in a transaction of its own."""
        asked = self.question(*consents, **changes)
        with self.ledger.transaction() as tx:
            checked = self.book.check(tx, **asked)
            self.book.consume(tx, checked, asked["now"])
        return checked

    def present(self, *tokens, now=NOW):
        with self.ledger.transaction() as tx:
            return ["sha256:" + one.hex() for one in self.book.present(tx, tokens, now)]

    def revoke(self, token, now=NOW):
        with self.ledger.transaction() as tx:
            return self.book.revoke(tx, token, now)

    def listing(self, now=NOW, **filters):
        with self.ledger.reading() as tx:
            return self.book.listing(tx, now, **filters)


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def dumps(value):
    return json.dumps(value, separators=(",", ":")).encode()


def forge(key, header, payload):
    """Sign any header and payload (objects, or JSON as bytes) without this package's code."""
    parts = [b64(part if isinstance(part, bytes) else dumps(part)) for part in (header, payload)]
    signed = ".".join(parts)
    return f"{signed}.{b64(key.sign(signed.encode()))}"


def taken_apart(token):
    """Header and claims of a token."""
    head, body, _ = token.split(".")
    return json.loads(unb64(head)), json.loads(unb64(body))


def key_of(number=1):
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def kid_of(key):
    return thumbprint(key.public_key().public_bytes_raw())
