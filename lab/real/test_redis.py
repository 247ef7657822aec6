# SPDX-License-Identifier: BSD-3-Clause
"""redis-server under redis-benchmark: a core has the key and the value that were set."""

from __future__ import annotations

from lab.real.scene import Scene
from lab.real.servers import Redis
from lab.real.trial import Record, find, survive


def test_clients_of_redis_notice_nothing(here: Scene, word: str, record_property: Record) -> None:
    redis = Redis(here)
    value = f"value-{word}"
    assert redis.ask("set", word, value) == "OK\n"
    survive(
        redis.loaded(),
        here,
        record_property,
        lambda core: find(core, word.encode(), value.encode()),
    )
    assert redis.ask("get", word) == f"{value}\n"
    assert redis.program.end() == 0
