"""TLS to the edge, through the gateway: each name its own certificate, in both versions of HTTP."""

from __future__ import annotations

import ssl

import httpx
import pytest
from live_network import LiveNetwork

pytestmark = pytest.mark.real

HTTP2 = {"HTTP/1.1": False, "HTTP/2": True}


def browser(network: LiveNetwork, http2: bool) -> httpx.AsyncClient:
    """It trusts the network's own authority and nobody else."""
    trust = ssl.create_default_context(cafile=str(network.paths.ca / "ca.pem"))
    base = f"https://127.0.0.1:{network.https_port}"
    return httpx.AsyncClient(base_url=base, trust_env=False, verify=trust, http2=http2, timeout=10)


async def visit(client: httpx.AsyncClient, name: str) -> tuple[httpx.Response, list[str]]:
    """The answer for `name`, and the names in the certificate that came with it."""
    async with client.stream(
        "GET", "/", headers={"host": name}, extensions={"sni_hostname": name}
    ) as response:
        certificate = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
        await response.aread()
    return response, [value for _, value in certificate["subjectAltName"]]


@pytest.mark.parametrize("version", HTTP2)
@pytest.mark.parametrize(
    ("name", "pop"),
    [("tokyo.localhost", "nrt"), ("london.localhost", "lhr"), ("shop.sydney.localhost", "sin")],
)
async def test_a_name_has_a_certificate_of_its_own(
    network: LiveNetwork, version: str, name: str, pop: str
) -> None:
    async with browser(network, HTTP2[version]) as client:
        response, names = await visit(client, name)
    assert (response.status_code, response.http_version) == (200, version)
    assert response.headers["x-edge-location"] == pop
    assert names == [name]


async def test_a_name_that_nobody_has_is_not_vouched_for(network: LiveNetwork) -> None:
    async with browser(network, http2=False) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await visit(client, "tokyo.example")


async def test_nobody_else_trusts_it(network: LiveNetwork) -> None:
    base = f"https://127.0.0.1:{network.https_port}"
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await visit(client, "tokyo.localhost")
