"""The control plane's memory: specs in a JetStream key-value bucket, bundles in an object store.

Every change of a spec is a compare-and-swap on the revision its author read, so no change is lost to a
race. The bucket is one JetStream stream: its sequence number is the global order (`seq`). Bundles are named
by their SHA-256 and verified when read, whoever stored them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, Iterator
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from atoll.config.spec import FunctionSpec, NetworkSpec, Policy
from atoll.control.specs import NETWORK_KEY, POLICY_KEY, STORE_KEY, Specs, changed, function_key
from atoll.errors import AtollError, RemoteError

SPECS_BUCKET: Final = "atoll"
BUNDLES_BUCKET: Final = "atoll-bundles"
HISTORY: Final = 5
FETCH_TIMEOUT_S: Final = 10.0

_log = logging.getLogger("atoll.store")


class Stored(msgspec.Struct, frozen=True):
    """Specs with the revision of each key, deleted ones too: what a compare-and-swap needs."""

    specs: Specs
    revisions: dict[str, int]


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """NATS' errors as ours, with the status the API answers."""
    try:
        yield
    except nats.js.errors.KeyWrongLastSequenceError:
        raise RemoteError(
            f"{what} was changed by someone else meanwhile", 409, "look again and retry"
        ) from None
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise RemoteError(
            f"the control plane's store does not answer ({reason})", 503, "look at `atoll logs nats`"
        ) from error


