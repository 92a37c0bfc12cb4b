"""How outcomes are judged, and the report of them."""

import itertools
import json
import time

import pytest

from wpk_envs.core import Measurement
from wpk_envs.devices.acceptance import OVER, Case, VendorCase, run_all
from wpk_envs.devices.baseline import Baseline
from wpk_envs.devices.report import OUTCOMES, Check, Report
from wpk_envs.errors import UserError

GOOD = Measurement(samples_us=(2.0,), baseline_us=(3.0,), baseline_name="vendor", max_error=1e-7)
ERRORS = {kind: Measurement(error=kind, message="so it is") for kind in ("crash", "timeout", "wrong_result", "compile")}
BASELINE = Baseline("fast", 2.0, "plain", 3.0, {"fast": 2.0, "plain": 3.0})


def judged(expected, measurement):
    return Case("templates", "a kernel", expected, lambda: measurement).run()


@pytest.mark.parametrize(
    ("expected", "error"),
    [("wrong", "wrong_result"), ("crash", "crash"), ("endless", "timeout")],
)
def test_what_misbehaves_must_be_noticed_for_what_it_is(expected, error):
    assert judged(expected, ERRORS[error]).outcome == "passed"
    unnoticed = judged(expected, GOOD)
    assert unnoticed.outcome == "failed"
    assert unnoticed.note == "it was not noticed: 2.0 us, error 1.0e-07, 1.50x vendor"
    assert judged(expected, ERRORS["compile"]).outcome == "failed"


def test_what_behaves_must_be_measured():
    good, bad = judged("correct", GOOD), judged("correct", ERRORS["crash"])
    assert (good.outcome, good.note) == ("passed", "2.0 us, error 1.0e-07, 1.50x vendor")
    assert (bad.outcome, bad.note) == ("failed", "crash: so it is")


def test_a_missing_vendor_is_said_and_a_wrong_one_fails():
    def missing():
        raise UserError("torch has no kernels for it")

    def wrong():
        raise RuntimeError("no path is right")

    outcomes = [VendorCase("an operator", race).run() for race in (lambda: BASELINE, missing, wrong)]
    assert [check.outcome for check in outcomes] == ["passed", "did not run", "failed"]
    assert [check.note for check in outcomes] == [
        "fast takes 2.0 us, the best of 2 paths",
        "torch has no kernels for it",
        "no path is right",
    ]


def test_what_the_time_does_not_reach_did_not_run():
    def slow():
        time.sleep(0.05)
        return GOOD

    cases = [*(Case("templates", str(i), "correct", slow) for i in range(9)), VendorCase("last", lambda: BASELINE)]
    checks = list(run_all(cases, 0.12))
    outcomes = [check.outcome for check in checks]
    assert outcomes == sorted(outcomes, key=["passed", "did not run"].index)
    assert 1 <= outcomes.count("passed") < 9
    assert (checks[-1].group, checks[-1].note) == ("vendor", OVER)


def report(*outcomes):
    checks = [Check("group one", f"check {i}", outcome, "a | b\nc") for i, outcome in enumerate(outcomes)]
    return Report("some program", "Some GPU", {"driver": "1"}, "2026-01-01T00:00:00+00:00", checks)


def test_a_report_names_the_device_and_lists_every_check(tmp_path):
    path = report("passed", "failed", "did not run").write(tmp_path)
    text, plain = path.read_text(), json.loads((tmp_path / "report.json").read_text())
    assert text.startswith("# Acceptance of Some GPU\n\nSome GPU: NOT accepted (1 passed, 1 failed, 1 did not run).\n")
    assert "| driver | 1 |" in text
    assert "## Group one" in text
    assert "| check 1 | **failed** | 0.0 | a \\| b c |" in text
    assert plain["counts"] == {"passed": 1, "failed": 1, "did not run": 1}
    assert [check["outcome"] for check in plain["checks"]] == ["passed", "failed", "did not run"]


@pytest.mark.parametrize("outcomes", list(itertools.product(OUTCOMES, repeat=2)))
def test_accepted_is_what_passed_and_never_failed(outcomes):
    assert report(*outcomes).passed == ("failed" not in outcomes and "passed" in outcomes)


def test_nothing_checked_is_not_accepted():
    assert not report().passed
