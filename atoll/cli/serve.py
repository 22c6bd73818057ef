"""`atoll serve`: Atoll as a caching reverse proxy before one's own origins, with nothing else around it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from atoll.cli.output import say
from atoll.config.policy_units import SIZE, parse_size
from atoll.errors import AtollError
from atoll.node.serve_plan import MAX_WORKERS, Plan, parse_listen

_FILE: Final = click.Path(dir_okay=False, path_type=Path)


class _Size(click.ParamType[int]):
    """`256MB`, as bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        size = value if isinstance(value, int) else parse_size(str(value))
        if size is None:
            self.fail(f"{value!r} is no size; {SIZE} is expected", param, ctx)
        return size


@click.command()
@click.option(
    "--listen",
    "listen",
    multiple=True,
    default=("127.0.0.1:8000",),
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where to listen; :PORT is every address, http:// or https:// before it says how.",
)
@click.option(
    "--origin", "origins", multiple=True, metavar="URL", help="The server behind; several take turns."
)
@click.option(
    "--host-header", default="", metavar="HOST", help="What origins are told as Host; else the client's."
)
@click.option("--tls", type=(_FILE, _FILE), metavar="CERT KEY", help="Speak TLS with this certificate (PEM).")
@click.option("--tls-self-signed", is_flag=True, help="Speak TLS with a certificate of one's own making.")
@click.option("--h3", is_flag=True, help="HTTP/3, too, on the same port number.")
@click.option("--policy", type=_FILE, help="A policy file; read again on SIGHUP.")
@click.option(
    "--cache-memory", type=_Size(), default="256MB", show_default=True, help="Of all workers together."
)
@click.option(
    "--cache-dir", type=click.Path(file_okay=False, path_type=Path), help="Keep what is stored there, too."
)
@click.option("--cache-disk", type=_Size(), default="1GB", show_default=True, help="How much of it.")
@click.option(
    "--workers", type=click.IntRange(1, MAX_WORKERS), default=1, show_default=True, help="Processes."
)
@click.option("--access-log", default="", metavar="FILE", help="A JSON line a request; - is standard output.")
@click.option("--purge-token-file", type=_FILE, help="Who has this token may PURGE.")
@click.option("--admin", default="", metavar="ADDRESS:PORT", help="Counters, on loopback or unix:PATH only.")
@click.option("--json", "as_json", is_flag=True, help="Say what happens as one JSON value a line.")
def serve(  # noqa: PLR0913, PLR0917 - one a command-line option
    listen: tuple[str, ...],
    origins: tuple[str, ...],
    host_header: str,
    tls: tuple[Path, Path] | None,
    tls_self_signed: bool,
    h3: bool,
    policy: Path | None,
    cache_memory: int,
    cache_dir: Path | None,
    cache_disk: int,
    workers: int,
    access_log: str,
    purge_token_file: Path | None,
    admin: str,
    as_json: bool,
) -> None:
    """Serve what the origins behind say, from a cache that follows their headers.

    Needs no network, no account and no file. Every host is answered; the origin is told which. Nothing is
    kept longer than its response allows, and nothing that does not say so. SIGHUP has the policy, the
    certificate and the access log opened anew, SIGTERM ends it when open requests are answered.

    \b
    Examples:
      atoll serve --origin http://127.0.0.1:9000
      atoll serve --listen :443 --tls cert.pem key.pem --origin http://127.0.0.1:9000 --workers 4
      atoll serve --policy policy.toml --cache-dir /var/cache/atoll --access-log - --admin 127.0.0.1:8001
    """
    if tls is not None and tls_self_signed:
        raise click.UsageError("--tls and --tls-self-signed exclude each other.")
    if not origins and policy is None:
        raise click.UsageError("Name an --origin, a --policy, or both.")
    if host_header and not origins:
        raise click.UsageError("--host-header is for --origin; a policy's pools have host_header.")
    secure = tls is not None or tls_self_signed
    plan = Plan(
        listen=tuple(parse_listen(text, "https" if secure else "http") for text in listen),
        origins=tuple(_origin(url) for url in origins),
        host_header=host_header,
        certificate=tls[0] if tls else None,
        key=tls[1] if tls else None,
        self_signed=tls_self_signed,
        http3=h3,
        policy=policy,
        memory_bytes=cache_memory,
        disk=cache_dir,
        disk_bytes=cache_disk,
        workers=workers,
        access_log=access_log,
        purge_token=purge_token_file,
        admin=admin,
    )
    if not secure and any(each.scheme == "https" for each in plan.listen):
        raise click.UsageError("https:// needs --tls CERT KEY or --tls-self-signed.")
    _run(plan, as_json)


def _origin(url: str) -> str:
    """A URL; without a scheme it is plain HTTP, as in `localhost:9000`."""
    text = url if "://" in url else f"http://{url}"
    if not text.removeprefix("http://").removeprefix("https://").strip("/"):
        raise AtollError(f"{url!r} is no origin", "http://127.0.0.1:9000, for example", "--origin")
    return text.rstrip("/")


def _run(plan: Plan, as_json: bool) -> None:
    import msgspec
    import uvloop

    from atoll.node.serve import run

    def tell(line: str) -> None:
        if as_json:
            click.echo(msgspec.json.encode({"message": line}).decode())
        else:
            say(f"atoll serve: {line}")

    uvloop.run(run(plan, tell))
