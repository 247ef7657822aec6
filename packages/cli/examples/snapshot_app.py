# SPDX-License-Identifier: BSD-3-Clause
"""An HTTP endpoint that answers with a core of the very process that serves it.

    export CORESNAP_TOKEN="$(python3 -c 'import secrets; print(secrets.token_urlsafe())')"
    python snapshot_app.py --port 8080 &
    curl -f -X POST -H "Authorization: Bearer $CORESNAP_TOKEN" -o core.zst http://127.0.0.1:8080/

The core is compressed by zstd and sent while it is written, from a snapshot of the instant of the
request; nothing comes to a disk, and the process goes on. Alone this program has only itself to
show: copy the file into a service and mount SnapshotApp, which is plain ASGI. In FastAPI and
Starlette (the address then ends in a slash, /snapshot/):

    app.mount("/snapshot", SnapshotApp(os.environ["CORESNAP_TOKEN"]))

and in an ASGI application of one's own:

    if scope["type"] == "http" and scope["path"] == "/snapshot":
        await snapshot_app(scope, receive, send)

A core has every secret of the process, the token included; docs/http-example.md says what follows.
"""

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import logging
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import click

import coresnap

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

CHUNK = 256 << 10
LEAST_TOKEN = 32
GRACE = 10  # seconds for a core that is being sent when the server is to end
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what RFC 6750 lets a client send

log = logging.getLogger("snapshot")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response that has no core."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


def escaped(error: Exception) -> str:
    """An error on one line of ASCII: it may quote names that somebody else chose."""
    return str(error).encode("unicode_escape").decode()


async def answer(send: Send, what: Answer) -> None:
    """Send it."""
    body = f"{what.text}\n".encode()
    headers = {"content-type": "text/plain", "content-length": str(len(body)), **what.headers}
    await send(head(what.status, headers))
    await send({"type": "http.response.body", "body": body})


