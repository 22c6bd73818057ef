"""An ACME server (RFC 8555) in this process: real HTTP, signatures and http-01, an authority of its own.

It checks what a public one checks: nonces, the signature and the account of every request, that the key
authorization is found at every name, and that the order is for what the request for a certificate names.
`reach` says where port 80 of every name is. `window` is what it suggests for renewals (RFC 9773).
"""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import json
import threading
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID

from atoll.control.certificates import ensure_authority

DAYS: Final = 90
_FETCH_S: Final = 5.0
_TYPE: Final = "urn:ietf:params:acme:error:"


class Refusal(Exception):
    """A problem document (RFC 7807)."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"type": f"{_TYPE}{kind}", "detail": detail, "status": status}


def decoded(text: str) -> bytes:
    """Base64url without its padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data: bytes) -> str:
    """The other way."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def thumbprint(jwk: dict[str, str]) -> str:
    """Of an EC key (RFC 7638)."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return encoded(sha256(canonical.encode()).digest())


class AcmeServer:
    """Listens until it is stopped."""

    def __init__(self, folder: Path, reach: tuple[str, int]) -> None:
        self.reach = reach
        self.terms = "https://ca.test/terms"
        self.window: tuple[dt.datetime, dt.datetime] | None = None
        self.refuse: Callable[[str], Refusal | None] = lambda path: None
        self.days = DAYS
        self.seen: list[str] = []  # paths, in order
        self.proven: list[str] = []  # names, by whom asked for
        self.issued: list[x509.Certificate] = []
        self._authority = ensure_authority(folder, dt.datetime.now(dt.UTC))
        self._nonces: set[str] = set()
        self._accounts: dict[str, dict[str, str]] = {}  # by path
        self._orders: dict[str, dict[str, Any]] = {}
        self._authorizations: dict[str, dict[str, Any]] = {}
        self._certificates: dict[str, str] = {}
        self._count = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.directory = f"{self.url}/directory"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def ca_pem(self) -> bytes:
        """What clients of its certificates believe."""
        return self._authority.certificate.public_bytes(serialization.Encoding.PEM)

    def stop(self) -> None:
        """Listen no more."""
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(lambda: server.get(self.path))

            def do_HEAD(self) -> None:
                self._answer(lambda: (200, {}, b""))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self._answer(lambda: server.post(self.path, json.loads(body)))

            def _answer(self, ask: Callable[[], tuple[int, dict[str, str], Any]]) -> None:
                kind = "application/json"
                server.seen.append(self.path)
                try:
                    refused = server.refuse(self.path)
                    if refused is not None:
                        raise refused
                    status, fields, answer = ask()
                except Refusal as refusal:
                    status, fields, answer = refusal.status, {}, refusal.body
                    kind = "application/problem+json"
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Type": kind, **fields}.items():
                    self.send_header(name, value)
                self.send_header("Replay-Nonce", server.new_nonce())
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, format: str, *_args: Any) -> None:
                """Quiet."""

        return Handler

    def new_nonce(self) -> str:
        """Good once."""
        nonce = f"nonce-{self._next()}"
        self._nonces.add(nonce)
        return nonce

    def _next(self) -> int:
        self._count += 1
        return self._count

    # --- unsigned

    def get(self, path: str) -> tuple[int, dict[str, str], Any]:
        """The directory, a nonce, what is suggested for a renewal."""
        if path == "/directory":
            found: dict[str, Any] = {
                name: f"{self.url}/{name}" for name in ("newNonce", "newAccount", "newOrder", "revokeCert")
            }
            if self.window is not None:
                found["renewalInfo"] = f"{self.url}/renewalInfo"
            return 200, {}, {**found, "meta": {"termsOfService": self.terms}}
        if path.startswith("/renewalInfo/") and self.window is not None:
            start, end = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in self.window)
            return 200, {"Retry-After": "21600"}, {"suggestedWindow": {"start": start, "end": end}}
        return 200, {}, b""

    # --- signed

    def post(self, path: str, jws: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        """Everything else."""
        header, payload, account = self._verified(path, jws)
        if path == "/newAccount":
            return self._account(header["jwk"], payload)
        if path == "/newOrder":
            return self._order(payload)
        kind, _, rest = path.removeprefix("/").partition("/")
        number = rest.partition("/")[0]
        if kind == "authz":
            return 200, {}, self._authorizations[number]
        if kind == "challenge":
            return self._prove(number, account)
        if kind == "finalize":
            return self._finalize(number, payload)
        if kind == "order":
            return 200, {"Location": f"{self.url}/order/{number}"}, self._orders[number]
        if kind == "cert":
            return (
                200,
                {"Content-Type": "application/pem-certificate-chain"},
                self._certificates[number].encode(),
            )
        raise Refusal(404, "malformed", path)

    def _verified(
        self, path: str, jws: dict[str, str]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
        header = json.loads(decoded(jws["protected"]))
        if header.get("nonce") not in self._nonces:
            raise Refusal(400, "badNonce", "used before, or never given")
        self._nonces.remove(header["nonce"])
        if header["url"] != self.url + path or header["alg"] != "ES256":
            raise Refusal(400, "malformed", "another URL is signed")
        jwk = header.get("jwk") or self._accounts.get(header["kid"].removeprefix(self.url))
        if jwk is None:
            raise Refusal(400, "accountDoesNotExist", header["kid"])
        signature = decoded(jws["signature"])
        der = utils.encode_dss_signature(
            int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        )
        try:
            public_key(jwk).verify(
                der, f"{jws['protected']}.{jws['payload']}".encode(), ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            raise Refusal(400, "malformed", "the signature is wrong") from None
        payload = json.loads(decoded(jws["payload"])) if jws["payload"] else {}
        return header, payload, jwk

    def _account(self, jwk: dict[str, str], payload: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        for path, known in self._accounts.items():
            if known == jwk:
                return 200, {"Location": self.url + path}, {"status": "valid"}
        if payload.get("onlyReturnExisting"):
            raise Refusal(400, "accountDoesNotExist", "no account has this key")
        if not payload.get("termsOfServiceAgreed"):
            raise Refusal(403, "userActionRequired", "agree first")
        path = f"/account/{self._next()}"
        self._accounts[path] = jwk
        return 201, {"Location": self.url + path}, {"status": "valid"}

    def _order(self, payload: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        number = str(self._next())
        urls = [self._authorize(identifier["value"]) for identifier in payload["identifiers"]]
        self._orders[number] = {
            "status": "pending",
            "identifiers": payload["identifiers"],
            "authorizations": urls,
            "finalize": f"{self.url}/finalize/{number}",
        }
        return 201, {"Location": f"{self.url}/order/{number}"}, self._orders[number]

    def _authorize(self, name: str) -> str:
        number = str(self._next())
        challenge = {
            "type": "http-01",
            "url": f"{self.url}/challenge/{number}",
            "status": "pending",
            "token": encoded(sha256(f"{number} {name}".encode()).digest()),
        }
        self._authorizations[number] = {
            "status": "pending",
            "identifier": {"type": "dns", "value": name},
            "challenges": [challenge],
        }
        return f"{self.url}/authz/{number}"

    def _prove(self, number: str, account: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        """Go and look, at once: whoever asks has said that it is there."""
        authorization = self._authorizations[number]
        (challenge,) = authorization["challenges"]
        name, token = authorization["identifier"]["value"], challenge["token"]
        try:
            found = self._fetch(name, token)
        except (OSError, http.client.HTTPException) as error:
            found = str(error).encode()
        good = found == f"{token}.{thumbprint(account)}".encode()
        authorization["status"] = challenge["status"] = "valid" if good else "invalid"
        if good:
            self.proven.append(name)
        else:
            detail = f"at http://{name}/ there is {found[:40]!r}"
            challenge["error"] = {"type": f"{_TYPE}unauthorized", "detail": detail, "status": 403}
        return 200, {"Link": f'<{self.url}/authz/{number}>;rel="up"'}, challenge

    def _fetch(self, name: str, token: str) -> bytes:
        connection = http.client.HTTPConnection(*self.reach, timeout=_FETCH_S)
        connection.request("GET", f"/.well-known/acme-challenge/{token}", headers={"Host": name})
        return connection.getresponse().read()

    def _finalize(self, number: str, payload: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        order = self._orders[number]
        authorizations = [self._authorizations[url.rpartition("/")[2]] for url in order["authorizations"]]
        if any(authorization["status"] != "valid" for authorization in authorizations):
            raise Refusal(403, "orderNotReady", "prove the names first")
        csr = x509.load_der_x509_csr(decoded(payload["csr"]))
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ordered = {identifier["value"] for identifier in order["identifiers"]}
        if not csr.is_signature_valid or set(names.get_values_for_type(x509.DNSName)) != ordered:
            raise Refusal(403, "badCSR", "it is for other names than the order")
        self._certificates[number] = self._issue(csr, names)
        order |= {"status": "valid", "certificate": f"{self.url}/cert/{number}"}
        return 200, {"Location": f"{self.url}/order/{number}"}, order

    def _issue(self, csr: x509.CertificateSigningRequest, names: x509.SubjectAlternativeName) -> str:
        now = dt.datetime.now(dt.UTC)
        issuer = self._authority.certificate
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=self.days))
            .add_extension(names, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority.key.public_key()),
                critical=False,
            )
            .sign(self._authority.key, hashes.SHA256())
        )
        self.issued.append(certificate)
        chain = (certificate, issuer)
        return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in chain)


def public_key(jwk: dict[str, str]) -> ec.EllipticCurvePublicKey:
    """An account's key."""
    x, y = (int.from_bytes(decoded(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
