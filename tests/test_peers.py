"""Peers: each really runs and computes what the framework does; which are chosen, and what happens where one cannot."""

import importlib.util
import os
import shutil

import numpy as np
import pytest
import torch

from experiments import peers
from experiments.peers import torch_compile
from experiments.peers.hand_over import quiet
from tests.peer_models import Total, TwoConvs, Unread, as_onnx, reference, source_of, two_convs, two_inputs
from wpk_envs.errors import UserError
from wpk_envs.planner.checking import magnitude, max_abs_error

ON_CPU = [peer for peer in peers.PEERS if peer.supported("cpu", "x86_64")]
FROM_ONNX = [peer for peer in ON_CPU if not peer.name.startswith("torch")]


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def by_name(peer):
    return peer.name


def prepared(peer, source, wanted):
    found = peers.attempt(peer, source, 1, wanted)
    assert not isinstance(found, str), found
    return found


class TestRunning:
    @pytest.mark.parametrize("peer", ON_CPU, ids=by_name)
    def test_outputs_are_the_frameworks(self, peer):
        source = two_convs()
        wanted = reference(source)
        ready, error = prepared(peer, source, wanted)
        assert 0 <= error < 1e-5
        ready.run()
        np.testing.assert_allclose(ready.outputs()[0], wanted[0], atol=1e-5)
        assert ready.version[0].isdigit()
        assert ready.settings

    @pytest.mark.parametrize("peer", ON_CPU, ids=by_name)
    def test_several_inputs_and_outputs_keep_their_order_and_layout(self, peer):
        source = two_inputs()
        wanted = reference(source)
        ready, _ = prepared(peer, source, wanted)
        for made, should in zip(ready.outputs(), wanted):
            np.testing.assert_allclose(made, should, atol=1e-5)
            assert made.flags.c_contiguous

    @pytest.mark.parametrize("peer", ON_CPU, ids=by_name)
    def test_a_result_that_is_one_number_stays_one(self, peer):
        source = source_of(Total(), (2, 3))
        ready, _ = prepared(peer, source, reference(source))
        assert ready.outputs()[0].shape == ()

    @pytest.mark.parametrize("peer", [peer for peer in ON_CPU if peer.name != "tvm_default"], ids=by_name)
    def test_inputs_that_nobody_reads_and_results_by_name(self, peer):
        source = source_of(Unread(), (4,), (4,))
        wanted = source.reference(source.inputs)
        assert len(wanted) == 2
        _, error = prepared(peer, source, wanted)
        assert error == 0

    @pytest.mark.parametrize("peer", FROM_ONNX, ids=by_name)
    def test_an_onnx_file_is_taken_as_it_is(self, peer, tmp_path):
        source = two_convs()
        wanted = reference(source)
        _, error = prepared(peer, as_onnx(source, tmp_path), wanted)
        assert error < 1e-5

    def test_the_module_stays_as_it_was(self):
        source = two_convs()
        before = {name: tensor.stride() for name, tensor in source.module.state_dict().items()}
        for peer in ON_CPU:
            prepared(peer, source, reference(source))
        assert {name: tensor.stride() for name, tensor in source.module.state_dict().items()} == before
        assert not source.module.training

    def test_outputs_outlive_the_next_inference(self):
        source = two_convs()
        wanted = reference(source)
        for peer in ON_CPU:
            ready, _ = prepared(peer, source, wanted)
            first = ready.outputs()
            first[0][:] = 0
            assert ready.outputs()[0].any(), peer.name

    def test_making_ready_prints_nothing(self, capfd):
        for peer in ON_CPU:
            prepared(peer, two_convs(), reference(two_convs()))
        with quiet():
            os.write(2, b"of C++")
        assert capfd.readouterr() == ("", "")
        os.write(2, b"heard again")
        assert capfd.readouterr().err == "heard again"

    def test_frozen_weights_are_packed_ahead(self):
        from torch._dynamo.utils import counters

        source = two_convs()
        counters.clear()
        prepared(torch_compile.TorchCompile(), source, reference(source))
        assert counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"] == 2

    @pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
    def test_threads_between_inferences_do_not_cost_the_others_time(self, name):
        import time

        (peer,) = (peer for peer in ON_CPU if peer.name == name)
        source = source_of(TwoConvs(), (1, 3, 64, 64))
        ready, _ = peers.attempt(peer, source, 2, reference(source))
        ready.run()
        time.sleep(0.02)
        before = time.process_time()
        time.sleep(0.1)
        assert time.process_time() - before < 0.05