def head(status: int, headers: Mapping[str, str]) -> Message:
    """The start of every response."""
    all_headers = {**headers, "cache-control": "no-store"}
    encoded = [(name.encode(), value.encode()) for name, value in all_headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


class Snapshot:
    """A core of this process to read from, without ever holding up the event loop.

    One thread makes all calls, one after the other: close() waits for the read that goes on, and
    what open() has begun is closed even if nobody waits for it any more.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "snapshot")
        self._stream: coresnap.DumpStream | None = None

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def open(self) -> None:
        """Returns when the snapshot is taken and the process runs on."""
        await self._in_thread(self._open)

    def _open(self) -> None:
        self._stream = coresnap.open_stream(compression="zstd")

    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises if the core is torn."""
        return await self._in_thread(self._read)

    def _read(self) -> bytes:
        assert self._stream is not None
        return self._stream.read1(CHUNK)

    async def close(self) -> coresnap.Incomplete | None:
        """Release the snapshot; tells what a core that was read to its end lacks."""
        try:
            return await asyncio.shield(self._in_thread(self._close))
        finally:
            self._thread.shutdown(wait=False)

    def _close(self) -> coresnap.Incomplete | None:
        try:
            if self._stream is not None:
                self._stream.close()
        except coresnap.Incomplete as incomplete:
            return incomplete
        return None


class SnapshotApp:
    """ASGI application: POST with the token gets a core; see the beginning of the file.

    ``every``: seconds from one snapshot to the next; more of them would be a way to stop the
    process again and again.
    ``stall``: seconds that a client may take for a chunk, since a snapshot costs memory for each
    page that the process changes meanwhile.

    For one event loop. Several worker processes have a limit each, and the one that answers is the
    one in the core.
    """

    def __init__(self, token: str, *, every: float = 60, stall: float = 60) -> None:
        if not token:
            raise ValueError("there is no token, and a core has every secret of this process")
        if len(token) < LEAST_TOKEN or not TOKEN.fullmatch(token):
            raise ValueError(
                f"the token is not at least {LEAST_TOKEN} letters, digits and ._~+/- "
                "without spaces, so it could be guessed or not be sent"
            )
        self._token = digest(token.encode())
        self._every = every
        self._stall = stall
        self._busy = False
        self._next = time.monotonic()  # when the next snapshot may be taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this application has no {scope['type']}")
        refusal = self._refusal(scope)
        if refusal is not None:
            await answer(send, refusal)
            return
        client = scope.get("client") or ("somebody",)
        try:
            with self._turn():
                outcome = await self._serve(receive, send)
        except BaseException as error:
            log.error("%s: gave up: %r", client[0], error)
            raise
        # A warning: whoever gets a core gets everything, which any configuration should show.
        log.warning("%s: %s", client[0], outcome)

    def _refusal(self, scope: Scope) -> Answer | None:
        # POST only: browsers, crawlers and caches repeat a GET or make it in advance, and each one
        # would stop the process for a moment.
        if scope["method"] != "POST":
            return Answer(status=405, text="use POST", headers={"allow": "POST"})
        given = bearer(scope)
        # Nothing tells how far a wrong token was right: digests are compared, in constant time,
        # and all wrong ones get the same answer.
        if given is None:
            challenge = {"www-authenticate": 'Bearer realm="coresnap"'}
            return Answer(status=401, text="a bearer token is needed", headers=challenge)
        if not hmac.compare_digest(digest(given), self._token):
            challenge = {"www-authenticate": 'Bearer realm="coresnap", error="invalid_token"'}
            return Answer(status=401, text="wrong token", headers=challenge)
        wait = math.ceil(self._next - time.monotonic())
        later = {"retry-after": str(max(wait, 1))}
        if self._busy:
            return Answer(status=503, text="another core is being sent", headers=later)
        if wait > 0:
            return Answer(status=429, text="the last core is too recent", headers=later)
        return None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        # Nothing is awaited between _refusal() and here, so no two requests come this far.
        self._busy = True
        self._next = time.monotonic() + self._every
        try:
            yield
        finally:
            self._busy = False

    async def _serve(self, receive: Receive, send: Send) -> str:
        """Take a snapshot and send it; return what came of it, for the log."""
        snapshot = Snapshot()
        gone = asyncio.create_task(hang_up(receive))
        sent = 0
        try:
            try:
                await snapshot.open()
            except (coresnap.CoresnapError, OSError, RuntimeError) as error:  # also: no thread
                why = f"no core: {escaped(error)}"
                await answer(send, Answer(status=500, text=why))
                return why
            await send(head(200, core_headers()))
            while not gone.done() and (chunk := await snapshot.read()):
                # Returns when the client has taken most of what came before.
                async with asyncio.timeout(self._stall):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                sent += len(chunk)
            went_away = gone.done()
        finally:
            gone.cancel()
            lacking = await snapshot.close()
        if went_away:
            return f"went away after {sent} bytes of a core"
        await send({"type": "http.response.body"})
        return f"got a core, {sent} bytes" + (f"; {escaped(lacking)}" if lacking else "")


async def hang_up(receive: Receive) -> None:
    """Wait until the client has gone away; what it sends is ignored."""
    while (await receive())["type"] != "http.disconnect":
        pass


def core_headers() -> dict[str, str]:
    """Without a length, which nobody knows yet: HTTP/1.1 sends chunks, and a torn core lacks the
    last one."""
    return {
        "content-type": "application/zstd",
        "content-disposition": f'attachment; filename="core.{os.getpid()}.zst"',
        "x-accel-buffering": "no",  # nginx: do not collect it in files
    }


def bearer(scope: Scope) -> bytes | None:
    """The token of a request that has one."""
    found = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(found) != 1:
        return None
    scheme, _, token = found[0].partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" and token.strip() else None


def digest(token: bytes) -> bytes:
    """Of one length for all tokens: compare_digest() would show whether the lengths differ."""
    return hashlib.sha256(token).digest()


def is_loopback(host: str) -> bool:
    """Is it an address that only this machine reaches?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Refused(click.ClickException):
    """Not to be started like this."""

    exit_code = 2


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--every", default=60.0, show_default=True, type=click.FloatRange(min=0),
              help="Seconds from one core to the next.")  # fmt: skip
@click.option("--stall", default=60.0, show_default=True, type=click.FloatRange(min=0.001),
              help="Seconds that a client may take for a chunk.")  # fmt: skip
def main(host: str, port: int, every: float, stall: float) -> None:
    """Serve cores of this process to who has the token in CORESNAP_TOKEN."""
    import uvicorn  # only here: whoever mounts the application may have another server

    try:
        app = SnapshotApp(os.environ.get("CORESNAP_TOKEN", ""), every=every, stall=stall)
    except ValueError as error:
        raise Refused(
            f"{error}; set CORESNAP_TOKEN to the output of "
            "python3 -c 'import secrets; print(secrets.token_urlsafe())'"
        ) from None
    if not is_loopback(host):
        click.echo(
            f"Warning: listening on {host}: whoever reads the traffic has the token and the core; "
            "use a tunnel or a proxy with TLS",
            err=True,
        )
    uvicorn.run(
        app, host=host, port=port, lifespan="off", ws="none", timeout_graceful_shutdown=GRACE
    )


if __name__ == "__main__":
    main()
