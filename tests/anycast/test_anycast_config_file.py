"""The file of `atoll anycast`: what it says, and where it is wrong."""

import pytest

from atoll.anycast.bfd import Timers
from atoll.anycast.config_file import read_anycast_file
from atoll.errors import AtollError

WHOLE = """\
as = 64512
router_id = "10.0.0.1"
prefixes = ["192.0.2.0/24", "2001:db8::/48"]
prepend = 1
med = 5
actions = ["no-asia"]

[check]
http = "http://127.0.0.1:8080/health"
rise = 3

[[neighbor]]
name = "transit_a"
address = "10.0.0.2"
as = 64600
local_address = "10.0.0.1"
next_hops = { ipv6 = "fd00::1" }
bfd = { interval_ms = 50, multiplier = 5 }
communities = { "no-asia" = "64600:3000" }

[[neighbor]]
name = "transit_b"
address = "fd00::3"
as = 4200000001
local_address = "fd00::1"
families = ["ipv6"]
bfd = true
"""


def test_everything_that_it_says_is_read() -> None:
    file = read_anycast_file("a.toml", WHOLE)
    first, second = file.speaking.neighbors
    assert file.speaking.asn == 64512
    assert first.families == ("ipv4", "ipv6")
    assert first.bfd == Timers(desired_min_tx_us=50_000, required_min_rx_us=50_000, detect_multiplier=5)
    assert second.bfd == Timers()
    assert second.families == ("ipv6",)
    assert (file.template.prepend, file.template.med, file.template.actions) == (1, 5, ("no-asia",))
    assert (file.health.rise, file.health.fall) == (3, 3)
    assert file.bird is None


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("as = 64512", "as = 0", 1, "AS 0 is no network's number"),
        ("as = 64512", "as = 65535", 1, "AS 65535 is no network's number"),
        ("as = 64600", 'as = "64600"', 15, "as: Expected `int`, got `str`"),
        ('"10.0.0.1"\npref', '"10.0.0"\npref', 2, "router_id '10.0.0' is none"),
        ("192.0.2.0/24", "192.0.2.1/24", 3, "not a prefix"),
        ("192.0.2.0/24", "192.0.2.0/25", 3, "192.0.2.0/25 is longer than /24"),
        ("2001:db8::/48", "2001:db8::/64", 3, "2001:db8::/64 is longer than /48"),
        ('"2001:db8::/48"', '"192.0.2.0/24"', 3, "192.0.2.0/24 and 192.0.2.0/24 overlap"),
        ("prepend = 1", "prepend = 99", 4, "prepend 99"),
        ("prepend = 1", "prepended = 1", 4, "prepended is no field"),
        ("rise = 3", "rise = 0", 10, "rise is 0"),
        ("rise = 3", "raise = 3", 10, "raise is no field"),
        ("rise = 3", 'tcp = "127.0.0.1:1"', 8, "2 ways to check"),
        ('http = "http', 'http = "https', 9, "is no URL to check"),
        ("10.0.0.2", "10.0.0.2.3", 12, "is no IP address"),
        ('"fd00::1" }', '"10.9.9.9" }', 12, "no ipv6 next hop for transit_a"),
        ("interval_ms = 50", "interval_ms = 1", 18, "desired_min_tx_us is 1000"),
        ("64600:3000", "64600:70000", 19, "not a community"),
        ('"transit_b"', '"transit_a"', 21, "two neighbors transit_a"),
        ("4200000001", "4294967295", 21, "AS 4294967295 is no network's number"),
        ("as = 64512", "as = 64512\nbird = {}", 19, "bfd of transit_a"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, line: int, says: str) -> None:
    assert old in WHOLE
    with pytest.raises(AtollError) as caught:
        read_anycast_file("a.toml", WHOLE.replace(old, new, 1))
    assert says in caught.value.message
    assert caught.value.where == f"a.toml:{line}"


def test_a_network_of_ones_own_may_have_longer_prefixes() -> None:
    text = WHOLE.replace("192.0.2.0/24", "192.0.2.1/32").replace("med = 5", "allow_longer = true")
    assert read_anycast_file("a.toml", text).prefixes[0] == "192.0.2.1/32"


def test_no_file_is_too_empty_for_a_clear_word() -> None:
    with pytest.raises(AtollError, match="missing required field `as`"):
        read_anycast_file("a.toml", "")
