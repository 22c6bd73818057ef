"""Orders as a whole: issue, renew, import; what is due, and what is written down when one fails.

A failure changes nothing that serves: the certificate there is stays, the record says what went wrong and
when it is tried again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import msgspec

from atoll.control.certificate_store import CertificateStore, Record, checked, id_of, valid_names
from atoll.control.renewal import LOOK_AGAIN_S, renew_at_s, retry_at_s, suggested_at_s
from atoll.errors import AtollError
from atoll.http.certificates import read_leaf

_MAX_TROUBLE: Final = 500  # characters

Clock = Callable[[], float]


def issue(
    store: CertificateStore,
    names: tuple[str, ...],
    *,
    directory: str,
    ca: str = "",
    email: str = "",
    agreed: bool = False,
) -> Record:
    """Order a certificate for `names` and have the edge serve it.

    Raises:
        AtollError: it was not issued; what served before serves on.
    """
    wanted = valid_names(names)
    record = Record(id=id_of(wanted), names=wanted, source="acme", directory=directory, ca=ca, email=email)
    with store.locked():
        return _order(store, record, agreed)


def renew(store: CertificateStore, id: str) -> Record:
    """Order the next certificate for what `id` names, whether it is due or not.

    Raises:
        AtollError: there is none, it was imported, or it was not issued: then the record says so, too.
    """
    with store.locked():
        record = store.get(id)
        if record.source != "acme":
            raise AtollError(f"{id} was imported", hint="import the next one over it: `atoll certs import`")
        try:
            return _order(store, record, agreed=True)
        except AtollError as error:
            _note_failure(store, record, str(error))
            raise


def _order(store: CertificateStore, record: Record, agreed: bool) -> Record:
    from atoll.control.acme import Acme, Server  # takes longer to import than most commands take

    server = Server(directory=record.directory, ca=record.ca, email=record.email, agreed=agreed)
    acme = Acme(server, store.acme / "accounts", store.challenges)
    pem = acme.issue(record.names)
    leaf = read_leaf(pem)
    now_s = time.time()
    fresh = msgspec.structs.replace(
        record,
        renew_s=renew_at_s(leaf.not_before.timestamp(), leaf.not_after.timestamp(), random.random()),  # noqa: S311
        look_s=now_s + LOOK_AGAIN_S * random.random(),  # noqa: S311
        failures=0,
        retry_s=0.0,
        trouble="",
    )
    return store.put(fresh, pem)


def _note_failure(store: CertificateStore, record: Record, trouble: str) -> None:
    failures = record.failures + 1
    retry_s = retry_at_s(failures, time.time(), record.not_after_s, random.random())  # noqa: S311
    store.keep(
        msgspec.structs.replace(record, failures=failures, retry_s=retry_s, trouble=trouble[:_MAX_TROUBLE])
    )


def bring(store: CertificateStore, pem: bytes, where: str) -> Record:
    """Have the edge serve a certificate that was got elsewhere.

    Raises:
        AtollError: it is none with its key, or has expired.
    """
    pem = checked(pem, where)
    leaf = read_leaf(pem)
    if leaf.not_after.timestamp() <= time.time():
        raise AtollError(f"it has expired on {leaf.not_after:%Y-%m-%d}", where=where)
    return store.put(Record(id=id_of(leaf.names), names=leaf.names, source="imported"), pem)


def ask_suggestion(store: CertificateStore, id: str) -> Record:
    """What the authority suggests for the renewal of `id`, into its record.

    Raises:
        AtollError: it does not answer; it is asked again later all the same.
    """
    from atoll.control.acme import Acme, Server

    record = store.get(id)
    later = msgspec.structs.replace(record, look_s=time.time() + LOOK_AGAIN_S)
    store.keep(later)
    server = Server(directory=record.directory, ca=record.ca, email=record.email)
    suggested_s, again_s = Acme(server, store.acme / "accounts", store.challenges).suggested_s(store.pem(id))
    renew_s = record.renew_s
    if suggested_s is not None:
        renew_s = suggested_at_s(suggested_s, record.not_before_s, record.not_after_s)
    record = msgspec.structs.replace(later, renew_s=renew_s, look_s=max(again_s, time.time() + 60.0))
    store.keep(record)
    return record


def due(records: tuple[Record, ...], now_s: float) -> tuple[Record, ...]:
    """Those to renew now."""
    return tuple(r for r in records if r.source == "acme" and r.renew_s <= now_s and r.retry_s <= now_s)


def to_ask(records: tuple[Record, ...], now_s: float) -> tuple[Record, ...]:
    """Those whose authority is to be asked again what it suggests."""
    return tuple(
        r for r in records if r.source == "acme" and r.look_s <= now_s < min(r.renew_s, r.not_after_s)
    )
