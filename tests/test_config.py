"""Settings and the launcher: what composes, and what every mistake is told, in one sentence and exit code 2."""

import errno
import json
import logging
import re
import resource
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import agents
from experiments import bench, config, files, settings, tables
from experiments import dashboard as _dashboard  # noqa: F401  (registers its schema)
from experiments import leaderboard as _leaderboard  # noqa: F401  (registers its schema)
from experiments import plan as _plan  # noqa: F401  (registers its schema)
from experiments import store as _store  # noqa: F401  (registers its schema)
from experiments.comparison import settings as compare_settings
from experiments.figures import TARGETS, Figure
from experiments.launcher import DEFECT, INTERRUPTED, USER_ERROR, run_program
from experiments.loggers import settings as loggers
from wpk_envs import devices, operators
from wpk_envs.devices.cuda import descriptions
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d

CONF = Path(__file__).parent.parent / "conf"


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Folders go into tmp_path, and Hydra's logging is taken down again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def composed():
    """Compose a program's config from overrides."""
    config.register()
    with hydra.initialize_config_module("conf", version_base="1.3"):
        yield lambda *overrides, program="run": hydra.compose(program, overrides=list(overrides))


def refused(capsys, *arguments, program="run", check=settings.settings_of):
    """The one sentence that a program answers with instead of working; nothing may be written."""

    def task(cfg, folder):
        raise AssertionError("the task must not start")

    before = sorted(Path.cwd().rglob("*"))
    assert run_program(program, task, check, arguments) == USER_ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert sorted(Path.cwd().rglob("*")) == before
    return err


class TestComposition:
    @pytest.mark.parametrize("algo", agents.names())
    def test_every_agent(self, composed, algo):
        made = settings.settings_of(composed(f"algo={algo}"))
        assert made.algo == algo
        assert made.agent() == agents.get(algo)

    @pytest.mark.parametrize("name", operators.names())
    def test_every_operator(self, composed, name):
        assert config.operators_of(composed(f"op={name}").op) == {name: operators.get(name)}

    @pytest.mark.parametrize("name", operators.suites())
    def test_every_suite(self, composed, name):
        members = {f"{name}/{member.number}": member.operator for member in operators.suites()[name].members}
        assert config.operators_of(composed(f"op={name}/all").op) == members
        for one in (f"{name}/1", f"{name}/{len(members)}"):
            assert config.operators_of(composed(f"op={one}").op) == {one: members[one]}
        assert members.keys() <= config.operator_nodes().keys()

    @pytest.mark.parametrize(
        "choice",
        ["device=auto", "device=cpu", "device=cuda", "budget=default", "budget=quick"],
    )
    def test_every_other_choice(self, composed, choice):
        settings.settings_of(composed(choice))

    @pytest.mark.parametrize("name", loggers.NAMES)
    def test_every_logger(self, composed, name):
        assert settings.settings_of(composed(f"logger={name}")).logger.name == name

    @pytest.mark.parametrize("name", devices.DEVICES)
    def test_settings_of_a_device_are_those_that_it_opens_with(self, composed, name):
        assert set(composed(f"device={name}").device) <= {"name", *devices.settings_of(name)}

    @pytest.mark.parametrize("name", descriptions.names())
    def test_every_named_gpu_opens_as_a_predicted_device(self, composed, name):
        given = settings.settings_of(composed(f"device={name}", "device.confidence=high")).device.settings
        assert given.keys() == {"name", *devices.settings_of(name)}
        assert (given.pop("name"), given.pop("confidence")) == (name, "high")
        assert (given.pop("workers"), given.pop("deadline")) == (None, None)
        assert descriptions.describe(name, **given) == descriptions.describe(name)

    @pytest.mark.parametrize("name", descriptions.names())
    def test_every_named_gpu_is_a_target_with_any_number_changed(self, composed, name):
        assert config.target_of(composed(f"device={name}").device) == descriptions.describe(name)
        changed = composed(f"device={name}", "device.multiprocessors=7").device
        assert config.target_of(changed) == descriptions.describe(name, multiprocessors=7)

    @pytest.mark.parametrize(
        ("overrides", "sentence"),
        [
            (["device=cpu"], r"unknown GPU to compile for, device 'cpu' \(allowed: a100"),
            (["device=p100", "device.l2_bytes=0"], "device.l2_bytes must be a whole number of at least 1, not 0"),
            (["device=p100", "device.arch=sm_50"], "sm_50 is too old"),
            (
                ["device=p100", "device.confidence=high"],
                "device.confidence is a setting of predictions, .* leave it out",
            ),
            (["device=p100", "device.workers=1"], "device.workers is a setting of predictions"),
        ],
    )
    def test_what_cannot_be_a_target(self, composed, overrides, sentence):
        with pytest.raises(UserError, match=sentence):
            config.target_of(composed(*overrides).device)

    @pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
    def test_every_experiment(self, composed, path):
        if path.stem.startswith("recorded"):
            compare_settings.settings_of(composed(f"experiment={path.stem}", program="compare"))
        else:
            settings.settings_of(composed(f"experiment={path.stem}"))

    def test_bench(self, composed):
        assert bench.check(composed(program="bench")).logger.name == "none"

    def test_tables(self, composed):
        made = tables.check(composed(program="tables"))
        assert (made.algo, made.logger.name) == ("ppo", "none")

    def test_store(self, composed):
        assert composed(program="store").action == "list"

    def test_defaults(self, composed):
        made = settings.settings_of(composed())
        assert (made.op, made.algo, made.device.name, made.seed) == ("conv3x3", "ppo", "auto", 0)
        assert (made.budget.trials, made.budget.seconds) == (128, None)
        assert (made.logger.name, made.logger.mode) == ("wandb", "offline")
        assert made.config["op"]["kernel"] == [3, 3]

    def test_every_key_is_explained(self, composed):
        text = (CONF / "README.md").read_text()
        keys = set()
        for overrides in (
            ["op=gemm"],
            *([f"algo={name}"] for name in agents.names()),
            *([f"device={name}"] for name in (*devices.DEVICES, "p100")),
        ):
            keys |= set(_keys(composed(*overrides)))
        for program in ("bench", "store", "tables", "plan", "dashboard", "compare", "leaderboard"):
            keys |= set(_keys(composed(program=program)))
        explained = set(re.findall(r"`([a-z0-9_.]+)`", text))
        assert keys - explained == set()


