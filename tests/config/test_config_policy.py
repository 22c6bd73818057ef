"""Policy files: every field of every spec, and every mistake by its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from atoll.config.admission import ChallengeSpec, RateLimitSpec
from atoll.config.policy import PolicyFile, Surroundings, parse
from atoll.config.policy_fields import Source
from atoll.config.policy_schema import fields_of, site_name
from atoll.config.spec import OriginSpec, Policy, PoolSpec, RouteSpec, SiteSpec
from atoll.errors import AtollError

ORIGIN = """
[[origin]]
name = "app-1"
url = "http://10.0.0.11:8080"

[[pool]]
name = "app"
origins = ["app-1"]
"""
SITE = (
    ORIGIN
    + """
[[site]]
host = "www.example.com"
"""
)


def lookup(source: Source, name: str) -> str:
    if name.endswith("missing"):
        raise AtollError(f"there is no {source} {name}", "make one")
    return f"<{source} {name}>"


def read(text: str, around: Surroundings | None = None) -> Policy:
    return parse("p.toml", text, lookup, "/etc/atoll", around).policy


def mistake(text: str, around: Surroundings | None = None) -> AtollError:
    with pytest.raises(AtollError) as caught:
        read(text, around)
    return caught.value


def line_of(text: str, part: str) -> str:
    return f"p.toml:{text[: text.index(part)].count(chr(10)) + 1}"


def test_a_file_as_people_write_it() -> None:
    policy = read(
        """
        [[origin]]
        name = "app-1"
        url = "http://10.0.0.11:8080"
        health_path = "/up"

        [[pool]]
        name = "app"
        origins = ["app-1", "https://app.example.net"]
        response_timeout = "1m"
        connect_timeout_s = 2
        retry = { body = "1MB" }

        [[pool]]
        name = "api"
        origins = ["http://10.0.0.20"]

        [[site]]
        host = "WWW.Example.com"
        aliases = ["example.com."]
        tls.minimum = "1.3"

        [[site.route]]
        pool = "app"
        stale_if_error = "1h"
        compression = true

        [[site.route]]
        path = "/api/*"
        pool = "api"
        cache = false
        """
    )
    site = policy.sites[0]
    app, api = policy.pools
    assert (site.name, site.host, site.aliases) == ("www-example-com", "www.example.com", ("example.com",))
    assert site.tls.minimum == "1.3"
    assert [(route.path, route.pool, route.cache) for route in site.routes] == [
        ("/*", "app", True),
        ("/api/*", "api", False),
    ]
    assert site.routes[0].stale_if_error_s == 3600
    assert site.routes[0].compression is not None
    assert site.routes[1].stale_if_error_s == 0
    assert (app.response_timeout_s, app.connect_timeout_s, app.retry.body) == (60, 2, 1024**2)
    assert app.retry.most == PoolSpec(name="", origins=()).retry.most
    assert app.origins == ("app-1", "app.example.net")
    assert api.balance == "weighted"
    assert {origin.host: (origin.url, origin.health_path) for origin in policy.origins} == {
        "app-1": ("http://10.0.0.11:8080", "/up"),
        "app.example.net": ("https://app.example.net", ""),
        "10.0.0.20": ("http://10.0.0.20", ""),
    }


def test_a_site_without_routes_leads_to_the_one_pool() -> None:
    [site] = read(SITE).sites
    assert [(route.path, route.pool) for route in site.routes] == [("/*", "app")]


def test_routes_without_a_pool_take_the_one_that_is_given() -> None:
    around = Surroundings(pool="origin", pools=("origin",))
    [site] = read('[[site]]\nhost = "*"\n[[site.route]]\npath = "/static/*"\n', around).sites
    assert site.routes[0].pool == "origin"
    assert site.name == site_name("*") == "anywhere"


def test_origins_with_a_place_are_balanced_by_distance() -> None:
    placed = SITE.replace('url = "', 'lat = 50\nlon = 8\nurl = "')
    assert read(placed).pools[0].balance == "nearest"
    assert read(SITE.replace('name = "app"\n', 'name = "app"\nbalance = "hash"\n')).pools[0].balance == "hash"


def test_relative_files_begin_at_the_policys_folder() -> None:
    policy = read(SITE.replace('url = "http:', 'tls.ca = "ca.pem"\nurl = "https:') + '[geo]\nasn = "/a.mmdb"')
    assert policy.origins[0].tls.ca == "/etc/atoll/ca.pem"
    assert policy.geo is not None
    assert policy.geo.asn == "/a.mmdb"


CHALLENGE = SITE + "[[site.route]]\n[site.route.admission]\nmax_body = '10MB'\nchallenge.secret = "


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('{ env = "CHALLENGE" }', "<env CHALLENGE>"),
        ('{ file = "challenge.key" }', "<file /etc/atoll/challenge.key>"),
    ],
)
def test_secrets_are_said_where_to_find(text: str, secret: str) -> None:
    policy = read(CHALLENGE + text)
    admission = policy.sites[0].routes[0].admission
    assert admission is not None
    assert admission.max_body == 10 * 1024**2
    assert admission.challenge == ChallengeSpec(secret=secret)
    assert secret not in repr(policy)


@pytest.mark.parametrize(
    "text", ['"hunter2hunter2"', '{ env = "hunter2", file = "b" }', "[1]", "{ file = 7 }"]
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(text: str) -> None:
    error = mistake(CHALLENGE + text)
    assert error.where == line_of(CHALLENGE, "challenge.secret")
    assert "hunter2" not in str(error)


def test_a_secret_that_is_not_there_is_told_by_its_line() -> None:
    error = mistake(CHALLENGE + '{ env = "missing" }')
    assert error.where == line_of(CHALLENGE, "challenge.secret")
    assert "there is no env missing" in error.message


@pytest.mark.parametrize(
    ("before", "after", "message", "hint"),
    [
        ('url = "', 'urll = "', "origin.urll is no field", "did you mean url?"),
        ('host = "www', 'server_name = "www', "site.server_name is no field", "here that is a site's host"),
        ("[[site]]", "[site]", "site is a table", "[[site]]"),
        ("[[site]]", "[[sit]]", "sit is no field", "did you mean site?"),
        ('origins = ["app-1"]', 'origins = "app-1"', "pool.origins is text", "a list"),
        ('origins = ["app-1"]', "origins = [1]", "pool.origins is a number", "text"),
        ('origins = ["app-1"]', "origins = []", "pool app has no origins", "one at least"),
        ('origins = ["app-1"]', 'origins = ["app-2"]', "no origin 'app-2'", "there are: app-1"),
        ('name = "app"', "", "pool.name is missing", "text is expected"),
        ('name = "app"', 'name = "app"\nrise = true', "pool.rise is a boolean", "a whole number"),
        ('name = "app"', 'name = "app"\nrise = 1.5', "pool.rise has a fraction", "a whole number"),
        ('name = "app"', 'name = "app"\nrise = -1', "pool.rise is below zero", "a whole number"),
        ('name = "app"', 'name = "app"\nrise = 9007199254740993', "too large", "integers"),
        ('name = "app"', 'name = "app"\nhealth_jitter = inf', "no finite number", "a number"),
        ('name = "app"', 'name = "app"\nhealth_jitter = 2026-01-01', "a date or time", "a number"),
        ('name = "app"', 'name = "app"\nhealth_statuses = [200]', "health_statuses is a list", "list of 2"),
        ('name = "app"', 'name = "app"\nbalance = "hashh"', "cannot be 'hashh'", "did you mean hash?"),
        ('name = "app"', 'name = "app"\nbalance = true', "pool.balance is a boolean", "one of"),
        ('name = "app"', 'name = "app"\nresponse_timeout = "1x"', "cannot be '1x'", '"30s"'),
        ('name = "app"', 'name = "app"\nresponse_timeout = []', "response_timeout is a list", '"30s"'),
        ('name = "app"', 'name = "app"\nretry.body = "1X"', "cannot be '1X'", '"256MB"'),
        ('name = "app"', 'name = "app"\nretry = 1', "pool.retry is a number", "a table"),
        ('name = "app"', 'name = "app"\nfailover = "x"', "no origin 'x'", "app-1"),
        ('name = "app"', 'name = "a/b"', "cannot be a pool's name", "letters"),
        ("http://10.0.0.11:8080", "10.0.0.11:8080", "cannot be an origin's URL", "http://host:port"),
        ("http://10.0.0.11:8080", "http://a/path", "cannot be an origin's URL", "without a path"),
        ("http://10.0.0.11:8080", "http://u:p@a", "cannot be an origin's URL", "http://host:port"),
        ("http://10.0.0.11:8080", "http://a:99999", "cannot be an origin's URL", "http://host:port"),
        ("www.example.com", "https://www.example.com", "is no host name", "without scheme"),
        ("www.example.com", "www.example.com:8080", "is no host name", "without scheme"),
        ("www.example.com", "*.example.com", "is no host name", "every other host"),
        ('host = "www', 'name = "A_b"\nhost = "www', "cannot be a site's name", "small letters"),
        ('host = "www', 'aliases = ["*"]\nhost = "www', 'cannot be "*"', "alone"),
        ('host = "www', 'tls.clients = "require"\nhost = "www', "asks clients for certificates", "client_ca"),
    ],
)  # fmt: skip
def test_mistakes(before: str, after: str, message: str, hint: str) -> None:
    text = SITE.replace(before, after, 1)
    error = mistake(text)
    assert message in error.message
    assert hint in error.hint
    place = after.partition("\n")[2] or after or "[[pool]]"
    expected = {line_of(text, place), line_of(text, after or "[[pool]]")}
    assert error.where in expected or "host" in after


def test_an_origin_that_is_no_url_at_all_is_a_mistake_like_others() -> None:
    text = SITE.replace('["app-1"]', '["http://[::1"]')
    error = mistake(text)
    assert "is no URL" in error.message
    assert error.where == line_of(text, "origins =")


ROUTE = SITE + "\n[[site.route]]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path = "api/*"', "cannot be routed"),
        ('path = "/a*b"', "cannot be routed"),
        ('path = "/a?b=c"', "cannot be routed"),
        ('path = "/ä"', "cannot be routed"),
        ('path = ""', "cannot be routed"),
        ('pool = "nosuch"', "no pool 'nosuch'"),
        ('cache = "no"', "site.route.cache is text"),
        ('stale_if_error = "500ms"', "has a fraction"),
        ('stale_if_error = "1s"\nstale_if_error_s = 1', "says the same"),
        ("admission = true\nadmission.x = 1", "not TOML"),
        ("admission.limit = [{ rate = 1 }]", "limit.name is missing"),
        ("admission.cors = true", "cors is a boolean"),
        ("compression = 1", "compression is a number"),
        ('path = "/a"\n[[site.route]]\npath = "/a"', "has a second route for /a"),
        ('admission.token = { keys = "x" }', "keys is text"),
        ('admission.token = { forward = { a = 1 } }', "forward.a is a number"),
        ('admission.token = { forward = "a" }', "forward is text"),
    ],
)  # fmt: skip
def test_mistakes_on_a_route(text: str, message: str) -> None:
    error = mistake(ROUTE + text)
    assert message in error.message
    assert error.hint


def test_two_sites_of_one_host_name_both_lines() -> None:
    text = SITE + '\n[[site]]\nhost = "other.example.com"\naliases = ["www.example.com"]\n'
    error = mistake(text)
    assert error.where == line_of(text, "aliases")
    assert line_of(text, "[[site]]") in error.hint


@pytest.mark.parametrize("kind", ["origin", "pool"])
def test_two_of_one_name(kind: str) -> None:
    more = {
        "origin": '[[origin]]\nname = "app-1"\nurl = "http://b"',
        "pool": '[[pool]]\nname = "app"\norigins = ["app-1"]',
    }
    error = mistake(SITE + more[kind])
    assert f"a second {kind}" in error.message


def test_a_route_that_leads_nowhere() -> None:
    text = SITE + '[[pool]]\nname = "b"\norigins = ["app-1"]\n'
    error = mistake(text)
    assert "leads nowhere" in error.message
    assert error.hint == "pool = one of: app, b"
    assert error.where == line_of(text, "[[site]]")


def test_what_the_surroundings_know_may_be_named() -> None:
    text = '[[site]]\nhost = "a.example"\n[[site.route]]\npool = "shop"\n'
    assert "no pool 'shop'" in mistake(text).message
    assert read(text, Surroundings(pools=("shop",))).sites[0].routes[0].pool == "shop"


def test_what_does_not_fit_the_surroundings_is_refused() -> None:
    assert (
        'cannot be "*" here' in mistake(ORIGIN + '[[site]]\nhost="*"', Surroundings(anywhere=False)).message
    )
    text = ROUTE + 'function = "hello"'
    assert read(text).sites[0].routes[0].function == "hello"
    assert "functions need a network" in mistake(text, Surroundings(functions=False)).message


def test_text_that_is_not_toml_or_too_long() -> None:
    assert mistake("[[site]\n").where == "p.toml:1"
    assert "too long" in mistake("#" * (4 * 1024**2 + 1)).message


@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("sites.www-example-com.routes[/api/*].admission.limits[1].rate", "rate = 7"),
        ("sites.www-example-com.routes[/api/*].admission.limits[1].per_s", 'per = "1m"'),
        ("sites.www-example-com.routes[/api/*].admission.limits[0]", "rate = 1 "),
        ("sites.www-example-com.routes[/api/*].admission.token.keys[0]", "[site.route.admission]"),
        ("sites.www-example-com.routes[/*]", "[[site.route]] # all"),
        ("origin nosuch", ""),
    ],
)
def test_what_a_pop_says_is_found_in_the_file(place: str, part: str) -> None:
    text = SITE + (
        "[[site.route]] # all\n"
        '[[site.route]]\npath = "/api/*"\n'
        "[site.route.admission]\n"
        '[[site.route.admission.limit]]\nname = "a"\nrate = 1 \n'
        '[[site.route.admission.limit]]\nname = "b"\nrate = 7\nper = "1m"\n'
    )
    file = parse("p.toml", text, lookup)
    found = file.located(AtollError("wrong", "right", place))
    assert (found.message, found.hint) == ("wrong", "right")
    if place.endswith("limits[0]"):
        part = "[[site.route.admission.limit]]"
    assert found.where == line_of(text, part)


# --- any field of any spec


def every_spec() -> list[type[msgspec.Struct]]:
    found: dict[type[msgspec.Struct], None] = {}

    def walk(kind: inspect.Type) -> None:
        match kind:
            case inspect.StructType():
                if kind.cls not in found:
                    found[kind.cls] = None
                    for field in kind.fields:
                        walk(field.type)
            case inspect.UnionType():
                for each in kind.types:
                    walk(each)
            case inspect.VarTupleType():
                walk(kind.item_type)
            case _:
                pass

    walk(inspect.type_info(Policy))
    return list(found)


@pytest.mark.parametrize("spec", every_spec(), ids=lambda spec: str(spec.__name__))
def test_no_two_fields_of_a_spec_have_one_name(spec: type[msgspec.Struct]) -> None:
    fields = fields_of(spec)
    keys = [field.key for field in fields]
    assert len(set(keys)) == len(keys)
    assert not (set(keys) - {field.name for field in fields}) & {field.name for field in fields}


def sample(kind: inspect.Type, field: str) -> Any:
    """A value that a file may give, other than the usual ones."""
    match kind:
        case inspect.StructType():
            return {f.key: sample(f.type, f.name) for f in fields_of(kind.cls)}
        case inspect.VarTupleType():
            return [sample(kind.item_type, field)]
        case inspect.TupleType():
            return [sample(item, field) for item in kind.item_types]
        case inspect.LiteralType():
            return kind.values[-1]
        case inspect.DictType():
            return {"sub": "x-user"}
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 0.5
        case _:
            assert isinstance(kind, inspect.StrType)
            return {"env": "SECRET"} if field == "secret" else f"{field}-x"


def test_every_field_of_every_spec_is_read() -> None:
    """What is written for a field arrives in the struct: a new field needs no change here."""
    tables = {f.key: sample(f.type, f.name) for f in fields_of(Policy)}
    [origin], [pool], [site] = tables["origin"], tables["pool"], tables["site"]
    [route] = site["route"]
    origin.update(host="x.example", url="http://x.example", health_path="/h")
    pool.update(origins=["x.example"], failover="x.example")
    site.update(host="a.example", aliases=["b.example"])
    route.update(path="/x/*", pool="name-x")
    policy = parse("p.toml", to_toml(tables), lookup, "/f").policy
    written = policy.sites[0].routes[0]
    for spec, table in ((policy.origins[0], origin), (policy.pools[0], pool), (written, route)):
        for field in fields_of(type(spec)):
            if isinstance(table[field.key], str | int | float):
                assert getattr(spec, field.name) == table[field.key], field
    assert written.admission is not None
    assert written.admission.limits == (
        RateLimitSpec(name="name-x", rate=7, per_s=0.5, burst=7, by=("by-x",), advertise=True, dry_run=True),
    )
    assert all(
        getattr(written.admission, field.name) is not None for field in fields_of(type(written.admission))
    )


def to_toml(value: Any) -> str:
    """Tables as inline TOML."""
    if isinstance(value, dict):
        return "\n".join(f"{key} = {inline(item)}" for key, item in value.items())
    raise TypeError(value)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def names() -> st.SearchStrategy[str]:
    known = [
        field.key for spec in (Policy, SiteSpec, RouteSpec, PoolSpec, OriginSpec) for field in fields_of(spec)
    ]
    return st.sampled_from(known) | st.text(
        st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=5
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names(), inner, max_size=4),
    max_leaves=12,
)


def toml_of(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return msgspec.json.encode(value).decode().replace("\x7f", "")
    return repr(value).replace("e+", "e")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(names(), VALUES, max_size=5))
def test_whatever_a_file_holds_is_read_or_refused_with_its_line(tables: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {toml_of(value)}" for key, value in tables.items())
    outcome: PolicyFile | AtollError
    try:
        outcome = parse("p.toml", text, lookup)
    except AtollError as error:
        outcome = error
    if isinstance(outcome, AtollError):
        assert outcome.message
        assert outcome.where.startswith("p.toml")


# --- what is written elsewhere

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples/serve").glob("*.toml")))
def test_the_examples_are_policies(name: str) -> None:
    text = (ROOT / "examples/serve" / name).read_text(encoding="utf-8")
    assert parse(name, text, lookup, ".", Surroundings(pools=("origin",), pool="origin")).policy.sites


@pytest.mark.parametrize(
    "spec", [spec for spec in every_spec() if spec is not Policy], ids=lambda s: str(s.__name__)
)
def test_the_page_names_every_field(spec: type[msgspec.Struct]) -> None:
    page = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
    missing = [field.key for field in fields_of(spec) if f"`{field.key}`" not in page]
    assert not missing, f"add to docs/serve.md: {missing}"
