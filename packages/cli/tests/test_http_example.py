# SPDX-License-Identifier: BSD-3-Clause
"""examples/snapshot_app.py, run as its users run it: by uvicorn, and asked by curl.

What curl cannot do, take the answer's beginning and then neither read on nor go away, Python does.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import psutil
import pytest

from coresnap import Core, CoreError, TruncatedCore
from lab.patience import DEADLINE
from packages.cli.tests.actors import PROGRAMS

pytestmark = pytest.mark.host

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/snapshot_app.py"
TOKEN = "correct-horse-battery-staple.0123456789"
RIGHT = ("-H", f"Authorization: Bearer {TOKEN}")
TOO_MUCH = 24  # MiB: more than sockets and pipes hold, so that a core waits for who reads it
MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878
FOREVER = 1000 * DEADLINE


class Server:
    """A program that serves, and what it said on standard error."""

    def __init__(self, *argv: str | Path, token: str | None = None) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "CORESNAP_TOKEN"}
        environment["PYTHONPATH"] = str(EXAMPLE.parent)
        if token is not None:
            environment["CORESNAP_TOKEN"] = token
        self.process = subprocess.Popen(
            [sys.executable, *argv],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # uvicorn's access log
            stderr=subprocess.PIPE,
        )
        self.pid = self.process.pid
        self.said = ""  # all of it
        self.heard = 0  # how much of that was waited for
        self.port = 0

    def until(self, sign: str) -> re.Match[str]:
        """Wait until it says something that matches, behind what was waited for before."""
        assert self.process.stderr is not None
        while not (found := re.compile(sign).search(self.said, self.heard)):
            ready, _, _ = select.select([self.process.stderr], [], [], DEADLINE)
            assert ready, f"waited for {sign!r}, saw {self.said!r}"
            piece = os.read(self.process.stderr.fileno(), 1 << 16)
            assert piece, f"no {sign!r} in {self.said!r}"
            self.said += piece.decode()
        self.heard = found.end()
        return found

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def children(self) -> list[psutil.Process]:
        """Its children, theirs, and so on: the dumper and the copy."""
        return psutil.Process(self.pid).children(recursive=True)

    def is_alone(self) -> None:
        """It has no children, zombies included, or soon has none."""
        _, left = psutil.wait_procs(self.children(), timeout=DEADLINE)
        assert left == []


@contextlib.contextmanager
def served(*argv: str | Path, token: str | None = None) -> Iterator[Server]:
    """The server, when it listens; it is killed at the end."""
    pytest.importorskip("uvicorn", reason="no uvicorn here")
    server = Server(*argv, token=token)
    try:
        server.port = int(server.until(r"running on http://127\.0\.0\.1:(\d+)")[1])
        yield server
    finally:
        server.process.kill()
        server.process.communicate(timeout=DEADLINE)


def example(*options: str) -> contextlib.AbstractContextManager[Server]:
    """The example alone."""
    return served(EXAMPLE, "--port", "0", *options, token=TOKEN)


def large(*, stall: float = FOREVER) -> contextlib.AbstractContextManager[Server]:
    """The example in a service that has much memory."""
    return served(PROGRAMS / "service.py", TOKEN, str(TOO_MUCH), str(stall))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The example, for any number of cores."""
    with example("--every", "0") as server:
        yield server


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    """The large one, for any number of cores."""
    with large() as server:
        yield server


@dataclass(frozen=True)
class Got:
    """What curl got."""

    status: int
    headers: Message
    body: str


def curl(*arguments: str | Path) -> Got:
    """A request by curl; its answer unless that goes to a file."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("no curl here")
    done = subprocess.run(
        [program, "-q", "-sS", "--noproxy", "*", "-D", "/dev/stderr", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    first, _, headers = done.stderr.partition("\n")
    return Got(int(first.split()[1]), Parser().parsestr(headers), done.stdout)


def refused(got: Got, status: int, **headers: str) -> None:
    """It is that answer, without a core, and no cache may keep it."""
    assert got.status == status
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers.get_content_type() == "text/plain"
    for name, value in headers.items():
        assert got.headers[name.replace("_", "-")] == value


@contextlib.contextmanager
def held(server: Server) -> Iterator[http.client.HTTPResponse]:
    """A core of the service whose beginning was read and whose rest does not fit on its way."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("POST", "/snapshot", headers={"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        assert response.status == 200
        assert response.read(len(MAGIC)) == MAGIC
        assert {child.name() for child in server.children()} >= {"coresnap-dumper"}
        yield response


