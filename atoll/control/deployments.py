"""Deploy, roll back, remove: the order of steps of `rollout`, over NATS.

1. Store the bundle. 2. Prepare it on every PoP at once. 3. Certificates for new names. 4. One
compare-and-swap activates it. 5. Collect a receipt from each PoP that prepared. A step that fails leaves
what serves untouched.

Bundles are shared by content: a deploy that fails never deletes one, because another deploy of the same
content may be about to activate it. They are deleted where versions are forgotten, under the lock of the
compare-and-swap, which looks that its bundle is still there; what failed deploys left goes when the next
session with the store begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
from collections.abc import Collection
from pathlib import Path
from time import monotonic, time
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from atoll.config.plain import DEPTH_HINT, TOO_DEEP, first_mistake
from atoll.config.spec import (
    DEFAULT_TENANT,
    BundleManifest,
    FunctionSpec,
    FunctionVersion,
    NetworkSpec,
    Policy,
)
from atoll.control import rollout
from atoll.control.answers import FOLLOWS, Adoption, Change, Purge, PurgeWish
from atoll.control.certificates import ensure_leaves, network_names
from atoll.control.link import Link
from atoll.control.presence import Presence
from atoll.control.purge_wishes import selector_of
from atoll.control.purges import Purger
from atoll.control.rollout import Absent, PopReceipt, Preparation, Prepared, Refused
from atoll.control.sites import compile_network
from atoll.control.specs import NETWORK_KEY, Specs, function_key, with_function
from atoll.control.store import Store, Stored
from atoll.edge.routing import table_of
from atoll.errors import AtollError, RemoteError
from atoll.functions.workers import bundle
from atoll.wire import control as wire

PREPARE_TIMEOUT_S: Final = 30.0
RECEIPTS_TIMEOUT_S: Final = 5.0
ADOPT_TIMEOUT_S: Final = 5.0
GRACE_S: Final = 1.0
ROLLBACK_PATIENCE_S: Final = 1.0  # for the PoPs that are slower than the first
_LOOK_S: Final = 0.5
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # part of subjects and host names


class ControlPlane:
    """The control plane's side of NATS: one store, what the PoPs say, and the changes it makes."""

    def __init__(self, link: Link, network: NetworkSpec, ca: Path) -> None:
        self._link = link
        self._network = network
        self._ca = ca
        self._store: Store | None = None
        self._commit = asyncio.Lock()
        self.presence = Presence()
        self._purger = Purger([pop.code for pop in network.pops], self.presence)

    @property
    def network(self) -> NetworkSpec:
        """What this run has by itself: without what operators have applied, and without functions' sites."""
        return self._network

    @property
    def connected(self) -> bool:
        """Whether the store is at hand."""
        return self._link.connected and self._store is not None

    @property
    def store(self) -> Store:
        """The store.

        Raises:
            RemoteError: NATS is not reachable.
        """
        if self._store is None:
            raise RemoteError("NATS is not reachable", 503, "it restarts by itself; see `atoll logs nats`")
        return self._store

    async def session(self, client: Client) -> None:
        """One connection's life: buckets, subscriptions, the network's spec, then listen."""
        store = await Store.create(client)
        await client.subscribe(wire.ALL_RECEIPTS, cb=self._on_receipt)
        await client.subscribe(wire.ALL_HEARTBEATS, cb=self._on_heartbeat)
        await store.identify()
        await self._purger.session(client)
        await self._publish_network(store)
        await self._forget_bundles(store, await store.bundles())
        self._store = store
        self._link.settled()
        try:
            await asyncio.Event().wait()
        finally:
            self._store = None
            self._purger.lost()

    async def purge(self, wish: PurgeWish, down: Collection[str]) -> Purge:
        """Purge everywhere; PoPs that are `down` are not waited for.

        Raises:
            RemoteError: the wish selects nothing (422), or the network is not able to (503).
        """
        specs = (await self.store.load()).specs
        canonical = table_of(compile_network(self._network, specs.functions, specs.policy)).canonical
        try:
            selector = selector_of(wish.kind, wish.value, wish.soft, DEFAULT_TENANT, canonical)
        except AtollError as error:
            raise RemoteError(error.message, 422, error.hint, error.where) from error
        return await self._purger.purge(selector, down)

    async def put_policy(self, policy: Policy, last: int) -> tuple[float, int]:
        """Store what operators have applied, unless that has changed since revision `last`; when, and `seq`.

        Raises:
            RemoteError: a function deployed meanwhile collides with it, or somebody else was first (409).
        """
        async with self._commit:
            functions = (await self.store.load()).specs.functions
            names = network_names(compile_network(self._network, functions, policy))
            await asyncio.to_thread(ensure_leaves, self._ca, names, dt.datetime.now(dt.UTC))
            at_s = monotonic()
            return at_s, await self.store.put_policy(policy, last)

    async def receipts(
        self, alive: Collection[str], store: str, seq: int, since_s: float
    ) -> dict[str, PopReceipt]:
        """What each PoP makes of a change that needed no preparation; those `alive` are waited for."""
        pops = [pop.code for pop in self._network.pops]
        arrived = await self.presence.receipts(alive, store, seq, RECEIPTS_TIMEOUT_S)
        if len(alive) < len(pops):  # an agent that has just come back has not been heard yet
            arrived = await self.presence.receipts(pops, store, seq, GRACE_S)
        asked: dict[str, Preparation] = {pop: Prepared(None) if pop in alive else Absent() for pop in pops}
        return rollout.receipts(asked, _since(since_s, arrived))

    async def deploy(self, name: str, data: bytes) -> Change:
        """Bring a bundle into service everywhere.

        Raises:
            RemoteError: it cannot be (422), collides with another function or change (409), or the network
                is not able to (503).
        """
        started_s, store = monotonic(), self.store
        manifest = _checked_manifest(name, data)
        stored = await store.load()
        spec = stored.specs.function(DEFAULT_TENANT, name) or FunctionSpec(name=name, active="")
        digest = await store.put_bundle(data)
        version = rollout.new_version(spec, digest, len(data), manifest.routes, time())
        return await self._activate(store, stored, spec, version, started_s)

    async def rollback(self, name: str, to: str | None) -> Change:
        """Bring an earlier version back into service everywhere."""
        started_s, store = monotonic(), self.store
        stored = await store.load()
        spec = existing(stored.specs, name)
        target = rollout.rollback_target(spec, to)
        return await self._activate(store, stored, spec, target, started_s, back=True)

    async def remove(self, name: str) -> Change:
        """Take a function and its versions out of the network, also one that cannot be read."""
        started_s, store = monotonic(), self.store
        stored = await store.load()
        key = function_key(DEFAULT_TENANT, name)
        unread = key in stored.specs.unreadable
        spec = FunctionSpec(name=name, active="") if unread else existing(stored.specs, name)
        pops = [pop.code for pop in self._network.pops]
        alive = self.presence.alive(pops, started_s)
        removed_s = monotonic()
        await store.delete_function(spec.tenant, name, stored.revisions[key])
        gone = await store.load()
        seq = gone.revisions[key]
        receipts = await self.receipts(alive, gone.specs.store, seq, removed_s)
        await self._forget_bundles(store, {version.bundle for version in spec.versions})
        return Change(
            name=name,
            version="",
            number=0,
            previous=spec.active,
            seq=seq,
            pops=receipts,
            total_ms=_ms_since(started_s),
        )

    async def adopt(self) -> Adoption:
        """Have every PoP follow this store, whichever it followed before."""
        store_id = (await self.store.load()).specs.store
        pops = [pop.code for pop in self._network.pops]
        answers = await asyncio.gather(*(self._adopt_on(pop, store_id) for pop in pops))
        return Adoption(store=store_id, pops=dict(zip(pops, answers, strict=True)))

    async def _adopt_on(self, pop: str, store_id: str) -> str:
        request = wire.encode(wire.AdoptRequest(store=store_id))
        try:
            message = await self._link.client.request(wire.adopt_subject(pop), request, ADOPT_TIMEOUT_S)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            return "does not answer"
        except nats.errors.Error as error:
            raise RemoteError(f"NATS was lost while {pop} was asked ({error})", 503) from error
        reply = wire.decode(message.data, wire.AdoptReply)
        return FOLLOWS if reply.ok else reply.message

    async def _activate(
        self,
        store: Store,
        stored: Stored,
        spec: FunctionSpec,
        version: FunctionVersion,
        started_s: float,
        *,
        back: bool = False,
    ) -> Change:
        after = rollout.activated(spec, version)
        _compiled(stored.specs, after)  # a conflict is told before anything is started
        preparations = await self._prepare(spec, version, ROLLBACK_PATIENCE_S if back else None)
        ready = rollout.admit(preparations, back=back)
        activated_s, seq = await self._put(store, stored, after, version)
        arrived = await self.presence.receipts(ready, stored.specs.store, seq, RECEIPTS_TIMEOUT_S)
        change = Change(
            name=spec.name,
            version=version.id,
            number=version.number,
            previous=after.previous,
            seq=seq,
            pops=rollout.receipts(preparations, _since(activated_s, arrived)),
            total_ms=_ms_since(started_s),
            routes=after.routes,
        )
        await self._forget_bundles(
            store, {v.bundle for v in spec.versions} - {v.bundle for v in after.versions}
        )
        return change

    async def _put(
        self, store: Store, stored: Stored, after: FunctionSpec, version: FunctionVersion
    ) -> tuple[float, int]:
        """Activate `after` unless something it needs changed meanwhile; when, and `seq`."""
        async with self._commit:
            network = _compiled((await store.load()).specs, after)
            await asyncio.to_thread(ensure_leaves, self._ca, network_names(network), dt.datetime.now(dt.UTC))
            if not await store.has_bundle(version.bundle):
                message = f"version {version.number} of {after.name} was removed meanwhile"
                raise RemoteError(message, 409, "deploy it again")
            at_s = monotonic()
            last = stored.revisions.get(function_key(after.tenant, after.name), 0)
            return at_s, await store.put_function(after, last)

    async def _prepare(
        self, spec: FunctionSpec, version: FunctionVersion, patience_s: float | None
    ) -> dict[str, Preparation]:
        """What each PoP makes of it. After `patience_s` those slower than the first are absent."""
        client = self._link.client
        request = wire.PrepareRequest(
            tenant=spec.tenant, name=spec.name, version=version.id, bundle=version.bundle
        )
        pops = [pop.code for pop in self._network.pops]
        asked = {
            pop: asyncio.ensure_future(self._prepare_on(client, pop, wire.encode(request))) for pop in pops
        }
        try:
            return await _answers(asked, patience_s)
        finally:
            for task in asked.values():
                task.cancel()

    async def _prepare_on(self, client: Client, pop: str, request: bytes) -> Preparation:
        """One PoP's answer; a PoP that falls silent while it works is absent."""
        started_s = monotonic()
        subject = wire.prepare_subject(pop)
        asked = asyncio.ensure_future(client.request(subject, request, timeout=PREPARE_TIMEOUT_S))
        try:
            while not asked.done():
                await asyncio.wait({asked}, timeout=_LOOK_S)
                if not asked.done() and self.presence.silent(pop, monotonic()):
                    return Absent()
            reply = wire.decode((await asked).data, wire.PrepareReply)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            return Absent()
        except nats.errors.Error as error:
            raise RemoteError(f"NATS was lost while {pop} prepared ({error})", 503) from error
        finally:
            asked.cancel()
        if not reply.ok:
            return Refused(reply.message, reply.hint, reply.where)
        return Prepared(_ms_since(started_s))

    async def _forget_bundles(self, store: Store, candidates: set[str]) -> None:
        """Delete those of `candidates` that no version of any function names; failing costs only space."""
        if not candidates:
            return
        with contextlib.suppress(RemoteError):
            async with self._commit:
                specs = (await store.load()).specs
                if specs.unreadable:
                    return  # nobody knows which bundles these name
                named = {version.bundle for function in specs.functions for version in function.versions}
                for digest in candidates - named:
                    await store.delete_bundle(digest)

    async def _publish_network(self, store: Store) -> None:
        """Store the network's spec if the store has none, or another; certificates for its names first."""
        stored = await store.load()
        network = compile_network(self._network, stored.specs.functions, stored.specs.policy)
        await asyncio.to_thread(ensure_leaves, self._ca, network_names(network), dt.datetime.now(dt.UTC))
        if stored.specs.network != self._network:
            await store.put_network(self._network, stored.revisions.get(NETWORK_KEY, 0))

    async def _on_receipt(self, message: Msg) -> None:
        await self.presence.acknowledged(wire.decode(message.data, wire.Receipt), monotonic())

    async def _on_heartbeat(self, message: Msg) -> None:
        self.presence.heard(wire.decode(message.data, wire.Heartbeat), monotonic())