class Store:
    """Specs and bundles over one NATS connection."""

    def __init__(self, client: Client, specs: KeyValue, bundles: ObjectStore) -> None:
        self._client = client
        self._kv = specs
        self._bundles = bundles
        self._complained: set[tuple[str, int]] = set()  # key and revision of what could not be read

    @staticmethod
    async def create(client: Client) -> Store:
        """The store, its buckets made when they are missing."""
        js = client.jetstream()
        with _translated("the store"):
            kv = await js.create_key_value(KeyValueConfig(bucket=SPECS_BUCKET, history=HISTORY))
            return Store(client, kv, await js.create_object_store(BUNDLES_BUCKET))

    @staticmethod
    async def open(client: Client) -> Store:
        """The store as the control plane made it.

        Raises:
            RemoteError: it has not been made yet, or does not answer.
        """
        js = client.jetstream()
        with _translated("the store"):
            try:
                specs = await js.key_value(SPECS_BUCKET)
                return Store(client, specs, await js.object_store(BUNDLES_BUCKET))
            except nats.js.errors.NotFoundError:
                raise RemoteError("the control plane has not made its store yet", 503) from None

    async def identify(self) -> None:
        """Give the store its identity, unless it has one: whoever follows it knows it by this."""
        with _translated("the store"), contextlib.suppress(nats.js.errors.KeyWrongLastSequenceError):
            await self._kv.create(STORE_KEY, secrets.token_hex(8).encode())

    async def load(self) -> Stored:
        """Everything, as it is now."""
        specs, revisions = Specs(), dict[str, int]()
        with _translated("the store"):
            last = await self._last_revision()
            watcher = await self._kv.watchall()
            try:
                while specs.seq < last:
                    entry = await watcher.updates()  # type: ignore[no-untyped-call]
                    if entry is not None:
                        specs = self._changed(specs, entry)
                        revisions[entry.key] = _revision(entry)
            finally:
                await watcher.stop()  # type: ignore[no-untyped-call]
        return Stored(specs, revisions)

    async def watch(self) -> AsyncGenerator[Specs, None]:
        """The whole set first, then the set after every change, until the connection goes."""
        with _translated("the store"):
            last = await self._last_revision()
            watcher = await self._kv.watchall()
        specs = Specs()
        if not last:
            yield specs
        async for entry in watcher:
            if entry is not None:
                specs = self._changed(specs, entry)
                if specs.seq >= last:
                    yield specs

    def _changed(self, specs: Specs, entry: KeyValue.Entry) -> Specs:
        after = changed(specs, entry.key, _revision(entry), _value(entry))
        what = (entry.key, _revision(entry))
        if entry.key in after.unreadable and what not in self._complained:
            self._complained.add(what)
            _log.error("%s (revision %d) cannot be read: what was known before stays", *what)
        return after

    async def _last_revision(self) -> int:
        """The newest change's that is still there; 0 for a bucket without any.

        A watch brings the newest change of each key in the order of their revisions: once it has brought
        this one or a later one, nothing is missing. The library's own mark comes too early now and then, and
        the stream's last sequence number may be that of a message that was removed.
        """
        js = self._client.jetstream()
        try:
            return (await js.get_last_msg(f"KV_{SPECS_BUCKET}", f"$KV.{SPECS_BUCKET}.>")).seq or 0
        except nats.js.errors.NotFoundError:
            return 0

    async def put_function(self, spec: FunctionSpec, last: int) -> int:
        """Store a function if its key's revision is still `last` (0: it has none); its new revision."""
        with _translated(f"function {spec.name}"):
            return await self._kv.update(
                function_key(spec.tenant, spec.name), msgspec.json.encode(spec), last
            )

    async def put_network(self, spec: NetworkSpec, last: int) -> int:
        """Store the network if its key's revision is still `last`; its new revision."""
        with _translated("the network"):
            return await self._kv.update(NETWORK_KEY, msgspec.json.encode(spec), last)

    async def put_policy(self, policy: Policy, last: int) -> int:
        """Store what operators have applied if its key's revision is still `last`; its new revision."""
        with _translated("the policy"):
            return await self._kv.update(POLICY_KEY, msgspec.json.encode(policy), last)

    async def delete_function(self, tenant: str, name: str, last: int) -> None:
        """Delete a function if its key's revision is still `last`."""
        with _translated(f"function {name}"):
            await self._kv.delete(function_key(tenant, name), last)

    async def put_bundle(self, data: bytes) -> str:
        """Store a bundle, once per content; its SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        if not await self.has_bundle(digest):
            with _translated("the bundle"):
                await self._bundles.put(digest, data)
        return digest

    async def has_bundle(self, digest: str) -> bool:
        """Whether the bundle is there."""
        with _translated("the bundle"):
            try:
                await self._bundles.get_info(digest)
            except nats.js.errors.ObjectNotFoundError:
                return False
        return True

    async def bundles(self) -> set[str]:
        """Every bundle that is there."""
        with _translated("the bundles"):
            try:
                found = await self._bundles.list(ignore_deletes=True)
            except nats.js.errors.NotFoundError:
                return set()
        return {info.name for info in found if info.name}

    async def get_bundle(self, digest: str) -> bytes:
        """The bundle of that SHA-256.

        Raises:
            AtollError: what is stored under the name has another content.
            RemoteError: it is not there, or the store does not answer.
        """
        try:
            with _translated("the bundle"):
                async with asyncio.timeout(FETCH_TIMEOUT_S):
                    found = await self._bundles.get(digest)
        except RemoteError as error:
            if isinstance(error.__cause__, nats.js.errors.ObjectNotFoundError):
                raise RemoteError(f"no bundle {digest[:16]} in the store", 404) from None
            raise
        data = found.data or b""
        if hashlib.sha256(data).hexdigest() != digest:
            raise AtollError(f"bundle {digest[:16]} is damaged in the store", hint="deploy it again")
        return data

    async def delete_bundle(self, digest: str) -> None:
        """Forget a bundle; one that is not there is no error."""
        with _translated("the bundle"), contextlib.suppress(nats.js.errors.NotFoundError):
            await self._bundles.delete(digest)


def _revision(entry: KeyValue.Entry) -> int:
    assert entry.revision is not None, "a watched entry has its stream sequence"
    return entry.revision


def _value(entry: KeyValue.Entry) -> bytes | None:
    return None if entry.operation in ("DEL", "PURGE") else entry.value
