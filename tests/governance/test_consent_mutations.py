"""Ten thousand tokens that are almost consents: none is accepted, each is refused in words."""

import hashlib
import hmac
import random
import string

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey

from fedcredit.errors import Refusal
from fedcredit.governance.consent import Consent, parse_consent
from tests.support.consents import (
    Book,
    b64,
    dumps,
    enterprise,
    forge,
    grant,
    key_of,
    kid_of,
    taken_apart,
    unb64,
)

ALPHABET = string.ascii_letters + string.digits + "-_"
TOTAL = 10_000
_draw = random.Random(20)


@pytest.fixture(scope="module")
def book():
    return Book(subjects=2)


TOKENS = [grant(enterprise(1), max_uses=9), grant(enterprise(2), max_uses=9)]
HEAD, CLAIMS = taken_apart(TOKENS[0])
OTHER_KID = enterprise(2).kid


def pick(token):
    """A place in a token, and the token's parts."""
    return _draw.randrange(len(token)), token.split(".")


def flipped_bit(token):
    parts = token.split(".")
    part = _draw.randrange(3)
    raw = bytearray(unb64(parts[part]))
    raw[_draw.randrange(len(raw))] ^= 1 << _draw.randrange(8)
    parts[part] = b64(bytes(raw))
    return ".".join(parts)


def other_character(token):
    place, _ = pick(token)
    return token[:place] + _draw.choice(ALPHABET + ".=+/ \n\0é") + token[place + 1 :]


def dropped(token):
    place, _ = pick(token)
    return token[:place] + token[place + 1 :]


def inserted(token):
    place, _ = pick(token)
    return token[:place] + _draw.choice(ALPHABET + ".=+/ \t\r\n\0") + token[place:]


def cut_off(token):
    return token[: _draw.randrange(len(token))]


def appended(token):
    extra = "".join(_draw.choices(ALPHABET, k=_draw.randrange(1, 40)))
    return _draw.choice([token + extra, extra + token, f"{token}.{extra}", token + "=", token * 2])


def exchanged_part(token):
    mine, other = token.split("."), TOKENS[1 - TOKENS.index(token)].split(".")
    chosen = _draw.randrange(1, 7)
    return ".".join(other[i] if chosen >> i & 1 else mine[i] for i in range(3))


def edited_claim(token):
    head, _, signature = token.split(".")
    claims = taken_apart(token)[1]
    name = _draw.choice([*claims, "admin", "crit"])
    other = [0, 1, None, True, [], {}, "", "bank", 2**62, 1.5, ["bank"], "score:sme-card@1"]
    claims[name] = _draw.choice(other)
    if _draw.random() < 0.2:
        del claims[name]
    return f"{head}.{b64(dumps(claims))}.{signature}"


def edited_header(token):
    _, body, signature = token.split(".")
    head = dict(taken_apart(token)[0])
    name = _draw.choice([*head, "jwk", "jku", "x5c", "crit", "b64", "cty", "zip"])
    other = ["none", "None", "", "HS256", "ES256", "Ed25519", "RS256", None, 1, [], ["exp"], {}]
    head[name] = _draw.choice([*other, OTHER_KID, "../keys/1", "' OR 1=1 --"])
    return f"{b64(dumps(head))}.{body}.{signature}"


def spelled_otherwise(token):
    """The same bytes in another base64: unused bits set, padded, or of the other alphabet."""
    parts = token.split(".")
    part = _draw.randrange(3)
    text = parts[part]
    spare = {0: 1, 2: 16, 3: 4}[len(text) % 4]
    at = ALPHABET64.index(text[-1])
    others = [text + "=" * (-len(text) % 4 or 4), f"{text[:9]}\n{text[9:]}"]
    if spare > 1:
        others.append(text[:-1] + ALPHABET64[at - at % spare + _draw.randrange(1, spare)])
    if "-" in text or "_" in text:
        others.append(text.replace("-", "+").replace("_", "/"))
    parts[part] = _draw.choice(others)
    return ".".join(parts)


ALPHABET64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
MUTATIONS = [
    flipped_bit,
    other_character,
    dropped,
    inserted,
    cut_off,
    appended,
    exchanged_part,
    edited_claim,
    edited_header,
    spelled_otherwise,
]


