"""``python -m experiments.dashboard``: without an account specs are written, with one they are saved over HTTP."""

import json
import logging
import re
import sys

import pytest
import wandb

from experiments import dashboard, dashboards
from experiments.dashboards import boards
from experiments.launcher import USER_ERROR, run_program
from tests.wandb_server import WandbServer


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, and no account."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()  # what it knows of the environment
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)
    wandb.teardown()


def start(*arguments):
    return run_program("dashboard", dashboard.act, dashboard.check, ["hydra.run.dir=made", *arguments])


def sentence(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def made(place, name):
    return json.loads((place / "made" / f"{name}.json").read_text())


class TestProgram:
    def test_without_an_account_specs_are_written(self, place, capsys, monkeypatch):
        monkeypatch.setattr(wandb, "Api", lambda: pytest.fail("W&B was asked"))
        assert start("logger.project=mine", "logger.entity=me") == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(place / "made" / "summary.json")
        found = made(place, "summary")
        assert (found["project"], found["entity"]) == ("mine", "me")
        assert found["report"] == {"spec": str(place / "made" / "report.json"), "url": None}
        assert found["workspace"] == {"spec": str(place / "made" / "workspace.json"), "url": None}
        assert [
            section["name"] for section in made(place, "workspace")["spec"]["section"]["panelBankConfig"]["sections"]
        ]
        assert made(place, "report")["project"] == {"name": "mine", "entityName": "me"}

    def test_only_one_of_them(self, place):
        assert start("kind=workspace", "save=false", "logger.mode=online") == 0
        assert sorted(path.name for path in (place / "made").glob("*.json")) == ["summary.json", "workspace.json"]

    def test_saving_needs_a_key(self, place, capsys):
        for arguments in (["save=true"], ["logger.mode=online"]):
            assert start(*arguments) == USER_ERROR
            assert "no API key was found; run `wandb login`" in sentence(capsys)
        assert not (place / "made").exists()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["kind=page"], r"unknown kind 'page' \(allowed: all, report, workspace\)"),
            (["logger=csv"], "dashboards are those of Weights & Biases; leave logger=csv out"),
            (["logger.mode=on"], "unknown logger.mode 'on'"),
        ],
    )
    def test_mistakes(self, place, capsys, arguments, words):
        assert start(*arguments) == USER_ERROR
        assert re.search(words, sentence(capsys))

    def test_without_the_library(self, place, capsys, monkeypatch):
        monkeypatch.delitem(sys.modules, boards.__name__)
        monkeypatch.delattr(dashboards, "boards")
        monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
        assert start() == USER_ERROR
        assert sentence(capsys).startswith("wandb-workspaces cannot be imported (")


class TestSaving:
    @pytest.fixture
    def server(self, place, monkeypatch):
        """A server on this machine, and a key for it."""
        server = WandbServer()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 120)  # this machine may be busy
        yield server
        server.close()

    def test_uploads_the_specs_that_are_written(self, place, server, capsys):
        assert start("save=true", "logger.project=mine", "logger.group=some") == 0
        report, workspace = server.saved
        for view, name in ((report, "report"), (workspace, "workspace")):
            assert (view["entityName"], view["projectName"], view["displayName"]) == ("someone", "mine", boards.TITLE)
            assert json.loads(view["spec"]) == made(place, name)["spec"]
        assert (report["type"], workspace["type"]) == ("runs", "project-view")
        summary = made(place, "summary")
        assert summary["report"]["url"] == f"{server.url}/someone/mine/reports/WPK-Envs--view1"
        assert summary["workspace"]["url"].startswith(f"{server.url}/someone/mine?nw=")
        out, err = capsys.readouterr()
        assert summary["report"]["url"] in out
        assert err == ""

    def test_a_refusal_is_a_sentence_and_the_spec_is_kept(self, place, server, capsys):
        server.refusal = "permission denied"
        assert start("save=true", "kind=workspace", "logger.entity=others") == USER_ERROR
        assert re.match(r"W&B refused the workspace \(.*permission denied.*\); look at the network", sentence(capsys))
        assert made(place, "workspace")["entity"] == "others"
        assert "Traceback" in (place / "made" / "dashboard.log").read_text()

    def test_without_a_network(self, place, server, capsys, monkeypatch):
        monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 1)
        server.close()
        assert start("save=true", "kind=report") == USER_ERROR
        assert sentence(capsys).startswith("W&B refused the account's name (")
        assert not server.saved
