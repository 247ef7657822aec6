# SPDX-License-Identifier: BSD-3-Clause
"""What can go wrong with a guest, each with what it says."""

from __future__ import annotations

from enum import Enum


class GuestError(Exception):
    """Something about a guest failed; the text says what, on what, why and what to do."""


class QemuMissing(GuestError):
    """The emulator is not installed, or does not start at all."""


class Loss(Enum):
    """How a guest was lost."""

    DIED = "died"
    PANICKED = "panicked"
    HUNG = "hung"
    SILENT = "said nothing"
    CONFUSED = "answered nonsense"


class GuestLost(GuestError):
    """A guest is not there any more, or does not answer.

    ``loss`` says how; ``doing`` what was asked of it; ``why`` what is known;
    ``console`` is the tail of its console.
    """

    def __init__(self, *, guest: str, loss: Loss, doing: str, why: str, console: str) -> None:
        self.guest = guest
        self.loss = loss
        self.doing = doing
        self.why = why
        self.console = console
        super().__init__(f"The guest {guest} {loss.value} while {doing}: {why}\n{console}")


class BootFailed(GuestLost):
    """A guest was lost before its agent said hello."""


class RestoreFailed(GuestLost):
    """A guest was lost before it had woken from its state file."""


class KvmUnusable(GuestError):
    """KVM was asked for, and no guest boots under it here."""


class RequestFailed(GuestError):
    """The guest is well, and says that it could not do what it was asked.

    ``kind`` is the exception's type in the guest, ``errno`` its number or None.
    """

    def __init__(self, *, guest: str, doing: str, kind: str, text: str, errno: int | None) -> None:
        self.kind = kind
        self.errno = errno
        super().__init__(f"The guest {guest} failed at {doing}: {kind}: {text}")


class ProgramFailed(GuestError):
    """A program in a guest ended otherwise than it should.

    ``status`` is its exit status, negative for a signal; ``late`` says that it was killed at its
    deadline.
    """

    def __init__(self, text: str, *, status: int, late: bool, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.late = late
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(text)


class CallFailed(GuestError):
    """A function that was called in a guest raised; its traceback there is in the text.

    ``kind`` is the exception's type there, ``reason`` its text, ``output`` what it had printed.
    """

    def __init__(self, text: str, *, kind: str, reason: str, output: str) -> None:
        self.kind = kind
        self.reason = reason
        self.output = output
        super().__init__(text)