def fetch(server: Server, to: Path, path: str = "/") -> Got:
    """A core into a file."""
    got = curl(*RIGHT, "-X", "POST", "-o", to, server.url(path))
    assert got.status == 200, to.read_text()
    return got


def unpack(packed: Path, core: Path) -> None:
    """By the program that everybody has; what it made stays if it fails."""
    with core.open("wb") as file:
        subprocess.run(["zstd", "-dc", packed], stdout=file, check=True, timeout=DEADLINE)


def still_works(server: Server, core: Path) -> None:
    """The service answers and gives a core."""
    assert curl(server.url("/ping")).body == f"pong {TOO_MUCH << 20}\n"
    fetch(server, core, "/snapshot")
    with Core(core) as opened:
        assert opened.process.pid == server.pid
    server.until(r"127\.0\.0\.1: got a core, \d+ bytes\n")


# Starting


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (None, "there is no token"),
        ("", "there is no token"),
        ("x" * 31, "not at least 32"),
        ("with a space " * 4, "without spaces"),
        ("ä" * 40, "without spaces"),
    ],
    ids=["none", "empty", "short", "spaces", "not-ascii"],
)
def test_without_a_good_token_it_does_not_start(token: str | None, why: str) -> None:
    server = Server(EXAMPLE, "--port", "0", token=token)
    _, err = server.process.communicate(timeout=DEADLINE)
    [line] = err.decode().splitlines()
    assert server.process.returncode == 2
    assert why in line
    assert "set CORESNAP_TOKEN to the output of python3 -c" in line
    assert not token or token not in line


def test_remedy_makes_a_good_token(server: Server) -> None:
    bad = Server(EXAMPLE, "--port", "0")
    _, err = bad.process.communicate(timeout=DEADLINE)
    program = err.decode().partition("python3 -c '")[2].partition("'")[0]
    made = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=DEADLINE)
    with served(EXAMPLE, "--port", "0", token=made.strip()) as other:
        refused(curl(*RIGHT, "-X", "POST", other.url()), 401)


def test_it_listens_on_loopback_unless_told(server: Server) -> None:
    [listening] = psutil.Process(server.pid).net_connections("inet")
    assert (listening.laddr.ip, listening.status) == ("127.0.0.1", psutil.CONN_LISTEN)
    assert "Warning" not in server.said


def test_another_address_gets_a_warning() -> None:
    # An address for documents (RFC 5737), which no machine has: it warns, and cannot listen.
    other = Server(EXAMPLE, "--port", "0", "--host", "192.0.2.1", token=TOKEN)
    _, err = other.process.communicate(timeout=DEADLINE)
    assert other.process.returncode != 0
    assert err.startswith(b"Warning: listening on 192.0.2.1: whoever reads the traffic")


# Answers without a core


def test_no_token_is_answered_by_a_challenge(server: Server) -> None:
    challenge = 'Bearer realm="coresnap"'
    for header in ("X: y", "Authorization: Basic dTpw", "Authorization: Bearer "):
        got = curl("-X", "POST", "-H", header, server.url())
        refused(got, 401, WWW_Authenticate=challenge)
    twice = curl(*RIGHT, *RIGHT, "-X", "POST", server.url())
    refused(twice, 401, WWW_Authenticate=challenge)


def test_all_wrong_tokens_get_the_same_answer(server: Server) -> None:
    wrong = [TOKEN[:-1], TOKEN[:-1] + "x", TOKEN + "x", "x", "ÿ"]
    answers = [
        curl("-X", "POST", "-H", f"Authorization: Bearer {token}", server.url()) for token in wrong
    ]
    for got in answers:
        refused(got, 401, WWW_Authenticate='Bearer realm="coresnap", error="invalid_token"')
        del got.headers["Date"]
    assert len({(got.body, str(got.headers)) for got in answers}) == 1


@pytest.mark.parametrize("arguments", [(), ("-I",), ("-X", "PUT"), ("-X", "OPTIONS")])
def test_only_post_takes_a_core(server: Server, arguments: tuple[str, ...]) -> None:
    got = curl(*RIGHT, *arguments, server.url())
    refused(got, 405, Allow="POST")
    assert ("-I" in arguments) == (got.body.splitlines()[-1] == "")
    assert server.children() == []


