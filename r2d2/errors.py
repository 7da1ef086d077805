"""Every error of R2D2, each with the exit status of the command line.

A message says what happened, to which thing, what was expected and what to do. It never holds a row value.
"""

from __future__ import annotations


class R2D2Error(Exception):
    """Base of all errors that R2D2 raises on purpose."""

    exit_status = 1


class UsageError(R2D2Error):
    """An argument or a configuration value is wrong."""

    exit_status = 2


class EngineError(R2D2Error):
    """The engine could not be started, or a job of the audit failed on it."""

    exit_status = 1


class LakeError(R2D2Error):
    """The lake as a whole cannot be read."""

    exit_status = 4


class Interrupted(R2D2Error):
    """The audit was stopped by Ctrl-C or SIGTERM."""

    exit_status = 130


class TableFault(R2D2Error):
    """One table cannot be judged; the audit goes on without it.

    Attributes:
        status: What becomes of the table: `failed` or `unsupported`.
        error: Short name of the fault, for machines.
    """

    status = "failed"

    def __init__(self, message: str, *, error: str = "Failed") -> None:
        super().__init__(message)
        self.error = error


class TableFailed(TableFault):
    """The table is damaged, inconsistent or unreadable."""

    status = "failed"


class NotOneTable(TableFailed):
    """Files of a folder have columns that its widest file lacks: each of them is a table of its own."""

    def __init__(self) -> None:
        super().__init__("a file has columns that the folder's widest file lacks", error="NotOneTable")


class TableChanged(TableFailed):
    """A file of the table is not the one that was pinned when the audit began."""

    def __init__(self) -> None:
        super().__init__("changed during the audit", error="Changed")


class TableUnsupported(TableFault):
    """The table uses something that R2D2 does not read."""

    status = "unsupported"

    def __init__(self, message: str, *, error: str = "Unsupported") -> None:
        super().__init__(message, error=error)
