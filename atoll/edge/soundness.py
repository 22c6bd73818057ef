"""Whether edge workers can serve a network as it is written, asked before any of them is told to.

What is asked here is what a worker refuses a snapshot for; so nothing is said twice, and nobody learns of a
mistake from a log.
"""

from __future__ import annotations

from typing import Final

from atoll.config.spec import NetworkSpec, PopSpec, Snapshot
from atoll.edge import compress
from atoll.edge.admission.decide import Kept, Rules
from atoll.edge.origin import target_of

_SOMEWHERE: Final = PopSpec(
    code="",
    index=0,
    asn=0,
    city="",
    country="",
    continent="",
    lat=0,
    lon=0,
    http_port=0,
    https_port=0,
)


def require_sound(network: NetworkSpec) -> None:
    """Look at everything that a worker compiles.

    Raises:
        AtollError: it cannot be served; `where` is a path of specs' fields: `sites.NAME.routes[PATH]…`.
    """
    compress.check(Snapshot(seq=0, pop=_SOMEWHERE, network=network))
    kept: Kept = {}
    for site in network.sites:
        for route in site.routes:
            if route.admission is not None:
                Rules(site, route, route.admission, {}, kept)
    for origin in network.origins:
        target_of(origin)
