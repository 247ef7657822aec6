# SPDX-License-Identifier: BSD-3-Clause
"""What a dump can fail with: a class per code of the library, which is also an exit code."""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from ._exception import KeywordException

if TYPE_CHECKING:
    from .result import DumpResult


class Code(enum.IntEnum):
    """``enum coresnap_code`` of coresnap.h; the programs exit with the same numbers."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_PROCESS = 3
    NOT_PERMITTED = 4
    INCOMPLETE = 5
    NO_SPACE = 6
    TARGET_GONE = 7
    DEADLINE = 8
    PAUSE = 11
    CANCELLED = 130


class CoresnapError(KeywordException):
    """Base of every error of a dump.

    ``code`` and ``exit_code`` belong to the class; the other fields to the failure. ``what`` is one
    line (what failed, on what, why), ``remedy`` one line (what to do about it) or empty. Both may
    quote names that the target chose: escape control characters before printing them.
    """

    code: ClassVar[Code] = Code.FAILED
    exit_code: ClassVar[int] = int(Code.FAILED)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.exit_code = int(cls.code)

    def __init__(
        self,
        what: str,
        *,
        remedy: str = "",
        pid: int | None = None,
        tid: int | None = None,
        address: int | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.pid = pid
        """Process that it was about."""
        self.tid = tid
        """Thread that it was about."""
        self.address = address
        """Address in the target's memory that it was about."""
        self.errno = errno
        """Number of the failing system call, as in module ``errno``."""

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class Failed(CoresnapError):
    """Anything that has no class of its own: unwritable place, existing file, closed pipe.

    ``errno`` tells them apart (EACCES, EEXIST, EPIPE). Nothing is left under the final name.
    """

    code = Code.FAILED


class UsageError(CoresnapError):
    """The arguments have no meaning or contradict each other; the target was not touched."""

    code = Code.USAGE


class NoProcess(CoresnapError):
    """No such process, a zombie, or a kernel thread; there is no memory to dump."""

    code = Code.NO_PROCESS


class NotPermitted(CoresnapError):
    """Another user's process, a setuid, undumpable or traced one, or Yama forbids it."""

    code = Code.NOT_PERMITTED


class Incomplete(CoresnapError):
    """The core was written, but threads or pages that belong into it are missing.

    The core exists where it was asked for; ``result`` is what the call would have returned, and
    says what is missing.
    """

    code = Code.INCOMPLETE

    def __init__(
        self,
        what: str,
        *,
        result: "DumpResult",
        remedy: str = "",
        pid: int | None = None,
        tid: int | None = None,
        address: int | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(what, remedy=remedy, pid=pid, tid=tid, address=address, errno=errno)
        self.result = result


class NoSpace(CoresnapError):
    """The file system or the quota is full, or memory is too short; what was written is deleted."""

    code = Code.NO_SPACE


class TargetGone(CoresnapError):
    """The target exited or called execve during the dump."""

    code = Code.TARGET_GONE


class DeadlineExceeded(CoresnapError):
    """A deadline passed; nothing was written and the target runs on."""

    code = Code.DEADLINE


class PauseTooLong(CoresnapError):
    """The pause would exceed ``max_pause``; the target runs on and nothing was written."""

    code = Code.PAUSE


class Cancelled(CoresnapError):
    """The dump was cancelled; what was written is deleted and the target runs on.

    Exceptions of ``on_progress`` and of signal handlers are raised themselves instead of this.
    """

    code = Code.CANCELLED


CLASSES: Final[Mapping[Code, type[CoresnapError]]] = MappingProxyType(
    {
        cls.code: cls
        for cls in (
            Failed,
            UsageError,
            NoProcess,
            NotPermitted,
            Incomplete,
            NoSpace,
            TargetGone,
            DeadlineExceeded,
            PauseTooLong,
            Cancelled,
        )
    }
)
"""The one table from codes to classes."""
