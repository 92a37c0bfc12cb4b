"""``python -m experiments.leaderboard``: what is true is accepted, and every way to cheat is told."""

import contextlib
import dataclasses
import json
import logging
import shutil
from pathlib import Path

import pytest

from experiments import leaderboard
from experiments.board.submission import checksum, read
from experiments.compare import compare
from experiments.comparison import plots
from experiments.comparison.cells import packed, unpacked
from experiments.comparison.places import Place
from experiments.comparison.settings import settings_of
from experiments.launcher import USER_ERROR, run_program
from tests.recorded_tables import NAMES, make_folder
from tests.synthetic import SyntheticDevice
from wpk_envs import devices
from wpk_envs.errors import UserError

AGENTS = "algos=[random,{name: ga, label: small_ga, population: 4, offspring: 4}]"
SIZE = ("seeds=2", "budget.trials=8")


@contextlib.contextmanager
def in_folder(folder):
    """Work in a folder, draw nothing, and take Hydra's logging down again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WPK_STORE", str(folder / "records.sqlite"))
        patch.setattr(plots, "save_all", lambda *given: [])
        yield patch
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments, folder):
    given = [*arguments, f"hydra.run.dir={folder}"]
    return run_program("leaderboard", leaderboard.act, leaderboard.check, given)


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """A folder with tables, a comparison on them, and its submissions."""
    folder = tmp_path_factory.mktemp("submitted")
    make_folder(folder / "tables")
    with in_folder(folder):
        arguments = [AGENTS, *SIZE, "jobs=1", "device.tables=tables", "hydra.run.dir=compared"]
        assert run_program("compare", compare, settings_of, arguments) == 0
        assert start("submit=compared", "author=someone", folder="made") == 0
    return folder


@pytest.fixture(scope="module")
def device(submitted):
    """The tables that the submissions were made on."""
    return devices.open_device("recorded", tables=submitted / "tables")


@pytest.fixture
def place(tmp_path, submitted):
    """The tables and submissions, to be tampered with."""
    shutil.copytree(submitted / "tables", tmp_path / "tables")
    shutil.copytree(submitted / "made" / "submissions", tmp_path / "files")
    shutil.copytree(submitted / "compared", tmp_path / "compared")
    with in_folder(tmp_path):
        yield tmp_path


def verified(*arguments, file="files/small_ga.json"):
    return start(f"verify={file}", "device.tables=tables", *arguments, folder="verified")


def rejected(device):
    """The reasons that a submission is rejected for."""
    _, verdict = leaderboard.examine(Path("files/small_ga.json"), device)
    assert not verdict.accepted
    return verdict.reasons


def change(edit, sign=True):
    """Change the plain data of a submission, and give it the checksum of that."""
    path = Path("files/small_ga.json")
    content = json.loads(path.read_text())
    edit(content)
    if sign:
        rest = {key: value for key, value in content.items() if key not in ("leaderboard", "sha256")}
        content["sha256"] = checksum(rest)
    path.write_text(json.dumps(content))


def first_run(content):
    return content["operators"]["small_gemm"]["runs"][0]


class TestSubmit:
    def test_what_was_found_is_in_the_files(self, submitted):
        made = read(submitted / "made" / "submissions" / "small_ga.json")
        assert (made.title, made.author, made.algo, made.settings["population"]) == ("small_ga", "someone", "ga", 4)
        assert (made.recorded, made.trials, set(made.operators)) == (True, 8, set(NAMES))
        for entry in made.operators.values():
            assert [claim.seed for claim in entry.runs] == [0, 1]
            assert all(claim.tried and claim.config and 1 <= claim.trial <= 8 for claim in entry.runs)

    def test_a_file_comes_back_as_it_was(self, submitted, tmp_path):
        made = read(submitted / "made" / "submissions" / "random.json")
        made.write(tmp_path / "copy.json")
        assert read(tmp_path / "copy.json") == made

    def test_what_was_tried_can_be_left_out(self, place):
        assert start("submit=compared", "tried=false", folder="small") == 0
        small = read(place / "small" / "submissions" / "small_ga.json")
        assert all(claim.tried is None for entry in small.operators.values() for claim in entry.runs)
        assert verified(file="small/submissions") == 0

    def test_an_unfinished_comparison_is_refused(self, place, capsys):
        result = json.loads((place / "compared" / "summary.json").read_text())
        result["runs"]["random"]["missing"] = 3
        (place / "compared" / "summary.json").write_text(json.dumps(result))
        assert start("submit=compared", folder="made") == USER_ERROR
        assert "runs are missing (3 of random)" in capsys.readouterr().err
        assert start("submit=tables", folder="made") == USER_ERROR
        assert "holds no finished comparison" in capsys.readouterr().err


class TestVerify:
    def test_true_claims_are_accepted(self, place, capsys):
        assert verified(file="files") == 0
        assert capsys.readouterr().out.count(": accepted") == 2

    def test_noise_changes_nothing(self, place):
        assert verified("device.noise=true") == 0

    def test_a_damaged_file(self, place, device):
        change(lambda content: content.update(author="another"), sign=False)
        assert "its checksum differs" in rejected(device)[0]
        Path("files/small_ga.json").write_bytes(b'{"leaderboard": 1, ')
        assert "cannot be read as JSON" in rejected(device)[0]

    @pytest.mark.parametrize(
        ("edit", "reason"),
        [
            (lambda c: c.update(leaderboard=2), "has format 2, this version reads 1"),
            (lambda c: c.pop("leaderboard"), "is no submission"),
            (lambda c: c.pop("algo"), "the file must have exactly title, author"),
            (lambda c: c.update(trials="many"), "trials has a value of a wrong kind"),
            (lambda c: first_run(c).update(config=[1]), r"small_gemm.runs[0].config has a value of a wrong kind"),
            (lambda c: first_run(c).update(trial=True), r"runs[0].trial has a value of a wrong kind"),
        ],
    )
    def test_a_file_of_another_form(self, place, device, edit, reason):
        change(edit)
        assert reason in rejected(device)[0]

    @pytest.mark.parametrize(
        ("edit", "reason"),
        [
            (lambda c: c["operators"].update(gemmm=c["operators"].pop("small_gemm")), "gemmm: unknown operator"),
            (
                lambda c: c["operators"]["small_gemm"]["operator"].update(m=17),
                "small_gemm: it is another operator here",
            ),
            (lambda c: c["operators"]["small_gemm"].update(table="0" * 64), "replayed from another table"),
            (lambda c: c["operators"]["small_gemm"]["runs"].pop(), "different numbers of seeds"),
            (lambda c: first_run(c).update(seed=5), "its seeds are not 0 to 1, one run each"),
            (lambda c: first_run(c).update(trials=9), "seed 0: 9 trials are more than the budget of 8"),
            (lambda c: first_run(c).update(trial=9), "seed 0: its best is said to be trial 9 of 8"),
            (lambda c: first_run(c).update(speedup=9.9), "a speedup of 9.9000 is claimed, and the table has"),
            (lambda c: first_run(c).update(speedup=float("nan")), "a speedup of nan is claimed"),
            (lambda c: first_run(c).update(config=None), "a speedup is claimed without a config"),
            (lambda c: first_run(c)["config"].update(template="magic"), "config needs a template"),
            (lambda c: first_run(c)["config"].update(wings=2), "config has unknown knobs"),
            (lambda c: first_run(c).update(tried=first_run(c)["tried"][:-9]), "its list of tried configs is damaged"),
            (lambda c: first_run(c).update(tried="bomb"), "its list of tried configs is damaged"),
            (lambda c: c.update(fingerprint="another"), "another device or other versions"),
            (lambda c: c.update(recorded=False), "choose another device="),
            (lambda c: c.update(operators={}), "it claims nothing"),
        ],
    )
    def test_claims_that_do_not_hold(self, place, device, edit, reason):
        change(edit)
        assert reason in " ".join(rejected(device))

    def test_a_config_that_the_table_lacks(self, place, device):
        recorded = Place(device, None).space("small_gemm")
        full = places_space()
        outside = next(vector for vector in full if not recorded.is_valid(vector))
        change(lambda content: first_run(content).update(config=full.decode(outside)))
        assert rejected(device) == ["small_gemm, seed 0: this config is not one of those that were recorded"]

    @pytest.mark.parametrize(
        ("rearrange", "reason"),
        [
            (lambda tried: [*tried[:-1], tried[0]], "is in its list of tried ones twice"),
            (lambda tried: [tuple(99 for _ in tried[0]), *tried[1:]], "its list of tried configs has invalid ones"),
            (lambda tried: tried[::-1], "by its list, trial"),
        ],
    )
    def test_lists_of_tried_configs_that_do_not_hold(self, place, device, rearrange, reason):
        length = places_space().length

        def edit(content):
            run = first_run(content)
            run["tried"] = packed(rearrange(unpacked(run["tried"], run["trials"], length)))

        change(edit)
        assert reason in rejected(device)[0]

    def test_changed_tables(self, place):
        shutil.rmtree("tables")
        make_folder(place / "tables", every=4)
        changed = devices.open_device("recorded", tables="tables")
        assert "small_gemm: it was replayed from another table" in rejected(changed)

    def test_only_the_first_reasons_are_shown(self, place, capsys):
        def edit(content):
            for entry in content["operators"].values():
                run = entry["runs"][0]
                entry["runs"] = [{**run, "seed": seed, "speedup": 9.9} for seed in range(12)]

        change(edit)
        assert verified() == USER_ERROR
        out, err = capsys.readouterr()
        assert "and 14 reasons more" in out
        assert "small_ga.json' is rejected: small_depthwise, seed 0: a speedup of 9.9" in err
        (found,) = json.loads((place / "verified" / "summary.json").read_text())["files"].values()
        assert (found["accepted"], len(found["reasons"])) == (False, 24)


def places_space():
    from tests.synthetic import INFO
    from wpk_envs.schedules import build_space

    return build_space(NAMES["small_gemm"], INFO)


class TestMeasured:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(tmp_path_factory):
        """The submission of a comparison that was measured."""
        folder = tmp_path_factory.mktemp("measured")
        with in_folder(folder) as patch:
            patch.setattr(devices, "open_device", lambda **settings: SyntheticDevice())
            arguments = [AGENTS, *SIZE, "device=cpu", "ops=[gemv]", "hydra.run.dir=live"]
            assert run_program("compare", compare, settings_of, arguments) == 0
            assert start("submit=live", folder="made") == 0
        return folder / "made" / "submissions" / "small_ga.json"

    @pytest.fixture
    def measured(self, place, made, monkeypatch):
        """A folder with that submission, where it is measured again."""
        monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice())
        shutil.copy(made, "files/small_ga.json")
        return place

    def test_configs_are_measured_again(self, measured):
        assert start("verify=files/small_ga.json", "device=cpu", "add=true", "folder=board", folder="verified") == 0
        assert start("folder=board", folder="shown") == 0
        (board,) = json.loads(Path("shown/summary.json").read_text())["boards"]
        assert board["recorded"] is False
        assert board["best_known_speedup"]["gemv"] > 0
        assert board["rows"][0]["counted"] is False

    @pytest.mark.parametrize(("factor", "holds"), [(1.04, True), (1.06, False), (0.9, True)])
    def test_what_exceeds_the_noise_is_rejected(self, measured, factor, holds):
        def edit(content):
            run = content["operators"]["gemv"]["runs"][0]
            run["speedup"] *= factor

        change(edit)
        _, verdict = leaderboard.examine(Path("files/small_ga.json"), SyntheticDevice())
        assert verdict.accepted == holds
        assert ("and measured again it is" in " ".join(verdict.reasons)) != holds

    def test_an_operator_without_a_name(self, measured):
        change(lambda content: content["operators"].update(mine=content["operators"].pop("gemv")))
        assert "mine: unknown operator" in rejected(SyntheticDevice())[0]


class TestBoard:
    def test_shows_what_was_accepted_the_best_first(self, place, capsys):
        assert verified("add=true", "folder=board", file="files") == 0
        assert verified("add=true", "folder=board", file="files") == 0
        assert len(list((place / "board").glob("small_ga-*.json"))) == 1
        capsys.readouterr()
        assert start("folder=board", folder="shown") == 0
        out = capsys.readouterr().out
        assert "2 operators, 8 trials, recorded on synthetic landscape" in out
        (board,) = json.loads((place / "shown" / "summary.json").read_text())["boards"]
        compared = json.loads((place / "compared" / "summary.json").read_text())["agents"]
        assert {row["title"]: row["iqm"] for row in board["rows"]} == {
            label: pytest.approx(figures["8"]["iqm"]) for label, figures in compared.items()
        }
        assert {row["title"]: row["trials_to_95"] for row in board["rows"]} == {
            label: figures["8"]["trials_to_95"] for label, figures in compared.items()
        }
        assert board["rows"] == sorted(board["rows"], key=lambda row: -row["iqm"])

    def test_another_budget_is_another_board(self, place):
        assert verified("add=true", "folder=board", file="files/random.json") == 0
        change(lambda content: content.update(trials=9))
        assert verified("add=true", "folder=board") == 0
        assert start("folder=board", folder="shown") == 0
        boards = json.loads((place / "shown" / "summary.json").read_text())["boards"]
        assert [(board["trials"], len(board["rows"])) for board in boards] == [(8, 1), (9, 1)]

    def test_a_strangers_text_is_shown_as_text(self, place, capsys):
        change(lambda content: content.update(title="[red]x\x1b[31m" + "y" * 99, author="\n\n"))
        assert verified("add=true", "folder=board") == 0
        capsys.readouterr()
        assert start("folder=board", folder="shown") == 0
        out = capsys.readouterr().out
        assert "[red]x" in out
        assert "\x1b" not in out

    def test_a_rejected_one_is_not_taken_in(self, place):
        change(lambda content: first_run(content).update(speedup=9.9))
        assert verified("add=true", "folder=board", file="files") == USER_ERROR
        index = json.loads((place / "board" / "accepted.json").read_text())["accepted"]
        assert [name.split("-")[0] for name in index] == ["random"]

    def test_a_file_that_has_changed_since_is_told(self, place, capsys):
        assert verified("add=true", "folder=board") == 0
        (path,) = (place / "board").glob("small_ga-*.json")
        dataclasses.replace(read(path), author="another").write(path)
        assert start("folder=board", folder="shown") == USER_ERROR
        assert "is not what was accepted" in capsys.readouterr().err

    def test_an_empty_folder(self, place, capsys):
        assert start("folder=nowhere", folder="shown") == 0
        assert "has no accepted submissions" in capsys.readouterr().out

    def test_a_damaged_index(self, place):
        (place / "board").mkdir()
        (place / "board" / "accepted.json").write_text("[]")
        with pytest.raises(UserError, match="is damaged"):
            leaderboard.Leaderboard(place / "board")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["verify=x.json", "submit=y"], "give one of them"),
        (["add=true"], "say which file"),
        (["author=me"], "leave them out"),
        (["verify=x.json"], "x.json' does not exist"),
        (["verify=files", "device=p100"], "device=p100 only predicts"),
        (["verify=verify"], "is a folder without submissions"),
    ],
)
def test_mistakes_are_told_in_a_sentence(place, capsys, arguments, sentence):
    (place / "verify").mkdir()
    assert start(*arguments, folder="run") == USER_ERROR
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