async def _answers(
    asked: dict[str, asyncio.Task[Preparation]], patience_s: float | None
) -> dict[str, Preparation]:
    """All answers; after `patience_s` those there are, if one of them is `Prepared`."""
    await asyncio.wait(asked.values(), timeout=patience_s)
    while open_ := [task for task in asked.values() if not task.done()]:
        if any(task.done() and isinstance(task.result(), Prepared) for task in asked.values()):
            break
        await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
    return {pop: task.result() if task.done() else Absent() for pop, task in asked.items()}


def _checked_manifest(name: str, data: bytes) -> BundleManifest:
    if not _NAME.fullmatch(name):
        hint = "small letters, digits and hyphens, at most 63"
        raise RemoteError(f"{name!r} cannot be a function's name", 422, hint, "name")
    try:
        manifest = bundle.read_manifest(data)
    except RecursionError:
        raise RemoteError(TOO_DEEP, 422, DEPTH_HINT, "vars") from None
    mistake = first_mistake(manifest.vars)
    if mistake is not None:
        raise RemoteError(mistake.message, 422, mistake.hint, ".".join(("vars", *map(str, mistake.path))))
    if manifest.name != name:
        hint = f"deploy it as {manifest.name}, or change its wrangler file"
        raise RemoteError(f"the bundle calls itself {manifest.name}, not {name}", 422, hint, "name")
    return manifest


def existing(specs: Specs, name: str) -> FunctionSpec:
    """The function of that name.

    Raises:
        RemoteError: there is none (404).
    """
    spec = specs.function(DEFAULT_TENANT, name)
    if spec is None:
        known = ", ".join(function.name for function in specs.functions) or "none yet"
        raise RemoteError(f"no function {name}", 404, f"deployed are: {known}")
    return spec


def _compiled(specs: Specs, after: FunctionSpec) -> NetworkSpec:
    if specs.network is None:
        raise RemoteError("the store has no network yet", 503, "try again in a moment")
    others = [f for f in specs.functions if (f.tenant, f.name) != (after.tenant, after.name)]
    compile_network(specs.network, [*others, after], specs.policy)  # last: a conflict is told as its own
    return compile_network(specs.network, with_function(specs, after).functions, specs.policy)


def _since(start_s: float, arrived: dict[str, float]) -> dict[str, float]:
    return {pop: round((at_s - start_s) * 1000, 2) for pop, at_s in arrived.items()}


def _ms_since(start_s: float) -> float:
    return round((monotonic() - start_s) * 1000, 2)
