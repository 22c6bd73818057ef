"""A PoP's agent: `python -m atoll.node.agent`, started by the PoP's supervisor.

It follows the control plane over NATS, has the function hosts it needs started, and gives every edge worker
of its PoP one snapshot at a time: written to disk first, then pushed, then acknowledged to the control plane
with a receipt. It serves from disk when NATS is away, at start too, and nothing it does not understand ever
replaces what serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Final, Never

import msgspec
import nats.errors
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from atoll.config.paths import PURGES
from atoll.config.spec import NetworkSpec, PopSpec, Snapshot
from atoll.control import reconcile
from atoll.control.link import Link
from atoll.control.presence import Presence
from atoll.control.purges import Purger
from atoll.control.specs import Specs, continues, filled
from atoll.control.store import Store
from atoll.errors import AtollError, RemoteError
from atoll.node.agent_disk import PopDisk, load_network
from atoll.node.agent_edges import EdgeWorkers
from atoll.node.agent_hosts import FunctionHosts
from atoll.node.agent_purges import Purges
from atoll.node.role import RoleConfig, notify_ready, read_role
from atoll.wire import control as wire
from atoll.wire import frames
from atoll.wire.messages import Message, PurgeRequest, PurgeState

HEARTBEAT_S: Final = 1.0

_log = logging.getLogger("atoll.agent")


class Agent:
    """One PoP's agent."""

    def __init__(self, config: RoleConfig, pop: PopSpec) -> None:
        paths = config.paths
        run = paths.pop_run(pop.code)
        self._pop = pop
        self._disk = PopDisk(paths.pop_data(pop.code))
        self._network_file = paths.network_file
        self._link = Link(config.nats_url, f"agent-{pop.code}")
        self._store: Store | None = None
        edges = [run / f"edge-{i}.sock" for i in range(pop.edges)]
        self._edges = EdgeWorkers(edges, self._acknowledged)
        self._purges = Purges(pop.code, edges, self._publish_purged)
        self._presence = Presence()
        self._purger = Purger((), self._presence)
        self._purge_socket = run / PURGES
        self._hosts = FunctionHosts(run / "supervisor.sock", self._disk, self._fetch, self._rebuild)
        self._specs = Specs()
        self._offered: Specs | None = None  # of a store that is not the one it follows
        self._outdated: NetworkSpec | None = None  # of a run before: the ports have moved since
        self._disk_fails = False
        self._seen_s = monotonic()
        self._snapshot: Snapshot | None = None
        self._serving: dict[str, str] = {}
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Never:
        """Serve what the disk says, then follow the control plane."""
        self._start_from_disk()
        notify_ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._edges.run())
            group.create_task(self._purges.run())
            group.create_task(self._take_purge_requests())
            group.create_task(self._hosts.run())
            group.create_task(self._beat())
            group.create_task(self._link.run(self._session, self._lost))
        raise AssertionError("an agent runs until it is stopped")

    def _start_from_disk(self) -> None:
        last = self._disk.load_snapshot()
        if last is not None:
            self._serving = {f"{f.tenant}.{f.name}": f.version for f in last.functions}
        specs = self._disk.load_specs() or Specs()
        local = load_network(self._network_file)
        if local is not None and specs.network != local:
            self._outdated = specs.network
            specs = msgspec.structs.replace(specs, network=local)
            self._relocate(last, local, specs)
        if specs.network is not None:
            _log.info("starts from disk: seq %d, %d functions", specs.seq, len(specs.functions))
            self._follow(specs)

    def _relocate(self, last: Snapshot | None, network: NetworkSpec, specs: Specs) -> None:
        """Edge workers have started from a snapshot with ports of a run before: correct them at once."""
        with contextlib.suppress(AtollError):  # routes that collide: `_rebuild` says so
            if last is not None:
                moved = reconcile.relocated(last, network, specs.functions, specs.policy)
                self._save(partial(self._disk.save_snapshot, moved))
                self._edges.serve(moved)

    async def _session(self, client: Client) -> None:
        """One connection's life: answer `prepare`, follow the store."""
        store = await Store.open(client)
        self._store = store
        purging = asyncio.ensure_future(self._purges.session(client))
        try:
            await client.subscribe(wire.ALL_HEARTBEATS, cb=self._on_heartbeat)
            await self._purger.session(client)
            subject = wire.prepare_subject(self._pop.code)
            await client.subscribe(subject, cb=self._on_prepare)
            await client.subscribe(wire.adopt_subject(self._pop.code), cb=self._on_adopt)
            async for specs in store.watch():
                self._link.settled()
                self._take(specs)
        finally:
            self._store = None
            self._purger.lost()
            purging.cancel()

    def _lost(self, reason: str) -> None:
        _log.warning(
            "no control plane (%s): serving seq %d from disk until it is back", reason, self._specs.seq
        )

    def _take(self, specs: Specs) -> None:
        """Follow the store, unless it is another one, or says less than what is known."""
        if self._specs.store in ("", specs.store):
            specs = filled(specs, self._specs)
        if specs.network is None:
            return  # a store still empty is not a wish to serve nothing
        if not continues(specs, self._specs):
            self._decline(specs)
            return
        self._offered = None
        specs = self._moved(specs)
        if specs != self._specs:
            self._save(partial(self._disk.save_specs, specs))
            self._follow(specs)

    def _moved(self, specs: Specs) -> Specs:
        """`specs` with this run's network as long as the control plane has not stored it yet."""
        if specs.network == self._outdated:
            return msgspec.structs.replace(specs, network=self._specs.network)
        self._outdated = None
        return specs

    def _decline(self, specs: Specs) -> None:
        if self._offered is None:
            _log.error(
                "the store is %s at seq %d, this PoP follows %s at %d: serving on what it has; "
                "`atoll adopt-store` if it was replaced on purpose",
                specs.store or "without a name",
                specs.seq,
                self._specs.store or "one without a name",
                self._specs.seq,
            )
        self._offered = specs

    def _follow(self, specs: Specs) -> None:
        self._specs = specs
        if specs.network is not None:
            self._purger.pops = tuple(pop.code for pop in specs.network.pops)
        self._seen_s = monotonic()
        self._hosts.want(reconcile.wanted_hosts(specs.functions, self._serving))
        self._rebuild()

    def _rebuild(self) -> None:
        """A snapshot of what can be served now; to disk, then to the edge workers, if it is another."""
        specs, ready = self._specs, self._hosts.ready
        if specs.network is None or not self._may_start():
            return
        serving = reconcile.serving_versions(specs.functions, ready, self._serving)
        try:
            snapshot = reconcile.snapshot(specs, self._pop, ready, serving)
        except AtollError as error:
            _log.error("seq %d cannot be served, the one before it stays: %s", specs.seq, error)
            return
        if snapshot != self._snapshot:
            self._save(partial(self._disk.save_snapshot, snapshot))
            self._snapshot = snapshot
            self._edges.serve(snapshot)
        if serving != self._serving:
            self._serving = serving
            self._hosts.want(reconcile.wanted_hosts(specs.functions, serving))

    def _save(self, save: Callable[[], None]) -> None:
        """For the next start. A full disk takes nothing out of service: what is in memory serves on."""
        try:
            save()
        except OSError as error:
            if not self._disk_fails:
                _log.error("cannot be kept on disk, a restart would serve what was before: %s", error)
            self._disk_fails = True

    def _save_again(self) -> None:
        """What could not be kept; tried once a second."""
        try:
            self._disk.save_specs(self._specs)
            if self._snapshot is not None:
                self._disk.save_snapshot(self._snapshot)
        except OSError:
            return
        _log.info("kept on disk again")
        self._disk_fails = False

    def _may_start(self) -> bool:
        """At start, the snapshot on disk stays until every active host has had its chance."""
        if not self._started:
            active = reconcile.active_hosts(self._specs.functions)
            self._started = active <= self._hosts.tried or self._disk.load_snapshot() is None
        return self._started

    def _acknowledged(self, snapshot: Snapshot) -> None:
        """Every edge worker serves `snapshot`."""
        if not self._link.connected or not reconcile.up_to_date(self._specs.functions, self._serving):
            return
        ms = round((monotonic() - self._seen_s) * 1000, 2)
        receipt = wire.Receipt(
            pop=self._pop.code, seq=snapshot.seq, ms=ms, functions=self._serving, store=self._specs.store
        )
        self._spawn(self._publish(wire.receipt_subject(self._pop.code), receipt))

    async def _on_prepare(self, message: Msg) -> None:
        self._spawn(self._prepare(message))

    async def _prepare(self, message: Msg) -> None:
        started_s = monotonic()
        try:
            request = wire.decode(message.data, wire.PrepareRequest)
            host = reconcile.host_id(request.tenant, request.name, request.version)
            await self._hosts.prepare(host, request.bundle)
            reply = wire.PrepareReply(ok=True, ms=round((monotonic() - started_s) * 1000, 2))
        except AtollError as error:
            _log.warning("prepare refused: %s", error)
            reply = wire.PrepareReply(ok=False, message=error.message, hint=error.hint, where=error.where)
        with contextlib.suppress(nats.errors.Error, OSError):
            await message.respond(wire.encode(reply))

    async def _fetch(self, digest: str) -> bytes:
        if self._store is None:
            raise RemoteError("NATS is not reachable", 503)
        return await self._store.get_bundle(digest)

    async def _beat(self) -> Never:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._hosts.sweep()
            if self._disk_fails:
                self._save_again()
            if self._link.connected:
                edges = await self._edges.stats()
                beat = wire.Heartbeat(
                    pop=self._pop.code,
                    seq=self._edges.seq,
                    functions=self._serving,
                    edges=edges,
                    store=self._specs.store,
                )
                await self._publish(wire.heartbeat_subject(self._pop.code), beat)

    async def _on_adopt(self, message: Msg) -> None:
        self._spawn(self._adopt(message))

    async def _adopt(self, message: Msg) -> None:
        """Follow the store that is there, because the operator says that it is the right one."""
        request = wire.decode(message.data, wire.AdoptRequest)
        offered = self._offered
        if offered is not None and offered.store == request.store:
            _log.warning("adopts store %s at seq %d", offered.store, offered.seq)
            self._offered = None
            self._edges.start_anew()
            self._save(partial(self._disk.save_specs, offered))
            self._follow(offered)
        follows = self._offered is None and self._specs.store == request.store
        reply = wire.AdoptReply(ok=follows, message="" if follows else "has not read that store yet")
        with contextlib.suppress(nats.errors.Error, OSError):
            await message.respond(wire.encode(reply))

    async def _on_heartbeat(self, message: Msg) -> None:
        self._presence.heard(wire.decode(message.data, wire.Heartbeat), monotonic())

    async def _take_purge_requests(self) -> None:
        """Workers ask here, for a client that may or for a write that is to be known everywhere."""
        await (await frames.serve(self._purge_socket, self._on_purge_request)).serve_forever()

    async def _on_purge_request(self, _peer: frames.Peer, message: Message) -> Message | None:
        if not isinstance(message, PurgeRequest):
            return None
        done = await asyncio.gather(*(self._purger.purge(selector) for selector in message.selectors))
        pops: dict[str, str] = {}
        for pop, receipt in [item for each in done for item in each.pops.items()]:
            if pops.get(pop, "applied") == "applied":  # of several answers the one that is not
                pops[pop] = receipt.state
        return PurgeState(applied=max(each.seq for each in done), pops=pops)

    async def _publish_purged(self, receipt: wire.PurgeReceipt) -> None:
        await self._publish(wire.purge_receipt_subject(self._pop.code), receipt)

    async def _publish(self, subject: str, body: wire.Receipt | wire.Heartbeat | wire.PurgeReceipt) -> None:
        with contextlib.suppress(RemoteError, nats.errors.Error, OSError):
            await self._link.client.publish(subject, wire.encode(body))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(config: RoleConfig) -> None:
    """The role, until it is told to stop."""
    assert config.pop is not None
    work = asyncio.ensure_future(Agent(config, config.pop).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    gc.freeze()
    with contextlib.suppress(asyncio.CancelledError):
        await work


def main() -> None:
    """Entry point."""
    try:
        config = read_role(os.environ)
    except AtollError as error:
        sys.exit(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(serve(config))


if __name__ == "__main__":
    main()
