"""The laptop network holds together: every name it uses is one it has."""

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import msgspec

from atoll.config.spec import NetworkSpec
from atoll.internet.geography import CITIES
from atoll.internet.laptop import laptop_network
from atoll.internet.world import default_world


def test_pops_have_their_indices_ports_and_numbers() -> None:
    rows = [(p.code, p.index, p.asn, p.http_port, p.https_port) for p in laptop_network().pops]
    assert rows == [
        ("sjc", 0, 64515, 18080, 18443),
        ("iad", 1, 64512, 18081, 18444),
        ("lhr", 2, 64513, 18082, 18445),
        ("sin", 3, 64516, 18083, 18446),
        ("nrt", 4, 64514, 18084, 18447),
    ]


def test_pops_are_those_of_the_world() -> None:
    network, world = laptop_network(), default_world()
    assert network.eyeballs == world.eyeballs
    for pop in network.pops:
        place = CITIES[pop.city]
        assert world.graph.ases[pop.asn].city == pop.city
        assert (pop.lat, pop.lon, pop.country, pop.continent) == (
            place.lat,
            place.lon,
            place.country,
            place.continent,
        )


def test_origins_are_on_three_continents_and_answer_on_ports_of_their_own() -> None:
    origins = laptop_network().origins
    assert [(origin.host.split(".")[0], origin.region, origin.url) for origin in origins] == [
        ("us-origin", "NA", "http://127.0.0.1:19611"),
        ("eu-origin", "EU", "http://127.0.0.1:19612"),
        ("asia-origin", "AS", "http://127.0.0.1:19613"),
        ("version-a", "NA", "http://127.0.0.1:19614"),
        ("version-b", "NA", "http://127.0.0.1:19615"),
        ("lab-origin", "NA", "http://127.0.0.1:19616"),
    ]
    assert [round(origin.lon) for origin in origins] == [-77, 9, 140, -77, -77, -77]
    assert "aus-origin.example.com" not in {origin.host for origin in origins}  # Oceania fails over to NA


def test_pools_sites_and_routes_name_what_exists() -> None:
    network = laptop_network()
    hosts = {origin.host for origin in network.origins}
    pools = {pool.name: pool for pool in network.pools}
    for pool in pools.values():
        assert {*pool.origins, pool.failover or pool.origins[0]} <= hosts
    assert pools["shop"].failover == "us-origin.example.com"
    sites = {site.name: site for site in network.sites}
    assert network.default_site in sites
    assert {name: site.host for name, site in sites.items()} == {
        "www": "www.example.com",
        "shop": "shop.example.com",
        "ab": "ab.example.com",
        "lab": "lab.example.com",
    }
    ends = {
        name: [(route.path, route.pool, route.cache) for route in site.routes] for name, site in sites.items()
    }
    shop, landing = [("/*", "shop", True)], [("/*", "landing", True)]
    lab = [(path, "lab", True) for path in ("/*", "/strict/*", "/plain/*", "/text/*")]
    assert ends == {"www": shop, "shop": shop, "ab": landing, "lab": lab}


def test_the_lab_has_a_route_for_every_promise_and_a_shield() -> None:
    network = laptop_network()
    lab = next(site for site in network.sites if site.name == "lab")
    promises = {route.path: route.consistency for route in lab.routes}
    assert promises == {
        "/*": "eventual",
        "/strict/*": "strict",
        "/plain/*": "eventual",
        "/text/*": "eventual",
    }
    assert [route.path for route in lab.routes if route.compression] == ["/text/*"]
    assert next(pool for pool in network.pools if pool.name == "lab").shield == "auto"


def test_ports_do_not_collide() -> None:
    network = laptop_network()
    ports = [urlsplit(origin.url).port for origin in network.origins]
    ports += [port for pop in network.pops for port in (pop.http_port, pop.https_port)]
    assert len(ports) == len(set(ports)) == 16


def test_anycast_addresses_lie_in_the_announced_prefixes() -> None:
    network = laptop_network()
    four, six = (ip_network(prefix) for prefix in network.prefixes)
    assert ip_address(network.anycast4) in four
    assert ip_address(network.anycast6) in six


def test_it_survives_being_written_down() -> None:
    network = laptop_network()
    assert msgspec.json.decode(msgspec.json.encode(network), type=NetworkSpec) == network
