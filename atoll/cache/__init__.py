"""The HTTP cache: rules, keys, stores. The rules are pure.

`EdgeOriginCache` is the pattern for programs: a cache before an origin, without HTTP.
"""

from atoll.cache.edge_origin import CacheStrategy, EdgeOriginCache, Fetched

__all__ = ["CacheStrategy", "EdgeOriginCache", "Fetched"]
