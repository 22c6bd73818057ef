"""Certificates from an ACME server (RFC 8555): an account, an order, http-01 challenges, the certificate.

Everything here blocks, some of it for a minute: it runs in a thread or in a command, never in an event loop.
A challenge is answered by whichever PoP the authority comes to: its answer is a file that every edge worker
looks for (`atoll.edge.door`), there for as long as the order takes. Keys are made here, one for each
certificate; they and the account's key are readable by their owner alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import DeserializationError
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from josepy.util import ComparableECKey

import atoll
from atoll.control.certificate_store import write_private
from atoll.errors import AtollError

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
DEADLINE_S: Final = 120.0  # of an order
_REQUEST_S: Final = 30
_NONCES: Final = 5  # tries of one request
_MAX_TROUBLE: Final = 500  # characters of what a server says


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An ACME server and our account there."""

    directory: str = LETS_ENCRYPT
    ca: str = ""  # PEM file that its own certificate is verified with
    email: str = ""
    agreed: bool = False  # to its terms of service


class _Network(client.ClientNetwork):
    """Tries again with another nonce as often as a busy server wants it (RFC 8555 §6.5); the library once."""

    def post(self, *args: Any, **kwargs: Any) -> Any:
        """See `ClientNetwork`."""
        for _ in range(_NONCES - 1):
            with contextlib.suppress(_BadNonceError):
                return self._post_or_bad_nonce(*args, **kwargs)
        return super().post(*args, **kwargs)

    def _post_or_bad_nonce(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().post(*args, **kwargs)
        except messages.Error as error:
            if error.code == "badNonce":
                raise _BadNonceError from error
            raise


class _BadNonceError(Exception):
    pass


class Acme:
    """One account at one server. `accounts` keeps a key for each, `challenges` what is being proven."""

    def __init__(self, server: Server, accounts: Path, challenges: Path) -> None:
        self._server = server
        self._challenges = challenges
        name = hashlib.sha256(server.directory.encode()).hexdigest()[:16]
        self._folder = accounts / name
        self._key = self._account_key()
        net = _Network(
            self._key,
            alg=ES256,
            verify_ssl=server.ca or True,  # type: ignore[arg-type]  # handed on to requests, which takes a file
            user_agent=f"atoll/{atoll.__version__}",
            timeout=_REQUEST_S,
        )
        with _translated(server.directory):
            self._client = client.ClientV2(client.ClientV2.get_directory(server.directory, net), net)

    def issue(self, names: tuple[str, ...]) -> bytes:
        """A new key and the chain for `names`, PEM, key first.

        Raises:
            AtollError: the server refuses, cannot reach us, or does not answer.
        """
        deadline = dt.datetime.now() + dt.timedelta(seconds=DEADLINE_S)  # naive, as the library's
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with _translated(", ".join(names)):
            self._log_in()
            order = self._client.new_order(crypto_util.make_csr(key, list(names)))
            with self._answering(order):
                order = self._client.poll_authorizations(order, deadline)
            order = self._client.finalize_order(order, deadline)
        return key + order.fullchain_pem.encode()

    def suggested_s(self, pem: bytes) -> tuple[float | None, float]:
        """When the authority suggests to renew (RFC 9773), None without an opinion; and when to ask again.

        Raises:
            AtollError: it does not answer.
        """
        with _translated(self._server.directory):
            renew, again = self._client.renewal_time(pem)
        return (renew.timestamp() if renew is not None else None), again.timestamp()

    # --- the account

    def _account_key(self) -> JWKEC:
        file = self._folder / "key.pem"
        try:
            loaded = serialization.load_pem_private_key(file.read_bytes(), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ValueError("it is of another kind")
        except FileNotFoundError:
            loaded = ec.generate_private_key(ec.SECP256R1())
            encoded = loaded.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(file, encoded)
        except (OSError, ValueError) as error:
            hint = "remove it to have another account made"
            raise AtollError(f"the account's key cannot be read: {error}", hint, str(file)) from error
        return JWKEC(key=ComparableECKey(loaded))

    def _log_in(self) -> None:
        """Find the account of our key, or make it."""
        terms = self._terms()
        if self._client.external_account_required():
            hint = "this server wants accounts that were opened elsewhere; choose another one"
            raise AtollError("external account binding is not supported", hint, self._server.directory)
        registration = messages.NewRegistration.from_data(
            email=self._server.email or None, terms_of_service_agreed=True
        )
        known = messages.RegistrationResource(body=registration)
        try:
            self._client.query_registration(known)
            return
        except messages.Error as error:
            if error.code != "accountDoesNotExist":
                raise
        if terms and not self._server.agreed:
            raise AtollError("the server's terms have not been agreed to", "add --agree-terms", terms)
        self._client.net.account = None
        self._client.new_account(registration)

    def _terms(self) -> str:
        meta = getattr(self._client.directory, "meta", None)
        return str(getattr(meta, "terms_of_service", "") or "")

    # --- challenges

    @contextlib.contextmanager
    def _answering(self, order: messages.OrderResource) -> Iterator[None]:
        """Have the edge answer what the order asks, as long as it does."""
        self._challenges.mkdir(parents=True, exist_ok=True, mode=0o700)
        files: list[Path] = []
        try:
            for authorization in order.authorizations:
                if authorization.body.status == messages.STATUS_PENDING:
                    challenge = _http_challenge(authorization)
                    response, answer = challenge.chall.response_and_validation(self._key)
                    files.append(self._challenges / challenge.chall.encode("token"))
                    write_private(files[-1], answer.encode())
                    self._client.answer_challenge(challenge, response)
            yield
        finally:
            for file in files:
                file.unlink(missing_ok=True)


def _http_challenge(authorization: messages.AuthorizationResource) -> messages.ChallengeBody:
    for challenge in authorization.body.challenges:
        if isinstance(challenge.chall, challenges.HTTP01):
            return challenge
    name = authorization.body.identifier.value
    raise AtollError(f"{name} cannot be proven over HTTP", "the server offers no http-01 for it")


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """The library's errors as sentences."""
    try:
        yield
    except errors.ValidationError as error:
        reasons = [_validation(each) for each in error.failed_authzrs]
        hint = "its DNS must lead here, and port 80 to the edge"
        raise AtollError(_short("; ".join(reasons)), hint, what) from error
    except messages.Error as error:
        hint = "the server counts orders and failures; wait" if error.code == "rateLimited" else ""
        raise AtollError(_short(f"the ACME server refuses: {error.detail or error}"), hint, what) from error
    except errors.IssuanceError as error:
        raise AtollError(_short(f"the ACME server did not issue: {error.error}"), where=what) from error
    except errors.TimeoutError as error:
        raise AtollError(f"the order took longer than {DEADLINE_S:.0f} s", "try again", what) from error
    except OSError as error:
        if error.filename is not None:  # a disk of ours
            raise AtollError(
                f"a file cannot be written: {error.strerror}", where=str(error.filename)
            ) from error
        raise AtollError(_short(f"the ACME server cannot be reached: {error}"), where=what) from error
    except (errors.Error, DeserializationError, ValueError) as error:
        reason = str(error.__cause__ or error) or type(error).__name__
        raise AtollError(
            _short(f"the ACME server does not answer as it should: {reason}"), where=what
        ) from error


def _validation(authorization: messages.AuthorizationResource) -> str:
    name = authorization.body.identifier.value
    found = [c.error.detail for c in authorization.body.challenges if c.error is not None]
    return f"{name} was not proven: {'; '.join(map(str, found))}"


def _short(text: str) -> str:
    return " ".join(text.split())[:_MAX_TROUBLE]
