"""Policy files: what sites, routes, pools and origins should do, in TOML. Pure: the caller reads the file.

    [[origin]]                      # a server that holds the truth
    name = "app-1"
    url = "http://10.0.0.11:8080"

    [[pool]]                        # origins that can answer for each other
    name = "app"
    origins = ["app-1", "http://10.0.0.12:8080"]

    [[site]]                        # a host name; "*" is every other one
    host = "www.example.com"

    [[site.route]]                  # the longest matching path wins
    path = "/api/*"
    pool = "app"
    cache = false

Every field of every spec may be said (`atoll.config.policy_fields`); a mistake is told with its line. What a
file leaves out is the spec's default, but for five things:

- Freshness is not guessed (`heuristics`): what a response does not say, it is not.
- Origins are not asked for `/health`: only those with a `health_path` are checked.
- What is stale is not served when origins fail, unless `stale_if_error` or the response itself says so.
- An origin's name may lead to a private address unless `allow_private = false`: whoever writes the file owns
  what it names.
- Origins without a place (`lat`, `lon`) take turns by their weights: none of them is nearer than another.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from atoll.config.located import Document, Path, parse_toml
from atoll.config.policy_fields import Defaults, Lookup, Reader, shown
from atoll.config.policy_schema import site_name
from atoll.config.spec import ANYWHERE, OriginSpec, Policy, PoolSpec, RouteSpec, SiteSpec
from atoll.errors import AtollError

MAX_FILE: Final = 4 * 1024 * 1024
"""Characters of a policy file."""

FILE_DEFAULTS: Final[Defaults] = {
    RouteSpec: {"stale_if_error_s": 0, "heuristics": False},
    OriginSpec: {"health_path": "", "allow_private": True},
    SiteSpec: {"name": ""},
}

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME: Final = re.compile(r"[A-Za-z0-9\[](?:[A-Za-z0-9._:\[\]-]{0,251}[A-Za-z0-9\]])?")
_SITE_NAME: Final = re.compile(_LABEL)
_PATH: Final = re.compile(r"/[!-\"$-)+->@-~]*\*?")  # visible ASCII without # ? and a * that is not last
_SPEC = TypeVar("_SPEC", bound=msgspec.Struct)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy is read for: names that exist without it, and what makes sense there."""

    pools: Collection[str] = ()
    origins: Collection[str] = ()
    pool: str = ""  # of routes that name none
    anywhere: bool = True  # whether a site may be every other host
    functions: bool = True  # whether routes may lead to functions


class PolicyFile(msgspec.Struct, frozen=True):
    """A policy, and where each part of it stands."""

    policy: Policy
    reader: Reader

    def where(self, place: str) -> str:
        """`file:line` of what a PoP calls `sites.NAME.routes[PATH].admission.limits[0].by`, say."""
        for site in self.policy.sites:
            for route in site.routes:
                prefix = f"sites.{site.name}.routes[{route.path}]"
                if place.startswith(prefix):
                    parts = re.findall(r"\w+", place[len(prefix) :])
                    inside = [int(part) if part.isdigit() else part for part in parts]
                    return self.reader.where(self.reader.descend(route, inside))
        return self.reader.where(())

    def located(self, error: AtollError) -> AtollError:
        """The error of a PoP that cannot work by this policy, with the line."""
        return AtollError(error.message, error.hint, self.where(error.where))


def parse(
    name: str, text: str, lookup: Lookup, folder: str = ".", around: Surroundings | None = None
) -> PolicyFile:
    """The policy that the file `name` says; `lookup` finds secrets, relative paths begin at `folder`.

    Raises:
        AtollError: a mistake, with the file, the line, and what would be right.
    """
    if len(text) > MAX_FILE:
        raise AtollError("too long for a policy", f"at most {MAX_FILE} characters", name)
    document = parse_toml(name, text)
    reader = Reader(document, lookup, folder, FILE_DEFAULTS)
    read = reader.read(Policy, document.fields, ())
    around = around or Surroundings()
    placed = {origin.host for origin in read.origins if reader.says(origin, "lat")}
    policy = msgspec.structs.replace(
        read,
        origins=(*read.origins, *_named_by_url(read, reader)),
        pools=tuple(_pool(pool, reader, placed) for pool in read.pools),
        sites=tuple(_site(site, reader, read, around) for site in read.sites),
    )
    _Check(policy, reader, around, document).all()
    return PolicyFile(policy, reader)


