"""The fields of a wrangler file: those that mean something here, and why the others are refused.

Rules as data: `wrangler.py` applies them and `docs/compatibility.md` is checked against them.
"""

from __future__ import annotations

from typing import Final

SUPPORTED: Final = (
    "$schema",
    "compatibility_date",
    "compatibility_flags",
    "main",
    "name",
    "route",
    "routes",
    "vars",
)
"""`$schema` is for editors: it says what the file is, not what the function does."""

UNSUPPORTED: Final = {
    "account_id": "it names an account at Cloudflare: remove it",
    "ai": "Workers AI is not offered",
    "analytics_engine_datasets": "the analytics engine is not offered yet",
    "assets": "static assets are not offered yet",
    "base_dir": "modules are found by following imports",
    "browser": "browser rendering is not offered",
    "build": "commands are not run on deploy: build first, then deploy the result",
    "containers": "containers have a file of their own",
    "d1_databases": "SQL databases are not offered yet",
    "define": "replacements at build time are not offered yet",
    "dispatch_namespaces": "dispatch namespaces are not offered",
    "durable_objects": "Durable Objects are not offered yet",
    "env": "environments are not offered yet: use one directory for each",
    "find_additional_modules": "modules are found by following imports",
    "hyperdrive": "Hyperdrive is not offered",
    "images": "the images binding is not offered yet",
    "kv_namespaces": "KV namespaces are not offered yet",
    "limits": "limits are the network's, not the function's",
    "logpush": "logs are read with `atoll logs`",
    "migrations": "Durable Objects are not offered yet",
    "minify": "scripts are deployed as written",
    "mtls_certificates": "client certificates are not offered yet",
    "no_bundle": "a script without imports is deployed as written",
    "node_compat": 'write compatibility_flags = ["nodejs_compat"]',
    "observability": "logs are always on: remove it",
    "pipelines": "pipelines are not offered",
    "placement": "a function runs at every PoP",
    "preview_urls": "preview addresses are not offered yet",
    "queues": "queues are not offered yet",
    "r2_buckets": "buckets are not offered yet",
    "rules": "modules are told by their endings: .wasm, .bin, .txt, .html, .sql",
    "send_email": "sending mail is not offered",
    "send_metrics": "nothing is sent anywhere: remove it",
    "services": "service bindings are not offered yet",
    "site": "static assets are not offered yet",
    "tail_consumers": "tail consumers are not offered yet",
    "triggers": "cron triggers are not offered yet",
    "tsconfig": "the tsconfig.json beside the script is used",
    "type": "it is a field of wrangler 1: remove it",
    "unsafe": "unsafe bindings are not offered",
    "upload_source_maps": "source maps are not kept",
    "usage_model": "it is a price at Cloudflare: remove it",
    "vectorize": "Vectorize is not offered",
    "version_metadata": "version metadata is not offered yet",
    "workers_dev": "there is no workers.dev here: write routes instead",
    "workflows": "workflows are not offered yet",
    "zone_id": "write routes with their host names",
}
