"""Evidence of one entry: one JSON file that is verified offline, without any database.

::

    {"format": "fedcredit-evidence/1", "explanation": [...], "party": "tax", "time": 1764000000,
     "entry": "<the entry, canonical JSON as text>",
     "checkpoint": "<signed note>", "inclusion": ["<hex>", ...],
     "copies": [{"note": "<signed note>", "consistency": ["<hex>", ...]}, ...],
     "disclosure": {"subject", "consent", "position", "salt", "path"} | null,
     "documents": [{"name", "kind", "sha256", "content" | "base64"}, ...],
     "certificates": {"<party>": "<PEM>"}}

Trust comes from outside the file only: from the CA's certificate, or from public keys that the
reader already has.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.crypto import merkle
from fedcredit.errors import AuthenticationError, InputError
from fedcredit.governance.certificate import signing_key
from fedcredit.governance.checkpoint import (
    Checkpoint,
    cosigned_at,
    open_checkpoint,
    same_history,
    verify_cosignature,
)
from fedcredit.governance.checks import Check, Report
from fedcredit.governance.entries import Disclosure, Entry

__all__ = ["FORMAT", "Document", "make_bundle", "verify_bundle"]

FORMAT = "fedcredit-evidence/1"
_STEP = "evidence"
_CONSENT = "consent"
_MAX_BYTES = 64 << 20
_KEYS = {
    "format",
    "explanation",
    "party",
    "time",
    "entry",
    "checkpoint",
    "inclusion",
    "copies",
    "disclosure",
    "documents",
    "certificates",
}


@dataclass(frozen=True)
class Document:
    """A document that goes with the evidence.

    Attributes
    ----------
    name : str
    content : bytes
    kind : str
        ``"consent"`` (a compact token, checked against the disclosed enterprise's consent),
        ``"receipt"`` (must name the entry's request) or ``"other"``.
    """

    name: str
    content: bytes = field(repr=False)
    kind: str = "other"

    def to_dict(self) -> dict[str, str]:
        """Return the document as it stands in the bundle."""
        digest = hashlib.sha256(self.content).hexdigest()
        head = {"name": self.name, "kind": self.kind, "sha256": digest}
        try:
            return {**head, "content": self.content.decode()}
        except UnicodeDecodeError:
            return {**head, "base64": base64.b64encode(self.content).decode()}


def make_bundle(
    party: str,
    entry: Entry,
    checkpoint: Checkpoint,
    inclusion: Sequence[bytes],
    *,
    copies: Sequence[tuple[Checkpoint, Sequence[bytes]]] = (),
    disclosure: Disclosure | None = None,
    documents: Sequence[Document] = (),
    certificates: Mapping[str, str] | None = None,
    now: float,
) -> dict[str, Any]:
    """Put the evidence of an entry together.

    Parameters
    ----------
    party : str
    entry : Entry
    checkpoint : Checkpoint
        One that covers the entry.
    inclusion : sequence of bytes
        The entry's proof for the checkpoint's size.
    copies : sequence of (Checkpoint, consistency proof)
        Earlier checkpoints with the signatures of witnesses, and their proofs to ``checkpoint``.
    disclosure : Disclosure, optional
    documents : sequence of Document
    certificates : mapping of party to PEM
    now : float
        Seconds since the epoch; the party's certificate must be valid then.

    Returns
    -------
    dict
        To be written as JSON.
    """
    opened = None
    if disclosure is not None:
        opened = {
            "subject": disclosure.subject,
            "consent": disclosure.consent.hex(),
            "position": disclosure.position,
            "salt": disclosure.salt.hex(),
            "path": [item.hex() for item in disclosure.path],
        }
    return {
        "format": FORMAT,
        "explanation": _explain(party, entry, checkpoint, disclosure),
        "party": party,
        "time": int(now),
        "entry": entry.data.decode(),
        "checkpoint": checkpoint.note,
        "inclusion": [item.hex() for item in inclusion],
        "copies": [
            {"note": copy.note, "consistency": [item.hex() for item in proof]}
            for copy, proof in copies
        ],
        "disclosure": opened,
        "documents": [document.to_dict() for document in documents],
        "certificates": dict(certificates or {}),
    }


def _explain(
    party: str, entry: Entry, checkpoint: Checkpoint, disclosure: Disclosure | None
) -> list[str]:
    lines = [
        f"This file concerns entry {entry.number} of the audit log of {party}.",
        f"'entry' is what {party} recorded at that time (milliseconds since 1970, UTC). It names "
        "enterprises by commitments only.",
        f"'checkpoint' is {party}'s signature over its log of {checkpoint.size} entries. "
        "'inclusion' shows that the entry is one of them: no other text could have this proof.",
        "'copies' are earlier checkpoints that other parties have cosigned with the time. Their "
        f"proofs show that {party} has not rewritten its log since.",
    ]
    if disclosure is not None:
        lines.append(
            "'disclosure' opens the commitment of one enterprise: it shows that the entry is about "
            "this enterprise and this consent. It reveals nothing of other enterprises."
        )
    lines += [
        "'documents' are attached as they were handed over, each with its SHA-256 digest.",
        f"What it proves: {party} recorded exactly this, at this place in its log, and cannot deny "
        "it. What it does not prove: that the record was true, or the exact moment, beyond what "
        "the cosignatures show.",
        "To verify it offline: fedcredit audit verify THIS_FILE --ca ca.pem, with the certificate "
        "of the federation's CA from a source that you trust.",
    ]
    return lines


def verify_bundle(
    bundle: Mapping[str, Any] | bytes | str,
    *,
    ca: bytes | None = None,
    keys: Mapping[str, Ed25519PublicKey] | None = None,
) -> Report:
    """Verify evidence offline.

    Parameters
    ----------
    bundle : mapping, or bytes or str of the JSON file
    ca : bytes, optional
        PEM of the certificate authorities to trust; the parties' certificates then come from the
        bundle.
    keys : mapping of party to Ed25519PublicKey, optional
        Keys that the reader trusts already, instead of certificates.

    Returns
    -------
    Report
        Every check; damaged evidence fails, it raises nothing.

    Raises
    ------
    InputError
        Neither ``ca`` nor ``keys`` is given.
    """
    if ca is None and not keys:
        raise InputError(
            "evidence is verified against a CA or public keys.", step=_STEP, fix="give --ca ca.pem"
        )
    verifier = _Verifier(ca, dict(keys or {}))
    try:
        verifier.run(_load(bundle))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, AuthenticationError):
        # Whatever a damaged file leads to: it is no evidence. The checks made so far are kept.
        verifier.add("format", False, "the file is damaged or no evidence of this format.")
    return Report(tuple(verifier.checks))


def _load(bundle: Mapping[str, Any] | bytes | str) -> Mapping[str, Any]:
    if not isinstance(bundle, Mapping):
        if len(bundle) > _MAX_BYTES:
            raise ValueError("too large")
        bundle = json.loads(bundle)
    if not isinstance(bundle, Mapping) or set(bundle) != _KEYS or bundle["format"] != FORMAT:
        raise ValueError("another format")
    return bundle


def _unhex(values: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


class _Verifier:
    def __init__(self, ca: bytes | None, keys: dict[str, Ed25519PublicKey]) -> None:
        self.ca, self.keys = ca, keys
        self.checks: list[Check] = []

    def add(self, name: str, ok: bool, text: str) -> None:
        self.checks.append(Check(name, ok, text))

    def _once(self, name: str, text: str) -> None:
        if Check(name, True, text) not in self.checks:
            self.add(name, True, text)

    def run(self, bundle: Mapping[str, Any]) -> None:
        party, data = bundle["party"], bundle["entry"].encode()
        entry = Entry.parse(data)
        moment = _moment(entry.time)
        self.add("entry", True, f"entry {entry.number}, kind {entry.kind}, {moment}.")
        if int(entry.time) > bundle["time"]:
            self.add("entry", False, "the entry is younger than the file says it is itself.")
        key = self._key(party, bundle, bundle["time"])
        if key is None:
            return
        try:
            head = open_checkpoint(bundle["checkpoint"], key, entry.origin)
        except AuthenticationError as error:
            self.add("checkpoint", False, error.reason)
            return
        self.add("checkpoint", True, f"signed by {party} over {head.size} entries.")
        proof, leaf = _unhex(bundle["inclusion"]), merkle.leaf_hash(data)
        held = merkle.verify_inclusion(entry.number, head.size, leaf, proof, head.root)
        self.add(
            "inclusion",
            held,
            f"the entry is number {entry.number} of that log."
            if held
            else "the proof does not show that the entry is in that log.",
        )
        self._witnesses(bundle, head.note, "checkpoint", entry)
        for copy in bundle["copies"]:
            self._copy(bundle, copy, key, head, entry)
        opened = self._disclosure(bundle["disclosure"], entry)
        for document in bundle["documents"]:
            self._document(document, entry, opened)

    def _key(self, party: str, bundle: Mapping[str, Any], moment: float) -> Ed25519PublicKey | None:
        if party in self.keys:
            self._once("key", f"the key of {party} is one that you gave.")
            return self.keys[party]
        pem = bundle["certificates"].get(party)
        if self.ca is None or pem is None:
            self.add("key", False, f"there is no key or certificate of {party}.")
            return None
        try:
            key = signing_key(pem.encode(), party, self.ca, moment)
        except AuthenticationError as error:
            self.add("key", False, error.reason)
            return None
        self._once("key", f"the CA certifies the key of {party} for the time of its signature.")
        return key

    def _witnesses(self, bundle: Mapping[str, Any], note: str, name: str, entry: Entry) -> None:
        for signer in Checkpoint.parse(note).signers:
            if signer in (entry.origin, bundle["party"]):
                continue  # nobody is a witness of its own
            if signer not in self.keys and signer not in bundle["certificates"]:
                continue  # a signature of a key that is not known counts for nothing
            key = self._key(signer, bundle, cosigned_at(note, signer))
            if key is None:
                continue
            try:
                seen = verify_cosignature(note, signer, key)
            except AuthenticationError as error:
                self.add(name, False, error.reason)
            else:
                self.add(name, True, f"cosigned by {signer}, {_moment(seen)}.")

    def _copy(
        self,
        bundle: Mapping[str, Any],
        copy: Mapping[str, Any],
        key: Ed25519PublicKey,
        head: Checkpoint,
        entry: Entry,
    ) -> None:
        try:
            earlier = open_checkpoint(copy["note"], key, entry.origin)
        except AuthenticationError as error:
            self.add("copy", False, error.reason)
            return
        held = same_history(earlier, head, _unhex(copy["consistency"]))
        self.add(
            "copy",
            held,
            f"the log continues the one of {earlier.size} entries"
            + (", which had the entry already." if earlier.size > entry.number else ".")
            if held
            else f"the log does not continue the one of {earlier.size} entries.",
        )
        self._witnesses(bundle, earlier.note, "copy", entry)

    def _disclosure(self, value: Mapping[str, Any] | None, entry: Entry) -> bytes | None:
        if value is None:
            return None
        opening = Disclosure(
            value["subject"],
            bytes.fromhex(value["consent"]),
            value["position"],
            bytes.fromhex(value["salt"]),
            tuple(_unhex(value["path"])),
        )
        held = opening.opens(entry)
        self.add(
            "disclosure",
            held,
            "the entry is about the disclosed enterprise"
            + (" and its consent." if opening.consent else ".")
            if held
            else "the entry is not about the disclosed enterprise.",
        )
        return opening.consent if held else None

    def _document(self, value: Mapping[str, Any], entry: Entry, consent: bytes | None) -> None:
        name, kind = value["name"], value["kind"]
        if "content" in value:
            content = value["content"].encode()
        else:
            content = base64.b64decode(value["base64"], validate=True)
        if hashlib.sha256(content).hexdigest() != value["sha256"]:
            self.add("document", False, f"{name} is not what its digest says.")
        elif (
            kind == _CONSENT
            and consent is not None
            and hashlib.sha256(content.strip()).digest() != consent
        ):
            self.add("document", False, f"{name} is not the consent that the entry names.")
        elif kind == "receipt" and entry.facts.get("request", "") not in _texts(content):
            self.add("document", False, f"{name} is a receipt of another request.")
        else:
            bound = (kind == _CONSENT and consent is not None) or kind == "receipt"
            how = "the entry names it" if bound else "its digest fits; the entry does not name it"
            self.add("document", True, f"{name}: {how}.")


def _texts(content: bytes) -> set[str]:
    found: set[str] = set()
    stack = [json.loads(content)]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            found.add(value)
            if value.startswith("{"):  # a signed statement is text within the receipt
                with contextlib.suppress(ValueError, RecursionError):
                    stack.append(json.loads(value))
        elif isinstance(value, (dict, list)):
            stack.extend(value.values() if isinstance(value, dict) else value)
    return found


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
