"""Protocol engines, header fields, TLS and the origin client."""