def _keys(node, path=""):
    for key in node:
        value = node._get_node(key)
        if OmegaConf.is_dict(value) and not value._is_none():
            yield from _keys(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


class TestOperatorFields:
    def test_numbers_and_pairs(self, composed):
        cfg = composed("op=conv3x3", "op.kernel=[1,7]", "op.padding=[0,3]", "op.stride=2")
        assert config.operators_of(cfg.op) == {"conv3x3": Conv2d(kernel=(1, 7), padding=(0, 3), stride=2)}

    def test_a_new_kernel_keeps_same_padding(self, composed):
        (operator,) = config.operators_of(composed("op.kernel=5").op).values()
        assert operator.padding == (2, 2)

    def test_a_given_padding_counts_even_if_it_is_the_default(self, composed):
        (operator,) = config.operators_of(composed("op.kernel=5", "op.padding=1").op).values()
        assert operator.padding == (1, 1)

    def test_of_a_suite_member(self, composed):
        (operator,) = config.operators_of(composed("op=resnet18/3", "op.bias=false").op).values()
        assert operator == operators.override("resnet18/3", bias=False)


MISTAKES = {
    "op=conv3x4": r"unknown op 'conv3x4'; did you mean conv3x3 .*resnet18/1 to resnet18/\d+, resnet18/all",
    "op=resnet18/99": r"unknown op 'resnet18/99'.*resnet18/1 to resnet18/\d+",
    "op=resnet18": "unknown op 'resnet18'",
    "op=": "unknown op ''",
    "op=null": "unknown op 'null'",
    "op=resnet18/all op.height=28": r"'op.height' cannot be set with op=resnet18/all.*op=resnet18/NUMBER",
    "algo=pppo": r"unknown algo 'pppo'; did you mean ppo.*\(allowed: annealing, ga, .*ppo_screened, .*transfer\)",
    "device=gpu": r"unknown device 'gpu'.*\(allowed: a100, .*auto, cpu, cuda, .*h100.*v100_pcie\)",
    "device=p1000": "unknown device 'p1000'; did you mean p100",
    "device=p100 device.threads=2": "unknown key 'device.threads'",
    "device=p100 device.workers=many": "device.workers",
    "device=p100 device.confidence=low": r"unknown device.confidence 'low' \(allowed: any, high\)",
    "device=h200 device.sms=3": r"unknown key 'device.sms'.*device.multiprocessors",
    "device=h200 device.clock_mhz=fast": "device.clock_mhz must be a whole number, not 'fast'",
    "device=cpu device.gpus=[1]": r"unknown key 'device.gpus'.*device.threads",
    "device=cuda device.gpus=1": r"device.gpus must be a list, such as device.gpus=\[1\]",
    "device=cuda device.threads=2": r"unknown key 'device.threads'.*device.gpus",
    "budget=big": r"unknown budget 'big' \(allowed: default, quick\)",
    "experiment=slow": r"unknown experiment 'slow' \(allowed: quick\)",
    "experiment=recorded": r"unknown experiment 'recorded' \(allowed: quick\)",
    "op.hight=28": r"unknown key 'op.hight'; did you mean op.height.*op.kernel",
    "op.m=3": r"unknown key 'op.m'.*op.filters",
    "algo.popsize=3": r"unknown key 'algo.popsize'.*algo.n_envs",
    "trials=5": r"unknown key 'trials'.*budget",
    "seed.x=5": "unknown key 'seed.x'; seed is one value",
    "hydra.foo=1": r"unknown key 'hydra.foo'.*hydra.run",
    "+foo=1": r"'\+foo=1' is refused: .* write KEY=VALUE",
    "~algo": "'~algo' is refused",
    "op.height=tall": "op.height must be a whole number, not 'tall'",
    "budget.trials=1.5": "budget.trials must be a whole number, not '1.5'",
    "budget.seconds=soon": "budget.seconds must be a number, not 'soon'",
    "store.reuse=maybe": "store.reuse must be true or false, not 'maybe'",
    "op.height=0": "height must be at least 1, not 0",
    "op.channels=-3": "channels must be at least 1, not -3",
    "op.kernel=[3,3,3]": r"kernel must be one whole number or a pair \[h, w\]",
    "op.kernel=99 op.padding=1": "kernel is 99 high .* but the padded input only 58",
    "op.groups=5": "groups must divide channels",
    "op.activation=gelu": r"unknown activation 'gelu'.*none, relu, relu6",
    "budget.trials=0": "budget.trials must be greater than 0, not 0",
    "budget.seconds=-1": "budget.seconds must be greater than 0, not -1",
    "algo=ga algo.population=1": "population",
    "seed=-1": "seed must be a whole number of at least 0, not -1",
    "logger.mode=on": r"unknown logger.mode 'on'.*\(allowed: disabled, offline, online\)",
    "logger=csv logger.name=wandb": r"unknown logger.name 'wandb' \(allowed: csv, none, tensorboard\)",
    "logger=tensorboard logger.project=mine": r"unknown key 'logger.project'.*\(allowed: logger.name\)",
    "logger=mlflow": r"unknown logger 'mlflow' \(allowed: csv, none, tensorboard, wandb\)",
    "algo=ppo,ga": r"'algo=ppo,ga' gives several values; add -m",
    "op.kernel=1,7": r"'op.kernel=1,7' gives several values.*op.kernel=\[...\]",
    "algo": "'algo' cannot be read; write KEY=VALUE",
    "seed={a": "'seed={a' cannot be read",
    "-m algo=ppo,gaa seed=1,2": "unknown algo 'gaa'",
    "-m op=conv3x3 op.height=1,28 op.padding=0": "the padded input only 1",
    "-m seed=1,2 resume=somewhere": "resume=FOLDER goes on with one run and cannot be used with -m",
    "-m --cfg job": "Only one of",
    "resume=nowhere": "nowhere' is not the folder of a run",
}


class TestMistakes:
    @pytest.mark.parametrize("line", MISTAKES)
    def test_are_told_in_a_sentence(self, capsys, line):
        assert re.search(MISTAKES[line], refused(capsys, *line.split()))

    def test_in_the_environment(self, capsys, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "sometimes")
        assert "unknown WANDB_MODE 'sometimes'" in refused(capsys)

    @pytest.mark.parametrize(
        ("argument", "sentence"),
        [
            ("figures=[speed]", "unknown figure 'speed'"),
            ("figures=startup", "figures must be a list, such as figures=[startup]"),
            ("op=conv3x3", "unknown key 'op'"),
        ],
    )
    def test_of_the_bench(self, capsys, argument, sentence):
        assert sentence in refused(capsys, argument, program="bench", check=bench.check)

    def test_an_unknown_flag_is_argparses(self, capsys):
        assert run_program("run", lambda cfg, folder: None, settings.settings_of, ["--fast"]) == USER_ERROR
        assert "unrecognized arguments: --fast" in capsys.readouterr().err

    def test_from_a_shell(self):
        command = [sys.executable, "-m", "experiments.run", "op=conv3x4"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == USER_ERROR
        assert done.stdout == ""
        assert re.fullmatch(r"unknown op 'conv3x4'.*\n", done.stderr)

    def test_help_is_readable(self, capsys):
        assert run_program("run", lambda cfg, folder: None, settings.settings_of, ["--help"]) == 0
        out = capsys.readouterr().out
        for key in ("op=NAME", "algo=NAME", "budget=NAME", "resume=FOLDER", "store.path=FILE", "out=FILE"):
            assert key in out


class TestLauncher:
    def test_each_job_of_a_multirun_has_its_folder_and_its_copy(self, capsys, tmp_path):
        def task(cfg, folder):
            files.publish({"seed": cfg.seed}, folder, cfg.out)

        arguments = ["-m", "seed=3,4", "out=copy.json", f"hydra.sweep.dir={tmp_path}/sweep"]
        assert run_program("run", task, settings.settings_of, arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == str(tmp_path / "sweep" / "1" / "summary.json")
        for job, seed in enumerate((3, 4)):
            assert json.loads((tmp_path / f"copy.json.{job}").read_text()) == {"seed": seed}
            assert json.loads((tmp_path / "sweep" / str(job) / "summary.json").read_text()) == {"seed": seed}

    @pytest.mark.parametrize(
        ("failures", "code"),
        [({4: UserError("no, thanks")}, USER_ERROR), ({3: UserError("no"), 5: KeyError("x")}, DEFECT)],
    )
    def test_a_failing_job_sets_the_exit_code_and_the_others_run(self, capsys, failures, code):
        ran = []

        def task(cfg, folder):
            ran.append(cfg.seed)
            if cfg.seed in failures:
                raise failures[cfg.seed]

        assert run_program("run", task, settings.settings_of, ["-m", "seed=3,4,5"]) == code
        assert ran == [3, 4, 5]
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(failures)
        assert re.match(r"job \d \(seed=\d\): ", lines[0])

    def test_a_defect_leaves_its_traceback_in_the_log(self, capsys, tmp_path):
        def task(cfg, folder):
            raise RuntimeError("the sky\nis falling")

        assert run_program("run", task, settings.settings_of, [f"hydra.run.dir={tmp_path}/run"]) == DEFECT
        sentence = capsys.readouterr().err
        assert sentence.count("\n") == 1
        assert "unexpected RuntimeError: the sky is falling" in sentence
        assert f"{tmp_path}/run/run.log" in sentence
        assert "Traceback" in (tmp_path / "run" / "run.log").read_text()

    def test_an_interrupt(self, capsys):
        def task(cfg, folder):
            raise KeyboardInterrupt

        assert run_program("run", task, settings.settings_of, []) == INTERRUPTED
        assert capsys.readouterr().err.startswith("interrupted: ")

    def test_a_folder_that_cannot_be(self, capsys, tmp_path):
        (tmp_path / "file").touch()
        code = run_program(
            "run", lambda cfg, folder: None, settings.settings_of, [f"hydra.run.dir={tmp_path}/file/run"]
        )
        assert code == USER_ERROR
        assert re.match(r"cannot write '.*/file/run': Not a directory; .*\n$", capsys.readouterr().err)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
    def test_a_disk_that_refuses(self, capsys, number):
        def task(cfg, folder):
            raise OSError(number, "the disk says no", "trials.jsonl")

        assert run_program("run", task, settings.settings_of, []) == USER_ERROR
        assert capsys.readouterr().err.startswith("cannot write 'trials.jsonl': the disk says no; ")


class TestFiles:
    def test_a_full_disk_leaves_the_file_as_it_was(self, tmp_path):
        target = tmp_path / "summary.json"
        files.write_json(target, {"old": True})
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                files.write_json(target, {"new": "x" * 100_000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "cannot write" in str(files.disk_error(caught.value))
        assert json.loads(target.read_text()) == {"old": True}
        assert list(tmp_path.iterdir()) == [target]

    def test_out_is_checked_before_the_work(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="is a folder; give the name of a file"):
            files.check_writable(str(tmp_path))
        with pytest.raises(UserError, match="cannot be written: File exists"):
            files.check_writable(str(tmp_path / "file" / "summary.json"))
        files.check_writable(str(tmp_path / "new" / "summary.json"))
        files.check_writable(None)

    def test_publish_outside_of_hydra(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
        path = files.publish({"speedup": 1.5}, tmp_path / "run", str(tmp_path / "copy.json"))
        assert capsys.readouterr().out.splitlines()[-1] == str(path)
        assert path.read_bytes() == (tmp_path / "copy.json").read_bytes()


class TestFigures:
    def test_targets_are_met_on_the_right_side(self):
        assert Figure("conv3x3_speedup", 2.3).met
        assert not Figure("conv3x3_speedup", 2.29).met
        assert Figure("startup", 15).met
        assert not Figure("startup", 15.1).met
        assert not Figure("import", None).met

    def test_entries_hold_value_target_and_samples(self):
        entry = Figure("import", 0.5, {"processes": [0.4, 0.5, 0.6]}).to_dict()
        assert entry["value"] == 0.5
        assert entry["target"] == TARGETS["import"].value
        assert entry["samples"] == {"processes": [0.4, 0.5, 0.6]}
        assert entry["met"] is True
