"""The one root of errors that Atoll raises on purpose.

A message says what is wrong, `hint` what to do about it, `where` the file, line, field or header.
The command line prints the three; nothing else about a user's mistake reaches them.
"""


class AtollError(Exception):
    """Something a person can act on.

    Args:
        message: what is wrong, one sentence.
        hint: what would be right, or what to do.
        where: `file:line`, a field's path or a header's name.
    """

    def __init__(self, message: str, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        """All three parts on one line, as the command line and the API print them."""
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head} ({self.hint})" if self.hint else head


class RemoteError(AtollError):
    """A peer's fault. `status` is what to answer with (an HTTP status code)."""

    def __init__(self, message: str, status: int = 502, hint: str = "", where: str = "") -> None:
        super().__init__(message, hint, where)
        self.status = status
