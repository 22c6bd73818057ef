"""What people write, as selectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.purge import Kind, Selector
from atoll.control.purge_wishes import selector_of
from atoll.errors import AtollError


def canonical(host: str) -> str | None:
    known = {
        "shop.example": "shop.example",
        "www.shop.example": "shop.example",
        "a.example:81": "a.example:81",
    }
    return known.get(host)


@pytest.mark.parametrize(
    ("kind", "value", "meant"),
    [
        ("url", "https://shop.example/a?b=1", "shop.example/a?b=1"),
        ("url", "http://SHOP.example:80/a", "shop.example/a"),
        ("url", "https://www.shop.example", "shop.example/"),
        ("url", "shop.example/a#part", "shop.example/a"),
        ("url", "http://a.example:81/x", "a.example:81/x"),
        ("prefix", "shop.example/products/", "shop.example/products/"),
        ("host", "www.shop.example", "shop.example"),
        ("host", "https://shop.example/", "shop.example"),
        ("tag", "product-7", "product-7"),
        ("all", "", ""),
    ],
)
def test_a_wish_means(kind: Kind, value: str, meant: str) -> None:
    expected = Selector(kind=kind, value=meant, soft=True, tenant="t")
    assert selector_of(kind, value, True, "t", canonical) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("url", ""),
        ("url", "https://unknown.example/"),
        ("url", "ftp://shop.example/"),
        ("url", "https://shop.example:99999/"),
        ("url", "https://[::1/"),
        ("url", "https://shop.example/a b"),
        ("url", "https://shop.example/ä"),
        ("host", "shop.example/path"),
        ("tag", "two words"),
        ("tag", ""),
        ("all", "something"),
        ("prefix", "x" * 9000),
    ],
)
def test_a_mistake_names_the_field(kind: Kind, value: str) -> None:
    with pytest.raises(AtollError) as caught:
        selector_of(kind, value, False, "t", canonical)
    assert caught.value.where == "value"


@given(st.sampled_from(["url", "prefix", "host", "tag", "all"]), st.text(max_size=60))
def test_nothing_written_is_a_defect(kind: Kind, value: str) -> None:
    try:
        selector = selector_of(kind, value, False, "t", canonical)
    except AtollError:
        return
    assert selector.kind == kind
