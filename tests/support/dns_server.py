"""A DNS server on loopback that says what the test says, and counts what it is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Records = dict[tuple[str, str], tuple[int, list[str]]]


class DnsServer(asyncio.DatagramProtocol):
    """`records` are `(name, type)` to `(ttl, values)`; a name without any does not exist.

    With `rcode` every question gets that; names in `silent` (with their type) get no answer at all.
    """

    def __init__(self) -> None:
        self.records: Records = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.rcode = dns.rcode.NOERROR
        self.silent: set[tuple[str, str]] = set()
        self.port = 0
        self._transport = cast(asyncio.DatagramTransport, None)

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]

    def stop(self) -> None:
        """Listen no more."""
        self._transport.close()

    @property
    def address(self) -> str:
        """As a resolver is named in a network's spec."""
        return f"127.0.0.1:{self.port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        (asked,) = question.question
        name = asked.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(asked.rdtype)
        self.asked[name, kind] += 1
        if (name, kind) in self.silent:
            return
        answer = dns.message.make_response(question, recursion_available=True)
        answer.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            self._fill(answer, name, kind)
        self._transport.sendto(answer.to_wire(), addr)

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        known = {known for known, _ in self.records}
        while name in known:
            alias = self.records.get((name, "CNAME"))
            found = self.records.get((name, kind), (0, []))
            if found[1]:
                answer.answer.append(dns.rrset.from_text(name + ".", found[0], "IN", kind, *found[1]))
            if alias is None:
                return
            answer.answer.append(dns.rrset.from_text(name + ".", alias[0], "IN", "CNAME", *alias[1]))
            name = alias[1][0].rstrip(".")
        answer.set_rcode(dns.rcode.NXDOMAIN)
