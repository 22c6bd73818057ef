"""Header blocks of HTTP/2 (HPACK, RFC 7541) without a dynamic table. Pure.

Whoever tells its peer a table size of 0 gets blocks that mean the same whenever they come (§4.2): what one
said before is looked up instead of decoded. For the same reason blocks made here depend on nothing but their
fields. A reference to the dynamic table is an error.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from atoll.http.fields import Headers

STATIC_TABLE: Final[Headers] = [
    (name.encode(), value.encode())
    for name, _, value in (
        line.partition(" ")
        for line in """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate""".splitlines()
    )
]
"""RFC 7541, Appendix A; the first entry has index 1."""

CODE_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b08060606"
    "0505050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817"
    "181816171817171717151617161717181615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a17"
    "1a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
"""Bits of each byte's Huffman code, and of the end's (Appendix B). The code is canonical: they are enough."""

NEVER_INDEXED: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
"""Secrets, which nobody on the way may put into a table (§7.1.3)."""

_BY_FIELD: Final = {field: index for index, field in reversed([*enumerate(STATIC_TABLE, 1)])}
_BY_NAME: Final = {field[0]: index for index, field in reversed([*enumerate(STATIC_TABLE, 1)])}
_LONGEST: Final = 64 * 1024
_SHORT: Final = 64  # what is longer is not worth its Huffman code, nor its place among what is kept
_MOST_BITS: Final = 28  # of an integer: more is no length of anything

Node = list["Node | int | None"]


class HpackError(ValueError):
    """A block that cannot be decoded: the connection is of no more use (RFC 9113 §4.3)."""


def encode(fields: Headers) -> bytes:
    """A header block."""
    return b"".join([_encode_field(*field) for field in fields])


def decode(block: bytes, most: int) -> Headers:
    """The fields of a header block, `most` of them at most.

    Raises:
        HpackError: it is malformed, refers to the dynamic table or is too large.
    """
    fields: Headers = []
    at, size, end = 0, 0, len(block)
    while at < end:
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 7)
            field = _static(index)
        elif first & 0xE0 == 0x20:
            limit, at = _integer(block, at, 5)
            if limit or fields:
                raise HpackError("a dynamic table that nobody offered")
            continue
        else:
            index, at = _integer(block, at, 6 if first & 0x40 else 4)
            if index:
                name = _static(index)[0]
            else:
                name, at = _string(block, at)
            value, at = _string(block, at)
            field = (name, value)
        fields.append(field)
        size += len(field[0]) + len(field[1]) + 32
        if len(fields) > most or size > _LONGEST:
            raise HpackError("too many fields")
    return fields


def huffman_decode(data: bytes) -> bytes:
    """The string that `data` is the Huffman code of (§5.2).

    Raises:
        HpackError: it is not the code of any.
    """
    machine, accepting = _machine()
    state, out = 0, bytearray()
    for byte in data:
        for nibble in (byte >> 4, byte & 15):
            step = machine[state * 16 + nibble]
            if step is None:
                raise HpackError("no Huffman code")
            state, symbol = step
            if symbol >= 0:
                out.append(symbol)
    if not accepting[state]:
        raise HpackError("a Huffman code that is cut short")
    return bytes(out)


def huffman_encode(text: bytes) -> bytes:
    """The Huffman code of `text`, padded with ones."""
    codes = _codes()
    value = bits = 0
    for byte in text:
        code, length = codes[byte]
        value, bits = value << length | code, bits + length
    padding = -bits % 8
    return ((value << padding) | ((1 << padding) - 1)).to_bytes((bits + padding) // 8, "big")


def _encode_field(name: bytes, value: bytes) -> bytes:
    if len(value) > _SHORT or name in NEVER_INDEXED:
        return _encode_anew(name, value)
    return _encode_known(name, value)


def _encode_anew(name: bytes, value: bytes) -> bytes:
    index = _BY_FIELD.get((name, value))
    if index is not None:
        return bytes((0x80 | index,))
    kind = 0x10 if name in NEVER_INDEXED else 0x00
    named = _BY_NAME.get(name, 0)
    head = _encode_integer(named, 4, kind)
    return head + (b"" if named else _encode_string(name)) + _encode_string(value)


_encode_known: Final = lru_cache(4096)(_encode_anew)


def _encode_string(text: bytes) -> bytes:
    if len(text) <= _SHORT:
        short = huffman_encode(text)
        if len(short) < len(text):
            return _encode_integer(len(short), 7, 0x80) + short
    return _encode_integer(len(text), 7, 0) + text


def _encode_integer(value: int, bits: int, flags: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((flags | value,))
    out = bytearray((flags | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while shift <= _MOST_BITS and at < len(block):
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise HpackError("an integer without an end")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise HpackError("a string is missing")
    coded = block[at] & 0x80
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise HpackError("a string that is cut short")
    data = block[at : at + length]
    if not coded:
        return data, at + length
    return (_known_string if length <= _SHORT else huffman_decode)(data), at + length


_known_string: Final = lru_cache(4096)(huffman_decode)


def _static(index: int) -> tuple[bytes, bytes]:
    if not 0 < index <= len(STATIC_TABLE):
        raise HpackError(f"no entry {index} in the table")
    return STATIC_TABLE[index - 1]


@cache
def _codes() -> list[tuple[int, int]]:
    """Code and length of each symbol, the end's last."""
    codes = [(0, 0)] * len(CODE_LENGTHS)
    code = last = 0
    for symbol in sorted(range(len(CODE_LENGTHS)), key=lambda symbol: (CODE_LENGTHS[symbol], symbol)):
        length = CODE_LENGTHS[symbol]
        code <<= length - last
        codes[symbol] = (code, length)
        code, last = code + 1, length
    return codes


@cache
def _machine() -> tuple[list[tuple[int, int] | None], list[bool]]:
    """The decoder, four bits a step: from a state and a nibble to a state and a byte (-1: none yet).

    No code is shorter than five bits, so no step ends two of them. The other table says in which states a
    string may end: behind up to seven ones, the beginning of the end's own code.
    """
    root: Node = [None, None]
    nodes = [root]
    for symbol, (code, length) in enumerate(_codes()):
        node = root
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            child = node[bit]
            if not isinstance(child, list):
                child = [None, None]
                node[bit] = child
                nodes.append(child)
            node = child
        node[code & 1] = symbol
    number = {id(node): index for index, node in enumerate(nodes)}
    steps = [_step(root, node, nibble, number) for node in nodes for nibble in range(16)]
    accepting = [False] * len(nodes)
    node = root
    for _ in range(8):
        accepting[number[id(node)]] = True
        child = node[1]
        assert isinstance(child, list), "the end's code is the longest of ones"
        node = child
    return steps, accepting


def _step(root: Node, node: Node, nibble: int, number: dict[int, int]) -> tuple[int, int] | None:
    symbol = -1
    for shift in (3, 2, 1, 0):
        child = node[nibble >> shift & 1]
        if isinstance(child, list):
            node = child
        elif child is None or child == len(CODE_LENGTHS) - 1:
            return None  # the end's own code in a string is an error, too
        else:
            symbol, node = child, root
    return number[id(node)], symbol
