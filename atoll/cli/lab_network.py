"""What the commands of `atoll lab` share: the running network as experiments see it, and their progress."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from time import monotonic, sleep
from typing import Final
from urllib.parse import urlsplit

import msgspec
from rich import progress as progress_bar
from rich.console import Console

from atoll.cli.client import Client
from atoll.config.paths import Endpoints, resolve
from atoll.config.spec import NetworkSpec
from atoll.control.answers import Pop, Status
from atoll.edge.tier import shield_of
from atoll.errors import AtollError
from atoll.internet.laptop import LAB_ORIGIN
from atoll.lab.failover import choose_city
from atoll.lab.scene import Scene
from atoll.wire.messages import CatchmentTable

WHOLE_S: Final = 60.0  # within which a network that was hurt is whole again
_DESCRIPTORS: Final = 16_384


def gateway_port() -> int:
    """Where users connect."""
    file = resolve(os.environ, os.getuid()).endpoints_file
    try:
        return msgspec.json.decode(file.read_bytes(), type=Endpoints).http
    except (OSError, msgspec.MsgspecError):
        return Endpoints().http


def city_of_each_pop(client: Client) -> dict[str, str]:
    """From where each PoP is asked."""
    pops = client.get("/v1/pops", tuple[Pop, ...])
    rows = client.get("/v1/catchment", CatchmentTable).rows
    return {pop.code: choose_city(rows, pop.code, pop.city) for pop in pops if pop.state == "up"}


def scene_of(client: Client) -> Scene:
    """The lab's site on the running network.

    Raises:
        AtollError: this network has no lab.
    """
    network = _network()
    origin = next((spec for spec in network.origins if spec.host == LAB_ORIGIN), None)
    pool = next(
        (spec for spec in network.pools if origin is not None and spec.origins == (LAB_ORIGIN,)), None
    )
    if origin is None or pool is None:
        raise AtollError("this network has no lab", "a network that `atoll up` has made does")
    parts = urlsplit(origin.url)
    places = {spec.host: (spec.lat, spec.lon) for spec in network.origins}
    _raise_descriptor_limit()
    return Scene(
        gateway=("127.0.0.1", gateway_port()),
        origin=(parts.hostname or "127.0.0.1", parts.port or 80),
        cities=city_of_each_pop(client),
        shield=shield_of(pool, places, network.pops),
    )


def _network() -> NetworkSpec:
    file = resolve(os.environ, os.getuid()).network_file
    try:
        return msgspec.json.decode(file.read_bytes(), type=NetworkSpec)
    except OSError:
        raise AtollError("no network is running", "start one with `atoll up`") from None
    except msgspec.MsgspecError as error:
        raise AtollError(f"not a network: {error}", where=str(file)) from error


def _raise_descriptor_limit() -> None:
    """Every user is a connection; shells often allow 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _DESCRIPTORS)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pop_of(client: Client, code: str) -> Pop:
    """A PoP as it is now.

    Raises:
        AtollError: there is none of that name.
    """
    pops = {pop.code: pop for pop in client.get("/v1/pops", tuple[Pop, ...])}
    if code not in pops:
        raise AtollError(f"no PoP {code}", hint=f"there are {', '.join(pops)}")
    return pops[code]


def until_whole(client: Client, limit_s: float = WHOLE_S) -> float:
    """Wait until nothing is wrong with the network; milliseconds.

    Raises:
        AtollError: something still is.
    """
    began_s = monotonic()
    wrong: tuple[str, ...] = ("it does not answer",)
    while monotonic() - began_s < limit_s:
        with contextlib.suppress(AtollError):  # the API may be among what was hurt
            wrong = client.get("/v1/status", Status).degraded
            if not wrong:
                return (monotonic() - began_s) * 1000
        sleep(0.05)
    raise AtollError(f"the network is not whole again: {'; '.join(wrong)}", "look at `atoll status`")


def bar(*, quiet: bool) -> progress_bar.Progress:
    """A progress bar where somebody looks."""
    shown = not quiet and sys.stderr.isatty()
    columns = (
        progress_bar.TextColumn("{task.description}"),
        progress_bar.BarColumn(),
        progress_bar.MofNCompleteColumn(),
        progress_bar.TimeElapsedColumn(),
    )
    return progress_bar.Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
