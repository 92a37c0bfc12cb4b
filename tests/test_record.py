"""``python -m experiments.record``, run as its launcher runs it."""

import dataclasses
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

from experiments import bundle_build, planning, record
from experiments.gpu_check import GpuCheckConfig
from experiments.launcher import INTERRUPTED, USER_ERROR, run_program
from tests.bundles import entry, program
from tests.test_merge import BROKEN, MEASURED, write
from wpk_envs import operators
from wpk_envs.devices.acceptance import ODD_OPERATORS
from wpk_envs.devices.cuda.builder import BuildCandidate, Built
from wpk_envs.devices.cuda.bundle import Bundle
from wpk_envs.devices.cuda.bundle_server import Checked, checkable
from wpk_envs.devices.cuda.descriptions import describe
from wpk_envs.devices.messages import Failure
from wpk_envs.records import Store, read_table
from wpk_envs.schedules import build_space

BUILD = ("stage=build", "device=h200", "bundle=some.bundle")


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Run the program in tmp_path; exit code, what was printed, and the summary if there is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(*arguments):
        summary = tmp_path / "run" / "summary.json"
        summary.unlink(missing_ok=True)
        code = run_program("record", record.act, record.check, [*arguments, "hydra.run.dir=run"])
        out, err = capsys.readouterr()
        return code, out + err, json.loads(summary.read_text()) if summary.exists() else None

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)


def spilling(made):
    resources = {"kernel": dataclasses.replace(made.resources["kernel"], spill_bytes=8, local_bytes=8)}
    return dataclasses.replace(made, resources=resources)


class Pool:
    """Stands in for the workers: programs are made up, and each position's outcome is what the test wants."""

    asked: ClassVar[Counter[str]] = Counter()
    interrupt_after = None
    outcomes: ClassVar[dict[int, object]] = {}
    problem = ""

    def __init__(self, starts):
        self.info = "a compiler"

    def warm_up(self):
        pass

    def close(self):
        pass

    def run(self, requests, seconds, on_reply):
        for position, request in enumerate(requests):
            if position == type(self).interrupt_after:
                raise KeyboardInterrupt
            self.asked[type(request).__name__] += 1
            on_reply(position, self.answer(position, request))

    def answer(self, position, request):
        if not isinstance(request, BuildCandidate):
            return Checked(4, 4, 1e-7, self.problem)
        made = program(image=request.candidate.key.encode())
        return self.outcomes.get(position, lambda made: Built(made, 0.1))(made)


@pytest.fixture
def pool(monkeypatch):
    """Made-up workers, whose class attributes say what they do."""
    pool = type("Pool", (Pool,), {"asked": Counter()})
    monkeypatch.setattr(bundle_build, "WorkerPool", pool)
    return pool


def test_a_bundle_is_built_checked_and_gone_on_with(start, tmp_path):
    arguments = (*BUILD, "op=gemv", "check=2", "workers=1")
    code, out, summary = start(*arguments, "configs=4")
    assert code == 0, out
    assert {key: summary[key] for key in ("arch", "configs", "compiled", "failed", "built_now")} == {
        "arch": "sm_90",
        "configs": 4,
        "compiled": 4,
        "failed": 0,
        "built_now": 4,
    }
    assert (summary["ptx_checked"], summary["ptx_wrong"], summary["ptx_whole"]) == (2, 0, 2)
    assert summary["per_minute"] > 10
    assert summary["bundle_bytes"] == (tmp_path / "some.bundle").stat().st_size < 4 * 30_000
    made = Bundle.read(tmp_path / "some.bundle")
    assert made.arch == "sm_90"
    space = build_space(operators.get("gemv"), made.device)
    for each in made.entries:
        assert space.candidate(space.encode(each.config)).key == each.candidate
        assert each.program.image.startswith(b"\x7fELF")
        assert each.build_seconds > 0
    code, _, summary = start(*arguments, "configs=6", "check=0")
    assert (code, summary["compiled"], summary["built_now"], summary["ptx_checked"]) == (0, 6, 2, 0)
    assert {each.candidate for each in made.entries} < {
        each.candidate for each in Bundle.read(tmp_path / "some.bundle").entries
    }


def test_configs_are_spread_over_the_operators_of_a_suite(start, pool):
    code, _, summary = start(*BUILD, "op=bert_base/all", "configs=28")
    assert code == 0
    assert summary["operators"] == {
        f"bert_base/{member.number}": 4 for member in operators.suites()["bert_base"].members
    }
    assert summary["templates"] == {"cuda/gemm": {"compiled": 28, "spilled": 0, "local_memory": 0}}


