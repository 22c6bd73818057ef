"""The page of a challenge: one document, no resource from anywhere, its script named by its hash. Pure.

The script has its own SHA-256 because browsers offer theirs on https only. It works in slices, so that the
page stays responsive, then sets the cookie and loads the page again.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Final

_STYLE: Final = (
    "body{font:16px/1.6 system-ui;max-width:42rem;margin:12vh auto;padding:0 1rem;color:#123}"
    "h1{font-size:1.4rem}"
)

SCRIPT: Final = """
'use strict';
const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every(p => n % p)) primes.push(n);
const root = (n, power) => { const r = n ** power; return Math.floor((r - Math.floor(r)) * 2 ** 32) | 0; };
const K = primes.map(p => root(p, 1 / 3)), H = primes.slice(0, 8).map(p => root(p, 1 / 2));
const turn = (x, n) => x >>> n | x << 32 - n;
function sha256(text) {
  const count = (text.length + 8 >> 6) + 1 << 4, words = new Int32Array(count), w = new Int32Array(64);
  for (let i = 0; i < text.length; i++) words[i >> 2] |= text.charCodeAt(i) << 24 - (i & 3) * 8;
  words[text.length >> 2] |= 128 << 24 - (text.length & 3) * 8;
  words[count - 1] = text.length * 8;
  const state = H.slice();
  for (let block = 0; block < count; block += 16) {
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      if (i < 16) w[i] = words[block + i];
      else {
        const x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (turn(x, 7) ^ turn(x, 18) ^ x >>> 3)
          + (turn(y, 17) ^ turn(y, 19) ^ y >>> 10);
      }
      const s = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + K[i] + w[i] | 0;
      const t = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c) | 0;
      h = g; g = f; f = e; e = d + s | 0; d = c; c = b; b = a; a = s + t | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] = state[i] + value | 0; });
  }
  return state;
}
const { ticket, bits, ttl } = document.documentElement.dataset;
let number = 0;
function slice() {
  for (const until = Date.now() + 50; Date.now() < until;) {
    const shown = ticket + '.' + number++;
    if (sha256(shown)[0] >>> 32 - bits === 0) return done(shown);
  }
  setTimeout(slice, 0);
}
function done(shown) {
  const secure = location.protocol === 'https:' ? ';secure' : '';
  document.cookie = 'atoll-pass=' + shown + ';path=/;max-age=' + ttl + ';samesite=lax' + secure;
  if (document.cookie.includes('atoll-pass=')) location.reload();
  else document.getElementById('say').textContent = 'Cookies have to be allowed for this site.';
}
slice();
"""


def _hash(text: str) -> str:
    return base64.b64encode(sha256(text.encode()).digest()).decode()


CONTENT_POLICY: Final = (
    f"default-src 'none'; script-src 'sha256-{_hash(SCRIPT)}'; style-src 'sha256-{_hash(_STYLE)}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()

_HEAD: Final = '<!doctype html><html lang="en" data-ticket="%b" data-bits="%d" data-ttl="%d">'
_REST: Final = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>One moment</title>'
    f"<style>{_STYLE}</style><h1>One moment</h1>"
    '<p id="say">Your browser is doing a short computation. The page then opens by itself.</p>'
    f"<noscript><p>This needs JavaScript.</p></noscript><script>{SCRIPT}</script></html>\n"
)


def render(ticket: bytes, bits: int, ttl_s: int) -> bytes:
    """The page for `ticket`, whose characters need no escaping."""
    return _HEAD.encode() % (ticket, bits, ttl_s) + _REST.encode()