def test_one_core_in_a_while(tmp_path: Path) -> None:
    with example("--every", str(FOREVER)) as server:
        refused(curl("-X", "POST", server.url()), 401)  # takes nobody's turn
        fetch(server, tmp_path / "core.zst")
        server.until("got a core")
        got = curl(*RIGHT, "-X", "POST", server.url())
        refused(got, 429)
        assert FOREVER - DEADLINE < int(got.headers["Retry-After"]) <= FOREVER
        assert server.children() == []


def test_a_core_that_cannot_be_taken_is_explained(server: Server) -> None:
    tracer = subprocess.Popen(
        [sys.executable, PROGRAMS / "tracer.py", str(server.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"ready\n"
        got = curl(*RIGHT, "-X", "POST", server.url())
    refused(got, 500)
    assert re.fullmatch(rf"no core: .*\b{server.pid}\b.* traced .*; .+\n", got.body)
    server.until(r"127\.0\.0\.1: no core: ")
    assert "Traceback" not in server.said


# Answers with one


def test_core_is_the_servers_own(server: Server, tmp_path: Path) -> None:
    threads = {thread.id for thread in psutil.Process(server.pid).threads()}
    got = curl(*RIGHT, "-X", "POST", "--output-dir", tmp_path, "-OJ", server.url("/core"))
    assert got.status == 200
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["Content-Type"] == "application/zstd"
    assert got.headers["Content-Length"] is None
    packed = tmp_path / f"core.{server.pid}.zst"
    assert got.headers["Content-Disposition"] == f'attachment; filename="{packed.name}"'
    core = tmp_path / "core"
    unpack(packed, core)
    for name in (packed, core):
        with Core(name) as opened:
            assert opened.process.pid == server.pid
            assert {thread.tid for thread in opened.threads} >= threads
    server.is_alone()
    refused(curl(server.url()), 405)


def test_service_works_on_while_its_core_is_sent(service: Server, tmp_path: Path) -> None:
    with held(service) as response:
        assert curl(service.url("/ping")).body == f"pong {TOO_MUCH << 20}\n"
        second = curl(*RIGHT, "-X", "POST", service.url("/snapshot"))
        refused(second, 503, Retry_After="1")
        assert len(response.read()) > TOO_MUCH << 20
    service.until("got a core")
    still_works(service, tmp_path / "core.zst")


def test_client_that_goes_away_frees_the_snapshot(service: Server, tmp_path: Path) -> None:
    with held(service):
        children = service.children()
    sent = service.until(r"127\.0\.0\.1: went away after (\d+) bytes of a core\n")[1]
    assert int(sent) < TOO_MUCH << 20
    assert service.children() == []
    _, left = psutil.wait_procs(children, timeout=DEADLINE)
    assert left == []
    still_works(service, tmp_path / "core.zst")


def test_client_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    with large(stall=0.2) as server:
        with held(server):
            server.until(r"127\.0\.0\.1: gave up: TimeoutError\(\)")
            server.is_alone()
        still_works(server, tmp_path / "core.zst")


def test_torn_core_is_not_taken_for_a_whole_one(service: Server, tmp_path: Path) -> None:
    packed, core = tmp_path / "core.zst", tmp_path / "core"
    with held(service) as response:
        [dumper] = [child for child in service.children() if child.name() == "coresnap-dumper"]
        packed.write_bytes(MAGIC + response.read(TOO_MUCH << 18))
        dumper.kill()
        with pytest.raises(http.client.IncompleteRead) as torn:
            response.read()
    # It is seen wherever it is torn; by zstd alone, unless that is between two of its frames.
    with pytest.raises(subprocess.CalledProcessError):
        unpack(packed, core)
    with packed.open("ab") as file:
        file.write(torn.value.partial)
    with pytest.raises(CoreError):
        Core(packed)
    with contextlib.suppress(subprocess.CalledProcessError):
        unpack(packed, core)
    with pytest.raises(TruncatedCore):
        Core(core)
    service.until(r"127\.0\.0\.1: gave up: Failed\(")
    service.is_alone()
    still_works(service, packed)


def test_server_that_has_to_end_frees_the_snapshot() -> None:
    with large() as server, held(server):
        children = server.children()
        server.process.send_signal(signal.SIGINT)
        server.until("Waiting for connections to close")
        server.process.send_signal(signal.SIGINT)  # uvicorn: at once
        server.until("gave up: CancelledError")
        server.process.wait(DEADLINE)
        _, left = psutil.wait_procs(children, timeout=DEADLINE)
        assert left == []