def refusal(book, tx, token):
    """The code with which a token is refused, whoever it may claim to be of."""
    try:
        for number in (0, 1):
            subject = [book.enterprises[number].uscc]
            try:
                book.book.check(tx, **book.question(token, subjects=subject))
            except Refusal as refused:
                if refused.code != "consent_subject":
                    return refused.code
            else:
                return None
    except Exception as error:
        return f"{type(error).__name__}"
    return "consent_subject"


def test_no_mutation_is_accepted(book):
    codes = {"consent_malformed", "consent_signature", "consent_key", "consent_missing"}
    seen = {}
    with book.ledger.reading() as tx:
        assert [refusal(book, tx, token) for token in TOKENS] == [None, None]
        for number in range(TOTAL):
            mutation = MUTATIONS[number % len(MUTATIONS)]
            token = TOKENS[number // len(MUTATIONS) % 2]
            mutant = mutation(token)
            if mutant in TOKENS:
                continue
            code = refusal(book, tx, mutant)
            assert code in codes, (mutation.__name__, code)
            seen[mutation.__name__, code] = seen.get((mutation.__name__, code), 0) + 1
    assert sum(seen.values()) > 0.97 * TOTAL
    assert {name for name, _ in seen} == {mutation.__name__ for mutation in MUTATIONS}
    assert seen["flipped_bit", "consent_signature"] > 100
    assert {code for name, code in seen if name == "spelled_otherwise"} == {"consent_malformed"}


def code_of(book, token, **changes):
    with pytest.raises(Refusal) as caught:
        book.ask(token, **changes)
    return caught.value.code


def signing_input(head, claims=CLAIMS):
    return f"{b64(dumps(head))}.{b64(dumps(claims))}"


def test_other_algorithms_are_refused_whatever_they_sign(book):
    public = enterprise(1).public_key
    pem = enterprise(1).public_pem
    made = []
    for name in ("none", "None", "NONE", ""):
        text = signing_input(HEAD | {"alg": name})
        made += [f"{text}.", f"{text}.{b64(bytes(64))}", f"{text}.{TOKENS[0].split('.')[2]}"]
    for name, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
        text = signing_input(HEAD | {"alg": name})
        made += [
            f"{text}.{b64(hmac.new(key, text.encode(), digest).digest())}" for key in (public, pem)
        ]
    text = signing_input(HEAD | {"alg": "ES256"})
    es256 = generate_private_key(SECP256R1()).sign(text.encode(), ECDSA(hashes.SHA256()))
    made += [f"{text}.{b64(es256)}", f"{text}.{b64(es256[-64:])}"]
    made += [
        forge(key_of(1), HEAD | {"alg": name}, CLAIMS) for name in ("Ed25519", "eddsa", "ES256")
    ]
    text = signing_input(HEAD)
    ed448 = Ed448PrivateKey.generate()
    made += [f"{text}.{b64(ed448.sign(text.encode()))}"]
    assert {code_of(book, token) for token in made} == {"consent_malformed"}


def test_keys_are_the_registrys_and_nobody_elses(book):
    attacker = key_of(66)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(attacker.public_key().public_bytes_raw())}
    for extra in (
        {"jwk": jwk},
        {"jku": "https://keys.example/jwks.json"},
        {"x5u": "https://keys.example/x.pem"},
        {"x5c": ["MII="]},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": True},
        {"b64": False, "crit": ["b64"]},
    ):
        for key in (attacker, key_of(1)):
            assert code_of(book, forge(key, HEAD | extra, CLAIMS)) == "consent_malformed"
    for kid in (kid_of(attacker), "A" * 43):
        assert code_of(book, forge(attacker, HEAD | {"kid": kid}, CLAIMS)) == "consent_key"
    assert code_of(book, forge(attacker, HEAD, CLAIMS)) == "consent_signature"
    for kid in ("", "x", None, 1, [HEAD["kid"]], HEAD["kid"] + "\n", f" {HEAD['kid']}", "%" * 43):
        assert code_of(book, forge(key_of(1), HEAD | {"kid": kid}, CLAIMS)) == "consent_malformed"
    header = {name: HEAD[name] for name in ("alg", "typ")}
    assert code_of(book, forge(key_of(1), header, CLAIMS)) == "consent_malformed"


