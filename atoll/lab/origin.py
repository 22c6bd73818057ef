"""An origin server: `python -m atoll.lab.origin`, on a socket it inherits.

The option `origin` names the host it plays: the lab's own, which is told what to say, or one of the shop's.
Only what that one needs is imported.
"""

from __future__ import annotations

import logging
import os
import sys

from atoll.errors import AtollError
from atoll.internet.laptop import LAB_ORIGIN
from atoll.node.role import read_role


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        config = read_role(os.environ)
        if config.options.get("origin", "") == LAB_ORIGIN:
            from atoll.lab import lab_origin

            lab_origin.serve()
        else:
            from atoll.lab.shop import server

            server.serve(config)
    except AtollError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
