"""Batches of requests through one and two pools of worker processes, with servers that answer at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from wpk_envs.devices.messages import Failure, Last, Refusal, Start
from wpk_envs.devices.pool import WorkerPool
from wpk_envs.devices.rounds import Stage, play
from wpk_envs.errors import UserError

SECONDS = 5.0


class Echo:
    """Answers ``(name, what to do)`` with ``(name, its settings' word)``."""

    def __init__(self, word: str, info: str = "here") -> None:
        if word == "refuses":
            raise UserError("nothing to be had here")
        self.word, self.info = word, info

    def serve(self, request):
        name, act = request
        if act == "exit":
            os._exit(3)
        if act == "hang":
            time.sleep(60)
        if act == "refuse":
            raise UserError("that cannot be")
        if act == "raise":
            raise ValueError("what is that?")
        return Last((name, self.word)) if act == "last" else (name, self.word)


def pool(*words: str, **settings) -> WorkerPool:
    return WorkerPool([Start("tests.test_rounds:Echo", {"word": word, **settings}) for word in words])


@pytest.fixture(scope="module")
def first() -> Iterator[WorkerPool]:
    made = pool("a", "b")
    yield made
    made.close()


@pytest.fixture(scope="module")
def second() -> Iterator[WorkerPool]:
    made = pool("z")
    yield made
    made.close()


def test_workers_of_one_pool_may_be_told_different_things(first: WorkerPool):
    first.wait_for_all()
    replies = first.run([(number, "") for number in range(40)], SECONDS)
    assert [name for name, _ in replies] == list(range(40))
    assert {word for _, word in replies} == {"a", "b"}


def test_replies_of_every_kind(first: WorkerPool):
    acts = ["", "refuse", "raise", "exit", ""]
    replies = first.run([("x", act) for act in acts], SECONDS)
    assert replies[0][0] == replies[-1][0] == "x"
    assert replies[1] == Refusal("that cannot be")
    assert replies[2] == Failure("crash", "ValueError: what is that?")
    assert replies[3] == Failure("crash", "the worker process ended with exit code 3")


def test_the_last_reply_of_a_worker_counts_and_another_takes_its_slot(second: WorkerPool):
    second.run([("x", "")], SECONDS)
    before = second.pids
    assert second.run([("x", "last"), ("y", "")], SECONDS) == [("x", "z"), ("y", "z")]
    assert second.pids != before


def test_a_lasting_worker_is_not_worn_out(monkeypatch):
    monkeypatch.setattr("wpk_envs.devices.pool.TASKS_PER_WORKER", 1)
    lasting = WorkerPool([Start("tests.test_rounds:Echo", {"word": "a"}, lasting=True)])
    try:
        lasting.run([("x", "")], SECONDS)
        before = lasting.pids
        lasting.run([("x", "")] * 3, SECONDS)
        assert lasting.pids == before
    finally:
        lasting.close()


class TestTwoStages:
    def stages(self, first: WorkerPool, second: WorkerPool, seconds: float = SECONDS) -> list[Stage]:
        def forward(position, reply):
            return (reply, "hang" if reply[0] == "slow" else "") if isinstance(reply, tuple) else None

        return [Stage(first, SECONDS, forward), Stage(second, seconds)]

    def test_replies_become_requests_and_final_ones_come_in_order(self, first, second):
        order: list[int] = []
        requests = [("x", "refuse"), ("y", ""), ("slow", ""), ("z", "raise")]
        stages = self.stages(first, second, seconds=1.0)
        replies = play(stages, requests, lambda position, reply: order.append(position))
        assert replies[0] == Refusal("that cannot be")
        assert replies[1][0][0] == "y"
        assert replies[1][1] == "z", "the second stage's word"
        assert replies[2] == Failure("timeout", "no answer within the deadline of 1 s")
        assert replies[3].error == "crash"
        assert sorted(order) == [0, 1, 2, 3]

    def test_an_interrupt_ends_what_is_busy_in_both_and_both_go_on(self, first, second):
        def interrupt(position, reply):
            raise KeyboardInterrupt

        requests = [("x", ""), ("slow", ""), ("y", "hang")]
        with pytest.raises(KeyboardInterrupt):
            play(self.stages(first, second), requests, interrupt)
        assert not [worker for each in (first, second) for worker in each.workers if worker.task is not None]
        assert play(self.stages(first, second), [("x", "")])[0][1] == "z"

    def test_asking_from_within_is_refused(self, first, second):
        def ask(position, reply):
            second.run([], SECONDS)

        with pytest.raises(RuntimeError, match="within on_result"):
            play(self.stages(first, second), [("x", "")], ask)


class TestStarting:
    def test_a_refusal_to_start_is_the_users_error(self):
        refusing = pool("a", "refuses")
        with pytest.raises(UserError, match="nothing to be had here"):
            refusing.wait_for_all()
        refusing.close()

    def test_all_can_be_waited_for(self):
        made = pool("a", "b")
        made.wait_for_all()
        assert len(made.pids) == 2
        assert all(worker.idle for worker in made.workers)
        made.close()

    def test_workers_that_see_different_devices_are_refused(self):
        starts = [Start("tests.test_rounds:Echo", {"word": "a", "info": info}) for info in ("here", "there")]
        made = WorkerPool(starts)
        with pytest.raises(UserError, match=r"must be alike, but these differ: \w+ and \w+"):
            made.wait_for_all()
        made.close()

    def test_a_server_that_is_not_there_ends_after_some_tries(self):
        made = WorkerPool([Start("tests.test_rounds:Nothing")])
        with pytest.raises(
            RuntimeError, match=r"worker processes do not start: .*exit code 1 .*no attribute 'Nothing'"
        ):
            made.run([("x", "")], SECONDS)
        made.close()