def test_the_most_valuable_come_first(start, pool, tmp_path):
    pool.outcomes = {0: lambda made: Built(spilling(made), 0.1)}
    _, _, summary = start(*BUILD, "op=conv3x3", "op.height=7", "configs=20")
    assert (summary["spilled"], summary["local_memory"]) == (1, 0)
    entries = Bundle.read(tmp_path / "some.bundle").entries
    assert [each.spills for each in entries] == [False] * 19 + [True]
    templates = [each.template for each in entries]
    assert set(templates[:3]) == {"cuda/direct_conv", "cuda/implicit_gemm_conv", "cuda/winograd_conv"}
    assert set(templates[3:6]) == set(templates[:3])


def test_failures_are_counted_and_named_and_not_tried_again(start, pool):
    pool.outcomes = {
        1: lambda made: Failure("compile", "this does not compile"),
        2: lambda made: Failure("timeout", "no answer"),
    }
    code, out, summary = start(*BUILD, "op=gemm", "configs=5", "check=0")
    assert code == 0
    assert (summary["compiled"], summary["failed"], summary["configs"]) == (3, 2, 5)
    assert [each["message"] for each in summary["failures"]] == ["this does not compile", "no answer"]
    assert "failed: gemm {'template': 'gemm'" in out
    pool.outcomes = {}
    _, _, summary = start(*BUILD, "op=gemm", "configs=5", "check=0")
    assert (summary["compiled"], summary["failed"], summary["built_now"]) == (4, 1, 1)


def test_wrong_kernels_are_reported(start, pool):
    pool.problem = "the output is wrong"
    code, out, summary = start(*BUILD, "op=gemm", "configs=5", "check=2")
    assert (code, summary["ptx_checked"], summary["ptx_wrong"]) == (0, 2, 2)
    assert out.count("WRONG: gemm") == 2
    assert summary["wrong"][0]["problem"] == "the output is wrong"


def test_ctrl_c_keeps_what_was_built(start, pool, tmp_path):
    pool.interrupt_after = 3
    code, out, summary = start(*BUILD, "op=gemm", "configs=9")
    assert code == INTERRUPTED
    assert (summary["interrupted"], summary["compiled"]) == (True, 3)
    assert "the same command goes on" in out
    assert len(Bundle.read(tmp_path / "some.bundle").entries) == 3
    pool.interrupt_after = None
    pool.asked.clear()
    code, _, summary = start(*BUILD, "op=gemm", "configs=9", "check=0")
    assert (code, summary["compiled"], pool.asked["BuildCandidate"]) == (0, 9, 6)
    assert list(tmp_path.glob("*.partial")) == []


def test_a_killed_build_is_gone_on_with(start, pool, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_build.BundleBuild, "finish", lambda self: None)
    start(*BUILD, "op=gemm", "configs=5", "check=0")
    partial = tmp_path / "some.bundle.partial"
    partial.write_bytes(partial.read_bytes()[:-9])  # the last line was not finished
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle_build, "WorkerPool", pool)
    pool.asked.clear()
    code, _, summary = start(*BUILD, "op=gemm", "configs=5", "check=0")
    assert (code, summary["compiled"], pool.asked["BuildCandidate"]) == (0, 5, 1)
    assert not partial.exists()


def test_a_bundle_of_something_else_is_not_overwritten(start, pool, tmp_path):
    start(*BUILD, "op=gemm", "configs=2", "check=0")
    before = (tmp_path / "some.bundle").read_bytes()
    code, out, _ = start("stage=build", "device=p100", "bundle=some.bundle", "op=gemm", "configs=2")
    assert code == USER_ERROR
    assert "some.bundle' was begun with other device than asked for now; name another file" in out
    assert (tmp_path / "some.bundle").read_bytes() == before
    (tmp_path / "some.bundle").write_text("notes")
    code, out, _ = start(*BUILD, "op=gemm", "configs=2")
    assert (code, "is not a bundle" in out) == (USER_ERROR, True)
    assert (tmp_path / "some.bundle").read_text() == "notes"


def test_bundles_for_acceptance_have_odd_shapes_and_kernels_that_misbehave(start, pool, tmp_path):
    code, _, summary = start(*BUILD, "acceptance=true", "configs=20", "check=0")
    assert (code, summary["configs"], summary["acceptance"]) == (0, 20, True)
    made = Bundle.read(tmp_path / "some.bundle")
    assert made.acceptance
    assert set(ODD_OPERATORS) < {each.name for each in made.entries}
    assert {each.expected for each in made.entries} == {"correct", "wrong", "crash", "endless"}
    assert made.entries[-1].program.arch == "sm_90"


