# SPDX-License-Identifier: BSD-3-Clause
"""The trial can fail: a client's error is seen, in what each load generator prints and in life."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

import coresnap
from lab.longform import REAL_DUMPS, REAL_ROUNDS, REAL_SECONDS
from lab.real import loads
from lab.real.loads import Served
from lab.real.scene import Scene
from lab.real.trial import METHODS, Client, Tally, impossible

WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.31ms    2.04ms  28.58ms   93.35%
    Req/Sec    22.37k     2.19k   27.45k    70.00%
  22307 requests in 1.00s, 3.23MB read
{trouble}Requests/sec:  22262.79
Transfer/sec:      3.23MB
"""
PGBENCH = """scaling factor: 4
number of transactions actually processed: 1315
number of failed transactions: {failed} (0.000%)
latency average = 3.042 ms
tps = 1314.9 (without initial connection time)
"""
REDIS = '"test","rps","avg_latency_ms","max_latency_ms"\n'
CLIENT = '{"requests": 500, "seconds": 2.0, "slowest_ms": 7.5, "errors": []}'


@pytest.mark.parametrize(
    ("read", "text", "served"),
    [
        (loads.read_wrk, WRK.format(trouble=""), Served(22262.79, 28.58)),
        (
            loads.read_wrk,
            WRK.format(trouble="").replace("28.58ms", "1.50s"),
            Served(22262.79, 1500),
        ),
        (loads.read_pgbench, PGBENCH.format(failed=0), Served(1314.9)),
        (loads.read_redis, REDIS + '"SET","99.5","0.4","8.1"\n', Served(99.5, 8.1)),
        (loads.read_client, CLIENT, Served(250, 7.5)),
    ],
)
def test_what_clients_got_is_read(read: Callable[[str], Served], text: str, served: Served) -> None:
    assert read(text) == served


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (
            loads.read_wrk,
            WRK.format(trouble="  Socket errors: connect 0, read 1, write 0, timeout 0\n"),
        ),
        (loads.read_wrk, WRK.format(trouble="  Non-2xx or 3xx responses: 3\n")),
        (loads.read_wrk, WRK.format(trouble="").replace("22262.79", "0.00")),
        (loads.read_wrk, "unable to connect to 127.0.0.1:1 Connection refused\n"),
        (loads.read_pgbench, PGBENCH.format(failed=1)),
        (loads.read_pgbench, ""),
        (loads.read_redis, "Error from server: LOADING\n"),
        (loads.read_redis, REDIS),
        (loads.read_client, CLIENT.replace("[]", '["TimeoutError: timed out"]')),
        (loads.read_client, CLIENT.replace("500", "0")),
    ],
)
def test_an_error_of_a_client_fails(read: Callable[[str], Served], text: str) -> None:
    with pytest.raises(AssertionError):
        read(text)


def test_there_are_runs_until_there_are_dumps_and_rounds_enough() -> None:
    tally = Tally(pauses_ns=[1] * REAL_DUMPS, served=[Served(1.0)] * REAL_ROUNDS)
    assert not tally.is_short()
    assert Tally(pauses_ns=tally.pauses_ns, served=tally.served[1:]).is_short()
    assert Tally(pauses_ns=tally.pauses_ns[1:], served=tally.served).is_short()


def test_only_a_kernel_without_precopy_excuses_from_a_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = coresnap.CoresnapError("this kernel cannot")
    checks = [coresnap.MethodCheck(method=method, error=refused) for method in METHODS]
    monkeypatch.setattr(coresnap, "doctor", lambda _: SimpleNamespace(methods=checks))
    assert impossible() == {coresnap.Method.PRECOPY: refused.what}
    monkeypatch.setattr(coresnap, "doctor", lambda _: SimpleNamespace(methods=()))
    assert impossible() == {}


def test_a_server_that_dies_under_its_clients_fails(here: Scene) -> None:
    socket = here.directory / "lines.sock"
    source = loads.PROGRAMS / "line_server.py"
    program = here.start(sys.executable, "-u", source, socket, "1", "word")
    program.wait_for("ready")
    client = Client(loads.lines(socket), REAL_SECONDS, here.directory)
    program.process.kill()
    with pytest.raises(AssertionError, match=r"is no answer|Error"):
        client.finish()