class TestFailures:
    def test_torch_has_no_importer_for_onnx(self, tmp_path):
        source = as_onnx(two_convs(), tmp_path)
        for peer in ON_CPU[:2]:
            assert "torch has no importer for ONNX files" in peers.attempt(peer, source, 1, reference(two_convs()))

    def test_a_model_that_a_peer_cannot_run_is_a_sentence(self):
        class Stubborn(torch.nn.Module):
            def forward(self, x):
                if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
                    raise RuntimeError("I am not for export\nmore of it")
                return x + 1

        source = source_of(Stubborn(), (1, 3))
        for peer in FROM_ONNX:
            found = peers.attempt(peer, source, 1, reference(source))
            assert isinstance(found, str)
            assert found.startswith(f"{peer.label} cannot run tiny: ")
            assert "\n" not in found

    def test_wrong_results_are_no_peer(self):
        source = two_convs()
        found = peers.attempt(ON_CPU[0], source, 1, [reference(source)[0] + 1])
        assert isinstance(found, str)
        assert found.startswith("torch eager computes tiny wrongly: it is off by 1,")

    def test_outputs_of_other_shapes_are_no_peer(self):
        source = two_convs()
        found = peers.attempt(ON_CPU[0], source, 1, [*reference(source), np.zeros(3)])
        assert "is off by inf" in found


class TestErrors:
    def test_the_largest_of_all_outputs_counts(self):
        one, other = [np.zeros((2, 2)), np.ones(3)], [np.full((2, 2), 0.25), np.array([1, 1, 0.5])]
        assert max_abs_error(one, other) == 0.5
        assert max_abs_error(one, one) == 0

    def test_no_number_is_infinitely_wrong(self):
        assert max_abs_error([np.array([1, np.nan])], [np.zeros(2)]) == np.inf
        assert max_abs_error([np.ones(2), np.array(np.nan)], [np.zeros(2), np.array(0.0)]) == np.inf

    def test_the_same_infinity_is_no_error_and_another_one_is(self):
        masked = np.array([-np.inf, 1.0], np.float32)
        assert max_abs_error([masked + 1], [masked]) == 1
        assert max_abs_error([-masked], [masked]) == np.inf
        assert magnitude(masked) == 1


class TestSelection:
    def test_all_are_those_of_the_device(self):
        names = [peer.name for peer in peers.select("all", "cpu")]
        assert names == ["torch_eager", "torch_compile", "onnxruntime", "openvino", "tvm_default"]
        assert [peer.name for peer in peers.select("all", "cpu", "riscv64")] == [
            "torch_eager", "torch_compile", "tvm_default"
        ]  # fmt: skip

    @pytest.mark.parametrize("wanted", [None, "none", []])
    def test_none_are_none(self, wanted):
        assert peers.select(wanted, "cpu") == ()

    def test_names_choose(self):
        assert [peer.name for peer in peers.select(["openvino", "torch_eager"], "cpu")] == ["torch_eager", "openvino"]
        assert [peer.name for peer in peers.select("openvino", "cpu")] == ["openvino"]

    def test_an_unknown_name_is_told_the_nearest(self):
        with pytest.raises(UserError, match=r"unknown peer 'onnx_runtime'; did you mean onnxruntime"):
            peers.select(["onnx_runtime"], "cpu")

    def test_a_peer_of_another_device_is_told_which_there_are(self):
        with pytest.raises(UserError, match=r"there is no peer tensorrt for cpu on x86_64 \(there are: torch_eager,"):
            peers.select(["tensorrt"], "cpu", "x86_64")

    @pytest.mark.parametrize("wanted", ["all", ["openvino"]])
    def test_what_is_not_installed_is_told_with_the_extra(self, monkeypatch, wanted):
        hide(monkeypatch, "openvino")
        with pytest.raises(UserError, match=r"peer openvino needs openvino; install it with pip install 'wpk-envs\[pl"):
            peers.select(wanted, "cpu", "x86_64")
        assert len(peers.select(["onnxruntime"], "cpu", "x86_64")) == 1

    def test_without_a_compiler_there_is_no_torch_compile(self, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        torch_compile.missing_compiler.cache_clear()
        with pytest.raises(UserError, match=r"peer torch_compile needs a C\+\+ compiler; install g\+\+"):
            peers.select("all", "cpu", "x86_64")
        torch_compile.missing_compiler.cache_clear()

    def test_all_does_without_tensorrt(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        hide(monkeypatch, "tensorrt")
        chosen = peers.select("all", "cuda", "x86_64")
        assert [peer.name for peer in chosen] == ["torch_eager", "torch_compile", "tensorrt"]
        assert peers.attempt(chosen[-1], two_convs(), 1, []) == (
            "peer tensorrt is not installed; install it with pip install tensorrt"
        )
        with pytest.raises(UserError, match="peer tensorrt is not installed"):
            peers.select(["tensorrt"], "cuda", "x86_64")


def hide(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
