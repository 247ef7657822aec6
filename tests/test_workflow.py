# SPDX-License-Identifier: BSD-3-Clause
"""The workflow of the public forge, which cannot run here: well-formed, and it asks for little."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / ".github/workflows/ci.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    """What a parser makes of the file. The key `on` is a truth value in YAML 1.1."""
    content = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    assert isinstance(content, dict)
    return {"on" if key is True else str(key): value for key, value in content.items()}


def test_it_may_only_read(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    assert set(workflow["on"]) == {"push", "pull_request"}


def test_actions_have_versions_and_scripts_are_there(workflow: dict[str, Any]) -> None:
    for job in workflow["jobs"].values():
        steps = job["steps"]
        for step in steps:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(
                r"actions/[\w-]+@v\d+\.\d+\.\d+", step.get("uses", "actions/x@v1.0.0")
            )
        scripts = [step["run"] for step in steps if step.get("run", "").startswith("ci/")]
        assert scripts
        assert all((ROOT / script).is_file() for script in scripts)
        failed = [step for step in steps if step.get("if") == "failure()"]
        assert [step["with"]["path"] for step in failed] == ["build/results"]
