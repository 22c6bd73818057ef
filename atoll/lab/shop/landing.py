"""The A/B test's two backends: one landing page in two versions that cannot be mistaken for each other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from atoll.lab.shop.catalogue import CATALOGUE_DATE_S
from atoll.lab.shop.web import HTML, Request, Response, WebApp, digest

CACHE: Final = "public, max-age=60"


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two: its words and its colours."""

    letter: str
    title: str
    words: str
    button: str
    ink: str
    paper: str
    accent: str
    align: str


VERSIONS: Final = {
    "version-a.example.com": Version(
        letter="A",
        title="Every island, one address.",
        words="The shop answers from the island nearest to you. Calm water, short ways.",
        button="Look around",
        ink="#0d3b47",
        paper="linear-gradient(170deg, #d6f1f0, #fffdf6 65%)",
        accent="#0f7f8c",
        align="left",
    ),
    "version-b.example.com": Version(
        letter="B",
        title="Ships tonight. From next door.",
        words="Whatever you order leaves the nearest island before the sun is down.",
        button="Order now",
        ink="#fff4e8",
        paper="linear-gradient(170deg, #3a2f63, #c9506b 70%, #f3a15f)",
        accent="#ff7a4d",
        align="center",
    ),
}


class Landing:
    """One version's site; `app` is the ASGI application. `clock` gives seconds since the epoch."""

    def __init__(self, host: str, clock: Callable[[], float]) -> None:
        self._host = host
        self._version = VERSIONS[host]
        self._clock = clock
        common = [(b"x-origin-region", b"NA"), (b"x-version", self._version.letter.encode())]
        self.app = WebApp(
            {("GET", "/"): self._index, ("GET", "/health"): self._health}, common, self._missing
        )

    async def _index(self, _request: Request) -> Response:
        tag = digest(msgspec.json.encode(self._version))
        body = page(self._version, self._clock())
        return Response(body=body, kind=HTML, cache=CACHE, tag=tag, modified_s=CATALOGUE_DATE_S)

    async def _health(self, _request: Request) -> Response:
        return Response(body=msgspec.json.encode({"ok": True, "origin": self._host}))

    def _missing(self, _request: Request) -> Response:
        body = page(self._version, self._clock(), "This page does not exist.")
        return Response(body=body, kind=HTML, status=404)


def page(version: Version, now_s: float, words: str = "") -> bytes:
    """The page of a version; `words` replace its own."""
    made = datetime.fromtimestamp(now_s, UTC).strftime("%H:%M:%S")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Version {version.letter} · Island Supply</title><link rel="icon" href="data:,"><style>
body {{ margin: 0; min-height: 100vh; display: grid; align-items: center; color: {version.ink};
  background: {version.paper}; font: 18px/1.6 system-ui, sans-serif; text-align: {version.align}; }}
main {{ max-width: 860px; margin: 0 auto; padding: 8vh 32px; }}
.badge {{ display: inline-block; border-radius: 999px; padding: 4px 16px; background: {version.accent};
  color: #fff; font-weight: 700; letter-spacing: .06em; }}
h1 {{ font-size: clamp(38px, 7vw, 76px); line-height: 1.02; letter-spacing: -.03em; margin: 22px 0 14px; }}
a {{ display: inline-block; margin-top: 22px; padding: 14px 34px; border-radius: 999px; color: #fff;
  background: {version.accent}; text-decoration: none; font-weight: 600; }}
small {{ display: block; margin-top: 44px; opacity: .7; }}
</style></head><body><main><span class="badge">VERSION {version.letter}</span>
<h1>{version.title}</h1><p>{words or version.words}</p><a href="/">{version.button}</a>
<small>Page made at {made} UTC. A cookie keeps you on this version: delete it and toss the coin again.</small>
</main></body></html>
""".encode()
