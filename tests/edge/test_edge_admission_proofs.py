"""Signed URLs, tokens and the proof of work as pure functions."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.admission import ChallengeSpec, SignedUrlSpec, SigningKeySpec, TokenKeySpec, TokenSpec
from atoll.edge.admission.addresses import address_of
from atoll.edge.admission.challenge import Challenge, worked
from atoll.edge.admission.challenge_page import SCRIPT, render
from atoll.edge.admission.facts import Admitted, Facts, Refuse, Wait
from atoll.edge.admission.keyring import RETRY_S, Keyring
from atoll.edge.admission.keys import ALGORITHMS, keys_of_set
from atoll.edge.admission.signed_url import SignedUrl, sign, verify
from atoll.edge.admission.tokens import REMEMBERED, Remembered, Token, Verified, claim_fields
from atoll.errors import AtollError, RemoteError

NOW_S = 1_700_000_000.0
ME = address_of("198.51.100.7")
KEY = SigningKeySpec(id="k1", secret="a secret of thirty-two bytes, ok")
KEYS = {b"k1": KEY.secret.encode(), b"k2": b"another secret that is long too!"}


def facts(target: bytes = b"/", *headers: tuple[bytes, bytes], client: str = "198.51.100.7") -> Facts:
    return Facts(address_of(client), "DE", 64500, b"https", b"GET", target, list(headers))


# --- signed URLs


def test_a_signed_url_is_granted_until_it_expires() -> None:
    signed = sign("/v/a.mp4?q=1&r", KEY, int(NOW_S) + 60).encode()
    assert verify(KEYS, signed, ME, NOW_S) == ""
    assert "expired" in verify(KEYS, signed, ME, NOW_S + 60)


def test_what_is_signed_goes_no_further_than_the_edge() -> None:
    rule = SignedUrl(SignedUrlSpec(keys=(KEY,)), "signed_url")
    signed = sign("/v/a.mp4?q=1&r", KEY, int(NOW_S) + 60, client="198.51.100.0/24").encode()
    so_far = Admitted(facts(signed))
    assert rule.judge(facts(signed), so_far, NOW_S) is None
    assert so_far.target == b"/v/a.mp4?q=1&r"


def test_a_key_that_is_gone_signs_nothing() -> None:
    signed = sign("/a", KEY, int(NOW_S) + 60).encode()
    assert "not valid" in verify({b"k2": KEYS[b"k2"]}, signed, ME, NOW_S)
    assert "not valid" in verify({b"k1": KEYS[b"k2"]}, signed, ME, NOW_S)


def test_a_url_for_one_address() -> None:
    for prefix, passes in (("198.51.100.7", True), ("198.51.100.0/24", True), ("2001:db8::/32", False)):
        signed = sign("/a", KEY, int(NOW_S) + 60, client=prefix).encode()
        assert (verify(KEYS, signed, ME, NOW_S) == "") == passes
        assert verify(KEYS, signed, None, NOW_S) != ""
    unbound = sign("/a", KEY, int(NOW_S) + 60).encode()
    assert "bound" in verify(KEYS, unbound, ME, NOW_S, require_address=True)


def test_a_url_for_a_prefix_of_paths() -> None:
    query = sign("/v/1/index.m3u8", KEY, int(NOW_S) + 60, prefix="/v/1/").partition("?")[2].encode()
    assert verify(KEYS, b"/v/1/part.ts?x=1&" + query, ME, NOW_S) == ""
    for path in (b"/v/2/a", b"/v/1/../2/a", b"/v/1/%2e%2E/2/a", b"/v/1/..%2f2/a", b"/v/1/.", b"/v/1/..\\2"):
        assert verify(KEYS, path + b"?" + query, ME, NOW_S) != "", path


@given(st.data())
def test_no_byte_of_a_signed_url_can_be_changed(data: st.DataObject) -> None:
    signed = sign("/v/a?q=1", KEY, int(NOW_S) + 60, client="198.51.100.0/24").encode()
    at = data.draw(st.integers(0, len(signed) - 1))
    other = data.draw(st.sampled_from(b"abcdefghijklmnopqrstuvwxyzABC0123456789-_/&=?."))
    changed = signed[:at] + bytes((other,)) + signed[at + 1 :]
    # Of the signature's last character two bits say nothing; it is compared as text all the same.
    assert (verify(KEYS, changed, ME, NOW_S) == "") == (changed == signed)


def test_parameters_given_twice_are_refused() -> None:
    signed = sign("/a", KEY, int(NOW_S) + 60)
    assert verify(KEYS, f"{signed}&atoll-expires=9999999999".encode(), ME, NOW_S) != ""
    assert verify(KEYS, b"/a", ME, NOW_S) == "This URL has to be signed."


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("a", {}),
        ("/a b", {}),
        ("/a#b", {}),
        ("/a?atoll-key=x", {}),
        ("/a", {"client": "nobody"}),
        ("/a/b", {"prefix": "/a"}),
        ("/a/b", {"prefix": "/c/"}),
        ("/a/../b", {"prefix": "/a/"}),
    ],
)
def test_what_cannot_be_signed_is_refused(target: str, options: dict[str, str]) -> None:
    with pytest.raises(AtollError):
        sign(target, KEY, 1, **options)


@pytest.mark.parametrize("keys", [(), (KEY, KEY), (SigningKeySpec(id="a", secret="short"),)])
def test_signing_keys_that_will_not_do(keys: tuple[SigningKeySpec, ...]) -> None:
    with pytest.raises(AtollError):
        SignedUrl(SignedUrlSpec(keys=keys), "signed_url")


def test_secrets_are_not_printed() -> None:
    spec = SignedUrlSpec(keys=(KEY,))
    assert KEY.secret not in f"{spec} {TokenKeySpec(alg='HS256', secret=KEY.secret)}"
    assert KEY.secret not in repr(ChallengeSpec(secret=KEY.secret))


# --- tokens

SECRETS = {"HS256": "s" * 32, "HS384": "s" * 48, "HS512": "s" * 64}
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P256 = ec.generate_private_key(ec.SECP256R1())
PRIVATE: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": P256,
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    **SECRETS,
}


def pem(key: Any) -> str:
    shown: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return shown.decode()


def key_spec(alg: str, key_id: str = "") -> TokenKeySpec:
    if alg in SECRETS:
        return TokenKeySpec(alg=alg, id=key_id, secret=SECRETS[alg])
    return TokenKeySpec(alg=alg, id=key_id, pem=pem(PRIVATE[alg]))


def token(alg: str = "HS256", kid: str = "", **claims: object) -> bytes:
    return token_of({"exp": NOW_S + 60, **claims}, alg, kid)


def token_of(claims: dict[str, object], alg: str = "HS256", kid: str = "") -> bytes:
    payload, headers = json.dumps(claims).encode(), {"kid": kid} if kid else None
    return jwt.PyJWS().encode(payload, PRIVATE[alg], algorithm=alg, headers=headers).encode()


def rule_of(*keys: TokenKeySpec, cached: bool = False, **options: Any) -> Token:
    return Token(TokenSpec(keys=keys or (key_spec("HS256"),), **options), "token", cached)


def bearer(value: bytes) -> Facts:
    return facts(b"/", (b"authorization", b"Bearer " + value))


def judged(rule: Token, asked: Facts, now_s: float = NOW_S) -> str:
    """Why it is refused; "" if it passes."""
    verdict = rule.judge(asked, Admitted(asked), now_s)
    if verdict is None:
        return ""
    assert isinstance(verdict, Refuse)
    assert verdict.status == 401
    assert dict(verdict.headers)[b"www-authenticate"].startswith(b"Bearer")
    return verdict.reason


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_token_of_every_algorithm(alg: str) -> None:
    rule = rule_of(key_spec(alg, "a"))
    good = token(alg, "a", sub="ann")
    asked = bearer(good)
    for _ in range(2):  # verified, then remembered
        so_far = Admitted(asked)
        assert rule.judge(asked, so_far, NOW_S) is None
        assert so_far.claims["sub"] == "ann"
    head, body, signature = good.split(b".")
    forged = base64.urlsafe_b64encode(b'{"exp": 9999999999, "sub": "bob"}').rstrip(b"=")
    assert judged(rule, bearer(b".".join((head, forged, signature)))) != ""
    assert judged(rule, bearer(b".".join((head, body, signature[:-8] + b"AAAAAAAA")))) != ""


def b64(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def test_the_key_decides_the_algorithm() -> None:
    rule = rule_of(key_spec("RS256", "a"))
    claims = b64({"exp": NOW_S + 60})
    for alg in ("none", "None", "", "HS256"):
        for signature in (b"", b"AA"):
            assert (
                judged(rule, bearer(b64({"alg": alg, "kid": "a"}) + b"." + claims + b"." + signature)) != ""
            )
    # The public key as a shared secret: what a careless library takes.
    import hashlib
    import hmac

    message = b64({"alg": "HS256", "kid": "a"}) + b"." + claims
    mac = hmac.digest(pem(RSA).encode(), message, hashlib.sha256)
    confused = message + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")
    assert judged(rule, bearer(confused)) != ""
    both = rule_of(key_spec("RS256", "a"), key_spec("HS256", "b"))
    assert judged(both, bearer(confused)) != ""
    assert judged(both, bearer(token("HS256", "a"))) != ""  # the other key's algorithm
    assert judged(both, bearer(token("PS256", "a"))) != ""  # the same key, another algorithm
    assert judged(both, bearer(token("HS256", "b"))) == ""


def test_a_header_that_must_be_understood_is_not() -> None:
    crit = jwt.encode({"exp": NOW_S + 9}, SECRETS["HS256"], headers={"crit": ["b64"], "b64": True})
    assert judged(rule_of(), bearer(crit.encode())) == "The token is malformed."


@pytest.mark.parametrize(
    "junk",
    [b"", b"a", b"a.b", b"a.b.c.d", b"!.!.!", b"e30.e30.e30", b"x" * 9000, b64([[]] * 2000) + b".e30.AA"],
)
def test_what_is_no_token(junk: bytes) -> None:
    assert judged(rule_of(), bearer(junk)) != ""


def test_a_deeply_nested_header_is_no_token() -> None:
    deep = base64.urlsafe_b64encode(b'{"alg": "HS256", "x": ' + b"[" * 5000).rstrip(b"=")
    assert judged(rule_of(), bearer(deep + b".e30.AA")) == "The token is malformed."


def test_times_are_asked_of_remembered_tokens_too() -> None:
    rule = rule_of(leeway_s=5.0)
    timed = token(nbf=NOW_S)
    assert judged(rule, bearer(timed), NOW_S - 6) == "The token is not valid yet."
    assert judged(rule, bearer(timed), NOW_S - 5) == ""
    assert judged(rule, bearer(timed), NOW_S + 64) == ""
    assert judged(rule, bearer(timed), NOW_S + 65) == "The token has expired."
    assert judged(rule, bearer(token(exp="soon"))) == "The token is malformed."


def test_required_claims_issuer_and_audience() -> None:
    rule = rule_of(issuers=("https://id.example",), audiences=("shop",), required=("exp", "sub"))
    good: dict[str, object] = {
        "exp": NOW_S,
        "iss": "https://id.example",
        "aud": ["other", "shop"],
        "sub": "ann",
    }
    others: list[dict[str, object]] = [
        {"iss": "https://evil"},
        {"iss": ["https://id.example"]},
        {"aud": "other"},
        {"aud": [1]},
    ]
    assert judged(rule, bearer(token_of(good))) == ""
    for changed in others:
        assert judged(rule, bearer(token_of({**good, **changed}))) != ""
    for missing in good:
        assert judged(rule, bearer(token_of({k: v for k, v in good.items() if k != missing}))) != ""
    assert judged(rule_of(), bearer(token(aud="shop"))) != ""  # for somebody, and not for us


def test_a_token_is_found_where_it_may_be_and_taken_off() -> None:
    good = token(sub="ann")
    sources = ("header:X-Token", "cookie:session", "query:t", "header:authorization")
    rule = rule_of(sources=sources, strip=True)
    for asked in (
        facts(b"/", (b"x-token", good)),
        facts(b"/", (b"cookie", b"a=1; session=" + good)),
        facts(b"/?t=" + good + b"&b=2"),
        facts(b"/", (b"authorization", b"bearer " + good)),
    ):
        so_far = Admitted(asked)
        assert rule.judge(asked, so_far, NOW_S) is None
        assert good not in so_far.target + b"".join(value for _, value in so_far.headers)
    assert judged(rule, facts(b"/", (b"authorization", b"Basic abc"))) == "A token is required."


def test_claims_are_passed_on_and_nobody_elses() -> None:
    rule = rule_of(forward={"sub": "X-User", "roles": "X-Roles", "no": "X-No"})
    asked = facts(
        b"/",
        (b"authorization", b"Bearer " + token(sub="ann", roles=["a", "ü\r\nx: y"])),
        (b"x-no", b"forged"),
    )
    so_far = Admitted(asked)
    assert rule.judge(asked, so_far, NOW_S) is None
    told = dict(so_far.headers)
    assert told[b"x-user"] == b"ann"
    assert json.loads(told[b"x-roles"]) == ["a", "ü\r\nx: y"]
    assert told[b"x-roles"].isascii()
    assert b"x-no" not in told


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_a_claim_in_a_field_is_always_a_field(value: object) -> None:
    for _, text in claim_fields({"c": value}, {"c": b"x"}):
        assert text.decode("ascii").isprintable()
        assert text.strip() == text


def test_remembered_tokens_are_bounded_and_of_one_set_of_keys() -> None:
    known = Remembered()
    verified = Verified({}, 1.0, 0.0)
    for number in range(REMEMBERED + 10):
        known.add(b"%d" % number, verified)
    assert known.get(b"0", 0) is None
    assert known.get(b"%d" % REMEMBERED, 0) is verified
    assert known.get(b"%d" % REMEMBERED, 1) is None
    for _ in range(20):
        known.add(b"x" * 1024 * 1024 + b"%d" % _, verified)
    assert known.get(b"x" * 1024 * 1024 + b"0", 1) is None


@pytest.mark.parametrize(
    "spec",
    [
        TokenKeySpec(alg="none"),
        TokenKeySpec(alg="HS256", secret="too short"),
        TokenKeySpec(alg="HS512", secret="s" * 63),
        TokenKeySpec(alg="HS256", pem=pem(RSA)),
        TokenKeySpec(alg="RS256", secret="s" * 32),
        TokenKeySpec(alg="RS256", pem=pem(SMALL_RSA)),
        TokenKeySpec(alg="RS256", pem=pem(P256)),
        TokenKeySpec(alg="ES384", pem=pem(P256)),
        TokenKeySpec(alg="EdDSA", pem=pem(P256)),
        TokenKeySpec(alg="ES256", pem="nonsense"),
    ],
)
def test_keys_that_will_not_do(spec: TokenKeySpec) -> None:
    with pytest.raises(AtollError):
        rule_of(spec)


def jwk(kind: str, kid: str, **more: object) -> dict[str, object]:
    algorithm = jwt.get_algorithm_by_name(kind)
    public = PRIVATE[kind].public_key()
    return {**json.loads(algorithm.to_jwk(public)), "kid": kid, **more}


def test_a_published_set_leaves_out_what_is_of_no_use() -> None:
    listed = [
        jwk("RS256", "rsa"),
        jwk("PS256", "pss", alg="PS256"),
        jwk("ES256", "p256"),
        jwk("EdDSA", "ed"),
        jwk("RS256", "enc", use="enc"),
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0" * 8, "alg": "HS256"},
        {"kty": "RSA", "kid": "broken", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "kid": "odd", "crv": "secp256k1"},
        {"kid": "nothing"},
    ]
    keys = keys_of_set(json.dumps({"keys": listed}).encode())
    assert [(key.kid, key.alg) for key in keys] == [
        ("rsa", "RS256"),
        ("pss", "PS256"),
        ("p256", "ES256"),
        ("ed", "EdDSA"),
    ]
    for document in (b"", b"[]", b'{"keys": []}', b"<html>"):
        with pytest.raises(RemoteError):
            keys_of_set(document)


def test_a_keyring_asks_again_for_unknown_keys_but_not_each_time() -> None:
    rule = Token(TokenSpec(jwks_url="http://127.0.0.1:1/keys"), "token", False)
    asked = bearer(token("ES256", "new"))
    assert isinstance(rule.judge(asked, Admitted(asked), NOW_S), Wait)
    rule.ring.tried(NOW_S)
    verdict = rule.judge(asked, Admitted(asked), NOW_S + 1)
    assert isinstance(verdict, Refuse)
    assert verdict.status == 503  # there are no keys at all
    rule.ring.fetched(
        keys_of_set(json.dumps({"keys": [jwk("ES256", "old")]}).encode()), [b"max-age=120"], NOW_S
    )
    assert judged(rule, asked, NOW_S + 2) == "The token's key is not known."
    assert isinstance(rule.judge(asked, Admitted(asked), NOW_S + RETRY_S), Wait)
    rule.ring.fetched(
        keys_of_set(json.dumps({"keys": [jwk("ES256", "new")]}).encode()), [b"max-age=120"], NOW_S
    )
    assert judged(rule, asked, NOW_S + 3) == ""
    assert not rule.ring.due(NOW_S + 119)
    assert rule.ring.due(NOW_S + 120)


@pytest.mark.parametrize(
    "spec",
    [
        TokenSpec(),
        TokenSpec(jwks_url="http://id.example/keys"),
        TokenSpec(jwks_url="http://127.0.0.1.evil.test/keys"),
        TokenSpec(jwks_url="http://localhost@evil.test/keys"),
        TokenSpec(jwks_url="file:///etc/keys"),
        TokenSpec(keys=(key_spec("HS256"),), sources=()),
        TokenSpec(keys=(key_spec("HS256"),), sources=("body:x",)),
        TokenSpec(keys=(key_spec("HS256"),), forward={"sub": "Host"}),
    ],
)
def test_token_rules_that_make_no_sense_are_refused(spec: TokenSpec) -> None:
    with pytest.raises(AtollError):
        Token(spec, "token", False)


def test_several_keys_without_ids_are_tried() -> None:
    ring = Keyring(TokenSpec(keys=(key_spec("ES256"), key_spec("HS256"))), "token")
    assert [key.alg for key in ring.candidates("", "HS256")] == ["HS256"]
    assert not ring.may_fetch(NOW_S)


# --- the proof of work

CHALLENGE = Challenge(ChallengeSpec(secret="s" * 16, difficulty=8, ttl_s=600), "challenge", "shop")


def solved(ticket: bytes, bits: int = 8) -> bytes:
    number = 0
    while not worked(b"%b.%d" % (ticket, number), bits):
        number += 1
    return b"%b.%d" % (ticket, number)


def test_a_solved_challenge_passes_from_the_same_client_until_it_expires() -> None:
    shown = solved(CHALLENGE.ticket(address_of("2001:db8::1"), int(NOW_S) + 600))
    assert CHALLENGE.passes(shown, address_of("2001:db8::2"), NOW_S)  # the same /64
    assert not CHALLENGE.passes(shown, address_of("2001:db8:1::2"), NOW_S)
    assert not CHALLENGE.passes(shown, None, NOW_S)
    assert not CHALLENGE.passes(shown, address_of("2001:db8::1"), NOW_S + 600)
    other = Challenge(ChallengeSpec(secret="s" * 16, difficulty=8, ttl_s=600), "challenge", "other")
    assert not other.passes(shown, address_of("2001:db8::1"), NOW_S)


def test_work_that_was_not_done_or_not_asked_for_is_refused() -> None:
    ticket = CHALLENGE.ticket(ME, int(NOW_S) + 600)
    lazy = next(b"%b.%d" % (ticket, n) for n in range(999) if not worked(b"%b.%d" % (ticket, n), 8))
    easy = Challenge(ChallengeSpec(secret="s" * 16, difficulty=1, ttl_s=600), "challenge", "shop")
    forged = b"%d.8.AAAAAAAAAAAAAAAAAAAAAA" % (NOW_S + 600)
    far = CHALLENGE.ticket(ME, int(NOW_S) + 10_000)
    for shown in (lazy, solved(easy.ticket(ME, int(NOW_S) + 600), 1), solved(forged), solved(far), b"", b"x"):
        assert not CHALLENGE.passes(shown, ME, NOW_S)


def test_the_rule_answers_with_a_page_and_takes_its_cookie_off() -> None:
    asked = facts()
    verdict = CHALLENGE.judge(asked, Admitted(asked), NOW_S)
    assert verdict is not None
    assert verdict.status == 403
    assert verdict.body is not None
    found = re.search(rb'data-ticket="([^"]+)" data-bits="8"', verdict.body)
    assert found is not None
    assert not re.search(rb"(?:src|href)=|https?://", verdict.body)
    again = facts(b"/", (b"cookie", b"a=1; atoll-pass=" + solved(found[1])))
    so_far = Admitted(again)
    assert CHALLENGE.judge(again, so_far, NOW_S) is None
    assert so_far.headers == [(b"cookie", b"a=1")]


def test_the_page_finds_what_the_edge_accepts() -> None:
    ticket = CHALLENGE.ticket(ME, int(NOW_S) + 600)
    assert SCRIPT.encode() in render(ticket, 8, 600)
    browser = f"""
    let jar = '';
    globalThis.document = {{
      documentElement: {{ dataset: {{ ticket: '{ticket.decode()}', bits: '8', ttl: '600' }} }},
      get cookie() {{ return jar; }}, set cookie(value) {{ jar = value; }},
    }};
    globalThis.location = {{ protocol: 'https:', reload: () => console.log(jar) }};
    """
    run = subprocess.run(
        ["node", "-e", browser + SCRIPT], capture_output=True, text=True, check=True, timeout=20
    )
    value, *attributes = run.stdout.strip().removeprefix("atoll-pass=").split(";")
    assert attributes == ["path=/", "max-age=600", "samesite=lax", "secure"]
    assert CHALLENGE.passes(value.encode(), ME, NOW_S)


@pytest.mark.parametrize(
    "spec",
    [
        ChallengeSpec(secret="short"),
        ChallengeSpec(secret="s" * 16, difficulty=30),
        ChallengeSpec(secret="s" * 16, ttl_s=1),
    ],
)
def test_challenges_that_make_no_sense_are_refused(spec: ChallengeSpec) -> None:
    with pytest.raises(AtollError):
        Challenge(spec, "challenge", "shop")
