"""`atoll certs …`: certificates that others issue, ordered over ACME or imported, served by every PoP."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from atoll.cli.output import json_option, print_json, print_table, say
from atoll.config.paths import resolve
from atoll.control import issuance
from atoll.control.certificate_store import CertificateStore, Record
from atoll.errors import AtollError
from atoll.node import lock

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


def _store() -> CertificateStore:
    return CertificateStore(resolve(os.environ, os.getuid()))


def _serving_store() -> CertificateStore:
    """The store of a network that runs: somebody has to answer the authority.

    Raises:
        AtollError: none runs.
    """
    paths = resolve(os.environ, os.getuid())
    if lock.holder(paths.lock_file) is None:
        raise AtollError("no network is running: nobody would answer the authority", "start one: `atoll up`")
    return CertificateStore(paths)


@click.group()
def certs() -> None:
    """Certificates for your own names: ordered over ACME, or imported.

    They are served by every PoP as soon as they are there, before those of the network's own authority.
    Ordered ones are renewed by the running network when two thirds of their life are over, or when their
    authority says so.

    \b
    Examples:
      atoll certs issue www.example.com example.com --email me@example.com --agree-terms
      atoll certs list
      atoll certs import wildcard.pem
    """


@certs.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--directory", default=LETS_ENCRYPT, show_default=True, help="The ACME server's directory.")
@click.option("--email", default="", help="Where the server may write to.")
@click.option("--agree-terms", is_flag=True, help="Agree to the server's terms of service.")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    help="A PEM file that the server's own certificate is verified with.",
)
@json_option
def issue(
    names: tuple[str, ...], directory: str, email: str, agree_terms: bool, ca: str | None, as_json: bool
) -> None:
    """Order a certificate for NAMES and serve it.

    The authority asks each name over plain HTTP on port 80; any PoP answers it. Ordering the first name again
    replaces its certificate.

    \b
    Example:
      atoll certs issue www.example.com example.com --email me@example.com --agree-terms
    """
    store = _serving_store()
    say(f"asking {directory} for {', '.join(names)}")
    record = issuance.issue(store, names, directory=directory, ca=ca or "", email=email, agreed=agree_terms)
    _show(record, as_json)


@certs.command("list")
@json_option
def list_certificates(as_json: bool) -> None:
    """Every certificate, how long it lasts, when it is renewed and what went wrong.

    \b
    Example:
      atoll certs list --json
    """
    records = _store().records()
    if as_json:
        print_json(records)
        return
    columns = ("id", "names", "from", "until", "renewal", "trouble")
    print_table(columns, [_row(record) for record in records])


@certs.command()
@click.argument("ids", nargs=-1)
@json_option
def renew(ids: tuple[str, ...], as_json: bool) -> None:
    """Renew the certificates IDS now, or all that are due.

    \b
    Examples:
      atoll certs renew
      atoll certs renew www.example.com
    """
    store = _serving_store()
    if not ids:
        ids = tuple(record.id for record in issuance.due(store.records(), datetime.now(UTC).timestamp()))
    renewed = []
    for id in ids:
        say(f"renewing {id}")
        renewed.append(issuance.renew(store, id))
    if as_json:
        print_json(renewed)
    elif not renewed:
        say("nothing is due")
    else:
        print_table(("id", "until"), [(record.id, _day(record.not_after_s)) for record in renewed])


@certs.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The private key, if it is in a file of its own.",
)
@json_option
def import_certificate(file: Path, key: Path | None, as_json: bool) -> None:
    """Serve the certificate in FILE, a PEM file with its chain and its key.

    The names are the certificate's own; wildcards are served, too. Importing the next one replaces it.

    \b
    Example:
      atoll certs import fullchain.pem --key privkey.pem
    """
    pem = (key.read_bytes() + b"\n" if key is not None else b"") + file.read_bytes()
    _show(issuance.bring(_store(), pem, str(file)), as_json)


@certs.command()
@click.argument("id")
@json_option
def remove(id: str, as_json: bool) -> None:
    """Serve the certificate ID no more, and do not renew it.

    \b
    Example:
      atoll certs remove www.example.com
    """
    store = _store()
    record = store.get(id)
    store.remove(id)
    if as_json:
        print_json(record)
    else:
        say(f"{id} is removed; its names get the network's own certificates again")


def _show(record: Record, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.structs.asdict(record))
        return
    print_table(("id", "names", "from", "until", "renewal", "trouble"), [_row(record)])


def _row(record: Record) -> tuple[str, ...]:
    source = record.issuer or record.source
    renewal = _day(record.renew_s) if record.source == "acme" else "import the next one"
    if record.failures:
        renewal = f"again {_day(record.retry_s)}"
    trouble = f"{record.failures}×: {record.trouble}" if record.failures else ""
    return record.id, " ".join(record.names), source, _day(record.not_after_s), renewal, trouble


def _day(moment_s: float) -> str:
    return f"{datetime.fromtimestamp(moment_s, UTC):%Y-%m-%d %H:%M}" if moment_s else ""
