"""The two versions of the landing page."""

import httpx
import pytest

from atoll.lab.shop.landing import VERSIONS, Landing


async def ask(host: str, path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(Landing(host, lambda: 1_800_000_000.0).app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        return await client.get(path, headers=headers)


async def test_the_two_cannot_be_mistaken_for_each_other() -> None:
    a, b = [(await ask(host, "/")) for host in VERSIONS]
    assert "VERSION A" in a.text
    assert "VERSION B" in b.text
    assert (a.headers["x-version"], b.headers["x-version"]) == ("A", "B")
    assert a.headers["etag"] != b.headers["etag"]


@pytest.mark.parametrize("host", VERSIONS)
async def test_a_version_is_cached_and_revalidated(host: str) -> None:
    full = await ask(host, "/")
    again = await ask(host, "/", **{"if-none-match": full.headers["etag"]})
    assert full.headers["cache-control"] == "public, max-age=60"
    assert again.status_code == 304


@pytest.mark.parametrize("host", VERSIONS)
async def test_health_and_missing_pages(host: str) -> None:
    assert (await ask(host, "/health")).json() == {"ok": True, "origin": host}
    missing = await ask(host, "/nowhere")
    assert missing.status_code == 404
    assert missing.headers["cache-control"] == "no-store"
    assert "does not exist" in missing.text
