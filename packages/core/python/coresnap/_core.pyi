# SPDX-License-Identifier: BSD-3-Clause
# The extension that cffi makes of ../decl/*.h. Structs of C are Any: only _ffi.py sees them.

from collections.abc import Callable
from typing import Any

class _Ffi:
    NULL: Any
    def new(self, cdecl: str, init: Any = ...) -> Any: ...
    def sizeof(self, cdecl: Any) -> int: ...
    def string(self, cdata: Any) -> bytes: ...
    def from_buffer(self, data: bytes) -> Any: ...
    def new_handle(self, value: object) -> Any: ...
    def from_handle(self, handle: Any) -> Any: ...
    def def_extern(
        self, *, error: int, onerror: Callable[..., None]
    ) -> Callable[[Callable[..., int]], Callable[..., int]]: ...

class _Lib:
    CORESNAP_METHOD_AUTO: int
    CORESNAP_METHOD_STOP: int
    CORESNAP_METHOD_FORK: int
    CORESNAP_METHOD_PRECOPY: int
    CORESNAP_METHOD_LIVEDUMP: int
    CORESNAP_STRICT_TIMEOUTS: int
    CORESNAP_FORCE: int
    CORESNAP_UNDUMPABLE: int
    CORESNAP_FILTER: int
    CORESNAP_NICE: int
    CORESNAP_IO_PRIO: int
    CORESNAP_OOM_ADJ: int
    CORESNAP_MIN_FREE_PERCENT: int
    CORESNAP_SKIP_FILTER: int
    CORESNAP_SKIP_DONTDUMP: int
    CORESNAP_SKIP_IO: int
    CORESNAP_SKIP_UNREADABLE: int
    CORESNAP_SKIP_THREAD: int
    CORESNAP_SKIP_UNMAPPED: int
    CORESNAP_SKIP_TAGS: int
    CORESNAP_SKIP_LIMIT: int
    CORESNAP_KEEP_FIRST: int
    CORESNAP_KEEP_SMALL: int
    CORESNAP_COMPRESS_NONE: int
    CORESNAP_COMPRESS_ZSTD: int
    CORESNAP_COMPRESS_LZ4: int
    CORESNAP_COMPRESS_GZIP: int
    CORESNAP_PHASE_SEIZE: int
    CORESNAP_PHASE_STOP: int
    CORESNAP_PHASE_REGISTERS: int
    CORESNAP_PHASE_SCAN: int
    CORESNAP_PHASE_COPY: int
    CORESNAP_PHASE_SPILL: int
    CORESNAP_PHASE_THAW: int
    CORESNAP_PHASE_WRITE: int
    CORESNAP_PHASE_AHEAD: int
    CORESNAP_REGION_HEAP: int
    CORESNAP_REGION_STACK: int
    CORESNAP_REGION_ANONYMOUS: int
    CORESNAP_REGION_SHARED: int
    CORESNAP_REGION_FILE: int
    CORESNAP_REGION_HUGETLB: int
    CORESNAP_REGION_SPECIAL: int
    CORESNAP_TO_PATH: int
    CORESNAP_TO_FD: int
    CORESNAP_TO_MEMORY: int
    def callback_install(self, callback: Any, options: Any, asks: int) -> None: ...
    def callback_listen(self, callback: Any) -> int: ...
    def callback_answer(self, callback: Any, answer: int) -> None: ...
    def coresnap_dump(self, pid: int, to: Any, options: Any, result: Any, error: Any) -> int: ...
    def coresnap_dump_self(self, to: Any, options: Any, result: Any, error: Any) -> int: ...
    def coresnap_check(self, pid: int, method: int, error: Any) -> int: ...
    def coresnap_estimate(self, pid: int, options: Any, estimate: Any, error: Any) -> int: ...
    def coresnap_livedump_error(self, pid: int, os_errno: int, error: Any) -> int: ...
    def coresnap_version(self) -> Any: ...
    def coresnap_method_name(self, method: int) -> Any: ...
    def coresnap_skip_reason_name(self, reason: int) -> Any: ...
    def coresnap_code_name(self, code: int) -> Any: ...
    def coresnap_phase_name(self, phase: int) -> Any: ...
    def coresnap_region_name(self, region: int) -> Any: ...

ffi: _Ffi
lib: _Lib
