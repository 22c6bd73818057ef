"""Policy files, and the secrets they refer to, which are in variables and files of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from atoll.config.policy import PolicyFile, Surroundings, parse
from atoll.config.policy_fields import Source
from atoll.errors import AtollError

MAX_SECRET: Final = 64 * 1024
"""Bytes of a file with a secret or a key."""


def read_policy(path: Path, around: Surroundings) -> PolicyFile:
    """The policy in `path`. Relative names in it begin at its folder.

    Raises:
        AtollError: it cannot be read, or has a mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AtollError("not UTF-8 text", "a policy file is TOML, in UTF-8", str(path)) from error
    except OSError as error:
        raise AtollError(f"the policy cannot be read: {error.strerror}", where=str(path)) from error
    return parse(str(path), text, find_secret, str(path.absolute().parent), around)


def find_secret(source: Source, name: str) -> str:
    """What an environment variable or a file says, without the line's end.

    Raises:
        AtollError: there is none, or it is empty.
    """
    value = os.environ.get(name, "") if source == "env" else read_secret(Path(name))
    if not value:
        hint = "set it where this command runs" if source == "env" else "put the secret into it"
        raise AtollError(f"{'variable' if source == 'env' else 'file'} {name} is empty or not there", hint)
    return value


def read_secret(path: Path) -> str:
    """What a file with a secret says, without the line's end.

    Raises:
        AtollError: it cannot be read, or is no secret.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET + 1)
        text = data.decode().strip("\r\n")
    except OSError as error:
        raise AtollError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AtollError(f"{path} is not text") from error
    if len(data) > MAX_SECRET:
        raise AtollError(f"{path} is too long for a secret", f"{MAX_SECRET} bytes at most")
    return text
