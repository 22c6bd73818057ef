"""What a shared cache may store, serve and change, in one place to import from.

The rules are values in, values out: storing (RFC 9111 §3), freshness (§4.2), serving (§4, §5.2.1, RFC 5861,
RFC 8246), validation and invalidation (§4.3, §4.4), and which fields decide (RFC 9213). None of them touches
a clock, a socket or the store. Ranges are `atoll.cache.ranges`.
"""

from __future__ import annotations

from atoll.cache.freshness import (
    HEURISTIC_STATUS,
    age_value,
    current_age_s,
    freshness_lifetime_s,
    initial_age_s,
    response_date_s,
    ttl_s,
)
from atoll.cache.serving import (
    ERROR_STATUS,
    Decision,
    decide,
    decide_absent,
    request_directives,
    usable_on_error,
)
from atoll.cache.storing import UNDERSTOOD_STATUS, Verdict, storability, storable_headers
from atoll.cache.targeted import Effective, effective
from atoll.cache.validation import (
    HeadEffect,
    Precondition,
    conditional_request,
    head_update,
    headers_for_304,
    if_range_holds,
    invalidated_by,
    not_modified,
    preconditions,
    select_for_update,
    strong_validator,
    update_stored,
)

__all__ = [
    "ERROR_STATUS",
    "HEURISTIC_STATUS",
    "UNDERSTOOD_STATUS",
    "Decision",
    "Effective",
    "HeadEffect",
    "Precondition",
    "Verdict",
    "age_value",
    "conditional_request",
    "current_age_s",
    "decide",
    "decide_absent",
    "effective",
    "freshness_lifetime_s",
    "head_update",
    "headers_for_304",
    "if_range_holds",
    "initial_age_s",
    "invalidated_by",
    "not_modified",
    "preconditions",
    "request_directives",
    "response_date_s",
    "select_for_update",
    "storability",
    "storable_headers",
    "strong_validator",
    "ttl_s",
    "update_stored",
    "usable_on_error",
]