# What a subject's own, valid signature does not make a consent.
WRONG = {
    "iss": ["91440300MA50000002", "", None, 1, ["91440300MA50000001"], "91440300ma50000001"],
    "sub": ["91440300MA50000002", "", None, {}],
    "aud": ["", None, ["bank"], "Bank", "bank ", "b" * 64, "-bank", "bank\n", 7],
    "iat": ["1800000000", 1800000000.0, None, True, -1, 0, 10**12, [], 1e9],
    "nbf": ["1800000000", 1800000000.5, None, False, 10**18, CLAIMS["exp"], CLAIMS["iat"] - 61],
    "exp": ["9999999999", 1.9e9, None, True, CLAIMS["iat"] + 401 * 86400, 10**10, 10**30],
    "jti": ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, 1, None, "0" * 31 + "\n"],
    "purpose": ["", "marketing", None, ["credit_granting"], "credit_granting ", {}],
    "scope": [
        *([], {}, "score:sme-card@1", None, [1], [None], [["score:sme-card@1"]], ["*"]),
        *(["score:*"], ["score:sme-card"], ["score:sme-card@1 "], ["verify:tax"], ["reasons\n"]),
        *(["SCORE:sme-card@1"], ["score:sme-card@1", "everything"], ["reasons", "reasons"]),
        [f"score:m@{i}" for i in range(33)],
    ],
    "max_uses": [0, -1, None, True, "1", 1.0, [], 1_000_001, 10**25],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_signed_claim_of_another_form_is_refused(book, name):
    for value in WRONG[name]:
        token = forge(key_of(1), HEAD, CLAIMS | {name: value})
        assert code_of(book, token) == "consent_malformed", value
    claims = {other: value for other, value in CLAIMS.items() if other != name}
    assert code_of(book, forge(key_of(1), HEAD, claims)) == "consent_malformed"
    assert code_of(book, forge(key_of(1), HEAD, CLAIMS | {"extra": 1})) == "consent_malformed"


def test_signed_json_of_another_form_is_refused(book):
    body = dumps(CLAIMS)
    deep = b'{"iss":' + b"[" * 3000 + b"]" * 3000 + b"}"
    for payload in (
        body.replace(b'"max_uses":9', b'"max_uses":9,"max_uses":1000'),
        body.replace(b'"max_uses":9', b'"max_uses":9,"max\\u005fuses":1000'),
        body.replace(b'"max_uses":9', b'"max_uses":NaN'),
        body.replace(b'"max_uses":9', b'"max_uses":9e0'),
        body.replace(b'"max_uses":9', b'"max_uses":' + b"9" * 5000),
        body[:-1],
        body + b"{}",
        b"\xef\xbb\xbf" + body,
        body.decode().encode("utf-16"),
        body.replace(b"bank", b"b\xffnk"),
        b"[]",
        b"null",
        b'"text"',
        b"x",
        deep,
    ):
        assert code_of(book, forge(key_of(1), HEAD, payload)) == "consent_malformed"
    head = dumps(HEAD)
    for header in (
        head.replace(b'"alg":"EdDSA"', b'"alg":"none","alg":"EdDSA"'),
        head.replace(b'"alg":"EdDSA"', b'"alg":"EdDSA","alg":"EdDSA"'),
        head.replace(b"consent+jwt", b"revocation+jwt"),
        head.replace(b"fedcredit-consent+jwt", b"JWT"),
        b"[]",
        b"{}",
    ):
        assert code_of(book, forge(key_of(1), header, body)) == "consent_malformed"


def test_a_long_token_is_not_even_read(book):
    token = TOKENS[0] + "A" * 8192
    assert code_of(book, token) == "consent_malformed"
    for other in (b"bytes", 1, ["x"]):
        assert code_of(book, other) == "consent_missing"


def test_reading_what_was_not_changed():
    consent = parse_consent(TOKENS[0])
    assert isinstance(consent, Consent)
    assert parse_consent(forge(key_of(1), HEAD, CLAIMS)).digest != b""
