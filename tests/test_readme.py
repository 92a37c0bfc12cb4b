"""The README's promises: its Python runs, its command lines are those that are checked, its links exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_tutorial_runs(tmp_path):
    (tutorial,) = blocks("python")
    (tmp_path / "tutorial.py").write_text(tutorial)
    environment = {**os.environ, "WPK_STORE": str(tmp_path / "records.sqlite")}
    command = [sys.executable, "tutorial.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "@T.prim_func" in done.stdout
    assert re.search(r"log speedup over oneDNN's best: -?\d+\.\d\d \{", done.stdout)


def test_the_two_command_lines_are_those_of_ci():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install -e . && python -m experiments.run algo=ppo op=conv3x3" in lines
    assert "pip install -e '.[dev]' && pytest" in lines
    for program in re.findall(r"readme_line '(.*?)'", script):
        assert sum(bool(re.match(rf"pip install -e .* && {program}", line)) for line in lines) == 1


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


FOLDERS = re.findall(r"^\| `([a-z_/.]+)`", README.split("## How it is built")[1], re.MULTILINE)


@pytest.mark.parametrize("path", FOLDERS)
def test_the_map_of_folders_is_true(path):
    assert (ROOT / path).exists()


def test_the_map_names_every_package():
    assert {"wpk_envs/core.py", "wpk_envs/envs/", "agents/"} < set(FOLDERS)
