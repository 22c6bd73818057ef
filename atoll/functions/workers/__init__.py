"""The Cloudflare Workers dialect, on workerd."""