def plain_route(pool: str = "") -> RouteSpec:
    """A route of which a file says nothing but where it leads."""
    return msgspec.convert({"pool": pool, **FILE_DEFAULTS[RouteSpec]}, RouteSpec)


def plain_origin(url: str) -> OriginSpec:
    """An origin of which only the URL is said."""
    said = {"host": origin_name(url), "url": url}
    return msgspec.convert({**said, **FILE_DEFAULTS[OriginSpec]}, OriginSpec)


def origin_name(url: str) -> str:
    """The name of an origin that is only known by its URL: its host and port.

    Raises:
        AtollError: it is no URL.
    """
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError as error:
        raise AtollError(f"{url!r} is no URL: {error}", "http://host:port or https://host:port") from error


def _named_by_url(policy: Policy, reader: Reader) -> list[OriginSpec]:
    """The origins that pools name by their URLs.

    Raises:
        AtollError: one is no URL.
    """
    known = {origin.host for origin in policy.origins}
    found: dict[str, OriginSpec] = {}
    for pool in policy.pools:
        for url in (*pool.origins, pool.failover):
            try:
                name = origin_name(url) if "://" in url else ""
            except AtollError as error:
                raise reader.mistake(reader.place(pool, "origins"), error.message, error.hint) from error
            if name and name not in known:
                found.setdefault(name, plain_origin(url))
    return list(found.values())


def _pool(pool: PoolSpec, reader: Reader, placed: set[str]) -> PoolSpec:
    """`pool` with its origins by name; `placed` are the origins that say where they are."""

    def name(text: str) -> str:
        return origin_name(text) if "://" in text else text

    named = tuple(name(text) for text in pool.origins)
    balance = pool.balance
    if not reader.says(pool, "balance") and not any(host in placed for host in named):
        balance = "weighted"
    changed = msgspec.structs.replace(pool, origins=named, failover=name(pool.failover), balance=balance)
    return _moved(pool, changed, reader)


def _site(site: SiteSpec, reader: Reader, policy: Policy, around: Surroundings) -> SiteSpec:
    """`site` with its name, its host in lowercase, a route at least, and each route's pool."""
    host = site.host.lower().rstrip(".")
    routes = site.routes
    if not routes:
        routes = (plain_route(),)
        reader.remember(routes[0], reader.place(site))
    usual = around.pool or (policy.pools[0].name if len(policy.pools) == 1 else "")
    routes = tuple(
        route
        if route.pool or route.function or not usual
        else _moved(route, msgspec.structs.replace(route, pool=usual), reader)
        for route in routes
    )
    named = msgspec.structs.replace(
        site,
        name=site.name or site_name(host),
        host=host,
        aliases=tuple(alias.lower().rstrip(".") for alias in site.aliases),
        routes=routes,
    )
    return _moved(site, named, reader)


def _moved(before: _SPEC, after: _SPEC, reader: Reader) -> _SPEC:
    """`after`, which stands where `before` does."""
    reader.remember(after, reader.place(before))
    return after