def test_equal_operators_come_once():
    gemm = operators.get("gemm")
    planned = planning.plan({"one": gemm, "two": gemm}, describe("h200"), 4, 0)
    assert [each.name for each in planned] == ["one"] * 4


def test_large_kernels_of_several_launches_are_not_checked():
    one = program()
    two = dataclasses.replace(one, launches=one.launches * 2)
    assert [checkable(each, flops) for each in (one, two) for flops in (1e6, 1e12)] == [True, True, True, False]


def test_timings_become_records_and_a_table(start, tmp_path):
    write(tmp_path / "timings", MEASURED, BROKEN)
    code, out, summary = start("stage=merge", "from=timings", "tables=tables")
    assert code == 0, out
    assert (summary["files"], summary["lines"], summary["new"]) == (1, 2, 2)
    ((path, figures),) = summary["tables"].items()
    assert Path(path).parent == tmp_path / "tables"
    assert figures["rows"] == len(read_table(Path(path)).records) == 2
    with Store() as store:
        assert store.count() == 2
    assert start("stage=merge", "from=timings", "tables=tables")[2]["new"] == 0
    assert entry().template in {"cuda/plain"}


def test_every_key_is_explained():
    text = (Path(record.__file__).parent.parent / "conf" / "README.md").read_text()
    explained = set(re.findall(r"`([a-z0-9_.]+)`", text))
    keys = {str(key) for key in record._schema()} | {each.name for each in dataclasses.fields(GpuCheckConfig)}
    assert keys - {"store", "out"} <= explained


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "say what to do: device=cpu op=NAME records a landscape here"),
        (["stage=biuld"], "unknown stage 'biuld'; did you mean build"),
        (["stage=measure"], "stage=measure needs device="),
        (["device=cpu"], "stage=measure needs op="),
        (["device=recorded", "op=gemm"], "record on the device itself"),
        (["device=cpu", "op=gemm", "space=tiny"], "unknown space 'tiny'"),
        (["stage=build", "device=h200", "op=gemm"], "stage=build needs bundle=, such as bundle=resnet18.bundle"),
        (["stage=build", "bundle=b", "op=gemm"], "stage=build needs device=, such as device=h200"),
        ([*BUILD], "stage=build needs op=NAME, such as op=resnet18/all, or else acceptance=true"),
        ([*BUILD, "op=gemm", "acceptance=true"], "or else acceptance=true; give one of them"),
        ([*BUILD, "op=gem"], "unknown op 'gem'; did you mean gem"),
        (["stage=build", "device=cpu", "bundle=b", "op=gemm"], "unknown GPU to compile for, device 'cpu'"),
        (["stage=build", "device=h2000", "bundle=b", "op=gemm"], "unknown device 'h2000'; did you mean h200"),
        ([*BUILD, "op=gemm", "device.arch=sm_52"], "sm_52 is too old"),
        ([*BUILD, "op=gemm", "configs=0"], "configs must be a whole number of at least 1, not 0"),
        ([*BUILD, "op=gemm", "configs=many"], "configs must be a whole number, not 'many'"),
        ([*BUILD, "op=gemm", "check=-1"], "check must be a whole number of at least 0, not -1"),
        ([*BUILD, "op=gemm", "workers=0"], "workers must be a whole number of at least 1, not 0"),
        ([*BUILD, "op=gemm", "from=here"], "from= goes with stage=merge, not with stage=build"),
        (["stage=build", "device=h200", "op=gemm", "bundle=/dev/null/b"], "bundle='/dev/null/b' cannot be written"),
        (["stage=build", "device=h200", "op=gemm", "bundle=."], "is a folder; give the name of a file"),
        (["stage=merge"], "stage=merge needs from=DIR"),
        (["stage=merge", "from=nowhere"], "nowhere' is not a folder"),
        (["stage=merge", "from=."], "there are no timings in"),
        (["stage=merge", "from=.", "configs=3"], "configs= goes with stage=build, not with stage=merge"),
        (["stge=build"], "unknown key 'stge'; did you mean stage"),
    ],
)
def test_bad_input_is_one_sentence(start, tmp_path, arguments, sentence):
    code, out, summary = start(*arguments)
    assert code == USER_ERROR, out
    assert sentence in out
    assert out.count("\n") == 1
    assert summary is None
    assert not (tmp_path / "some.bundle").exists()
