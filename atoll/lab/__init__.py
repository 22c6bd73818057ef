"""The local network around the PoPs: emulated Internet, eyeball gateway, origins."""