class _Check:
    """What one table alone cannot say: names that exist, names that are taken, what fits together."""

    def __init__(self, policy: Policy, reader: Reader, around: Surroundings, document: Document) -> None:
        self._policy = policy
        self._reader = reader
        self._around = around
        self._document = document
        self._origins = {origin.host for origin in policy.origins} | set(around.origins)
        self._pools = {pool.name for pool in policy.pools} | set(around.pools)

    def all(self) -> None:
        """Every check, in the order in which a file is understood."""
        for origin in self._policy.origins:
            self._origin(origin)
        self._unique("origin", self._policy.origins, "host")
        for pool in self._policy.pools:
            self._pool(pool)
        self._unique("pool", self._policy.pools, "name")
        self._hosts()
        for site in self._policy.sites:
            self._site(site)
        self._unique("site", self._policy.sites, "name")

    def _refuse(self, spec: msgspec.Struct, field: str, message: str, hint: str) -> AtollError:
        path: Path = self._reader.place(spec, field)
        return self._reader.mistake(path, message, hint)

    def _unique(self, what: str, specs: Iterable[msgspec.Struct], field: str) -> None:
        seen: dict[str, msgspec.Struct] = {}
        for spec in specs:
            name = getattr(spec, field)
            if name in seen:
                first = self._document.where(self._reader.place(seen[name], field))
                raise self._refuse(spec, field, f"a second {what} {name!r}", f"the first is at {first}")
            seen[name] = spec

    def _origin(self, origin: OriginSpec) -> None:
        if not _NAME.fullmatch(origin.host):
            hint = "letters, digits, dots and hyphens, as in app-1 or app-1.internal"
            raise self._refuse(origin, "host", f"{shown(origin.host)} cannot be an origin's name", hint)
        try:
            parts = urlsplit(origin.url)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
        except ValueError:
            wrong = True
        if (
            wrong
            or parts.path not in ("", "/")
            or parts.query
            or parts.fragment
            or parts.username is not None
        ):
            hint = "http://host:port or https://host:port, without a path"
            raise self._refuse(origin, "url", f"{shown(origin.url)} cannot be an origin's URL", hint)
        if origin.health_path and not _PATH.fullmatch(origin.health_path.partition("?")[0]):
            hint = "a path, such as /health"
            raise self._refuse(origin, "health_path", f"{shown(origin.health_path)} is no path", hint)

    def _pool(self, pool: PoolSpec) -> None:
        if not _NAME.fullmatch(pool.name):
            hint = "letters, digits, dots and hyphens"
            raise self._refuse(pool, "name", f"{shown(pool.name)} cannot be a pool's name", hint)
        if not pool.origins:
            raise self._refuse(pool, "origins", f"pool {pool.name} has no origins", "name one at least")
        for field, names in (("origins", pool.origins), ("failover", (pool.failover,))):
            for name in names:
                if name and name not in self._origins:
                    hint = f"there are: {_listed(self._origins)}; or give its URL"
                    raise self._refuse(pool, field, f"pool {pool.name}: no origin {shown(name)}", hint)

    def _hosts(self) -> None:
        seen: dict[str, SiteSpec] = {}
        for site in self._policy.sites:
            for field, names in (("host", (site.host,)), ("aliases", site.aliases)):
                for name in names:
                    self._host(site, field, name)
                    if name in seen:
                        first = self._document.where(self._reader.place(seen[name]))
                        raise self._refuse(
                            site, field, f"host {name!r} is another site's", f"it is at {first}"
                        )
                    seen[name] = site

    def _host(self, site: SiteSpec, field: str, name: str) -> None:
        if name == ANYWHERE:
            if field == "host" and self._around.anywhere:
                return
            hint = "name its hosts" if field == "host" else 'host = "*" alone is every other host'
            raise self._refuse(site, field, 'a site cannot be "*" here', hint)
        if len(name) > 253 or not _HOST.fullmatch(name):
            hint = "a name without scheme, port and path: www.example.com" + (
                '; or "*", every other host' if self._around.anywhere and field == "host" else ""
            )
            raise self._refuse(site, field, f"{shown(name)} is no host name", hint)

    def _site(self, site: SiteSpec) -> None:
        if not _SITE_NAME.fullmatch(site.name):
            hint = "small letters, digits and hyphens, at most 63"
            raise self._refuse(site, "name", f"{shown(site.name)} cannot be a site's name", hint)
        tls = site.tls
        if tls.clients != "off" and not tls.client_ca:
            hint = "client_ca: a PEM file of the authorities whose clients are believed"
            raise self._refuse(tls, "clients", f"site {site.name} asks clients for certificates", hint)
        paths: dict[str, RouteSpec] = {}
        for route in site.routes:
            self._route(site, route)
            if route.path in paths:
                first = self._document.where(self._reader.place(paths[route.path], "path"))
                message = f"site {site.name} has a second route for {route.path}"
                raise self._refuse(route, "path", message, f"the first is at {first}")
            paths[route.path] = route

    def _route(self, site: SiteSpec, route: RouteSpec) -> None:
        if not _PATH.fullmatch(route.path):
            hint = 'an exact path, "/about", or one that ends in *: "/api/*", "/*"; no query'
            raise self._refuse(route, "path", f"{shown(route.path)} cannot be routed", hint)
        if route.function and not self._around.functions:
            raise self._refuse(
                route, "function", "functions need a network", "`atoll up`, then `atoll apply`"
            )
        if not route.pool and not route.function:
            message = f"site {site.name}: route {route.path} leads nowhere"
            raise self._refuse(route, "path", message, f"pool = one of: {_listed(self._pools)}")
        if route.pool and route.pool not in self._pools:
            hint = f"there are: {_listed(self._pools)}"
            raise self._refuse(route, "pool", f"no pool {shown(route.pool)}", hint)


def _listed(names: Collection[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:12]) + (", …" if len(found) > 12 else "") if found else "none"
