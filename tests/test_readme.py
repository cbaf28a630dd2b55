# SPDX-License-Identifier: Apache-2.0
"""The README's code runs and its tables are whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from zoo.cli import _COMMANDS

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "README.md").read_text("utf-8")


def test_python_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    # -I keeps the source tree off the path: the installed package runs.
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Timing(" in done.stdout


def test_command_table_is_complete() -> None:
    named = set(re.findall(r"^\| `zoo (\w+)", TEXT, re.MULTILINE))
    assert named == set(_COMMANDS)


def test_links_lead_somewhere() -> None:
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_no_placeholder_is_left() -> None:
    assert "PLACEHOLDER" not in TEXT
