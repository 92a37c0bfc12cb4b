"""The real GPU: what cannot be used is a sentence, and where there is a GPU, its primitives."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from wpk_envs.core import Argument
from wpk_envs.devices.cuda import driver, torch_gpu
from wpk_envs.devices.cuda.driver import Driver, open_driver
from wpk_envs.devices.cuda.program import Launch, Program, Resources
from wpk_envs.devices.cuda.torch_gpu import TorchGpu
from wpk_envs.errors import UserError
from wpk_envs.packing import Packing

ROOT = Path(__file__).parents[1]


class FakeDriver(Driver):
    """Notes what it is asked; ``attributes`` by number."""

    def __init__(self, version: int = 12080, **attributes: int) -> None:
        self.cuda_version = version
        self.attributes = {number: attributes.get(name, 1) for name, number in driver.ATTRIBUTES.items()}
        self.launched: list[tuple[Any, ...]] = []

    def version(self) -> int:
        return self.cuda_version

    def attribute(self, number: int, index: int) -> int:
        return self.attributes[number]

    def load(self, image: bytes) -> Any:
        return image

    def unload(self, module: Any) -> None:
        pass

    def function(self, module: Any, name: str) -> Any:
        return f"{module.decode()}.{name}"

    def launch(self, function: Any, launch: Launch, stream: int, parameters: int) -> None:
        count = len(launch.buffers)
        pointers = (ctypes.c_void_p * count).from_address(parameters)
        values = [ctypes.c_void_p.from_address(pointer).value for pointer in pointers]
        self.launched.append((function, launch.grid, launch.block, stream, values))

    def fill(self, address: int, size: int, stream: int) -> None:
        ctypes.memset(address, 0xFF, size)


@pytest.fixture
def gpu_torch(monkeypatch) -> SimpleNamespace:
    """Torch as where there is one GPU, its tensors on the CPU; each answer can be replaced."""
    cuda = SimpleNamespace(
        init=lambda: None,
        device_count=lambda: 1,
        set_device=lambda index: None,
        synchronize=lambda: None,
        current_stream=lambda: SimpleNamespace(cuda_stream=7),
        get_device_capability=lambda index: (8, 0),
        get_device_name=lambda index: "NVIDIA A100-SXM4-40GB",
        get_device_properties=lambda index: SimpleNamespace(total_memory=40 << 30),
        get_arch_list=lambda: ["sm_80"],
        clock_rate=lambda index: 1410,
        temperature=lambda index: 41,
    )
    fake = SimpleNamespace(
        cuda=cuda,
        version=SimpleNamespace(cuda="12.6"),
        __version__="2.9.0",
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91002)),
        float32=torch.float32,
        from_numpy=torch.from_numpy,
        ones=lambda count, device: torch.ones(count),
        empty=lambda count, dtype=None, device=None: torch.empty(count),
    )
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(torch_gpu, "open_driver", lambda: FakeDriver(l2_bytes=1 << 20, clock_khz=1_410_000))
    return fake


def _raise(error: Exception) -> Any:
    def call(*arguments: Any, **options: Any) -> None:
        raise error

    return call


class TestBadInput:
    def test_a_torch_for_cpus(self, gpu_torch):
        gpu_torch.version.cuda = None
        with pytest.raises(UserError, match=r"torch 2.9.0 is not built for CUDA; install a build for NVIDIA GPUs"):
            TorchGpu()

    @pytest.mark.parametrize(
        "said",
        [
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU.",
            "The NVIDIA driver on your system is too old (found version 11040).\nPlease update",
        ],
    )
    def test_no_driver_or_one_too_old_for_torch(self, gpu_torch, said):
        gpu_torch.cuda.init = _raise(RuntimeError(said))
        with pytest.raises(UserError, match="no NVIDIA GPU can be used here: ") as raised:
            TorchGpu()
        assert str(raised.value).endswith(said.splitlines()[0].rstrip("."))

    def test_a_driver_too_old_for_the_kernels(self, gpu_torch, monkeypatch):
        monkeypatch.setattr(torch_gpu, "open_driver", lambda: FakeDriver(version=11080))
        with pytest.raises(UserError, match=r"driver is for CUDA 11.8, too old .* install driver 525 or newer"):
            TorchGpu()

    def test_a_gpu_that_is_not_there(self, gpu_torch):
        with pytest.raises(UserError, match=r"there is no GPU 4: device.gpus takes the numbers 0 to 0"):
            TorchGpu(4)

    def test_no_gpu_at_all(self, gpu_torch):
        gpu_torch.cuda.device_count = lambda: 0
        with pytest.raises(UserError, match="the driver shows no GPU to this process; see CUDA_VISIBLE_DEVICES"):
            TorchGpu()

    def test_a_gpu_that_others_have_filled(self, gpu_torch):
        gpu_torch.empty = _raise(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"))
        with pytest.raises(UserError, match=r"GPU 0 cannot be used: CUDA error: out of memory; end what else"):
            TorchGpu()

    def test_a_gpu_with_too_little_memory_left(self, gpu_torch):
        sizes = []

        def empty(count, dtype=None, device=None):
            sizes.append(count)
            if count > 1:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 MiB")
            return torch.empty(count)

        gpu_torch.empty = empty
        with pytest.raises(UserError, match=r"GPU 0 cannot be used: CUDA out of memory\. Tried .*; end what else"):
            TorchGpu()
        assert sizes[-1] * 4 == 2 << 20, "twice the cache"

    def test_a_gpu_too_old(self, gpu_torch):
        gpu_torch.cuda.get_device_capability = lambda index: (5, 2)
        with pytest.raises(UserError, match="is an sm_52 GPU, too old: the oldest architecture supported is sm_60"):
            TorchGpu()

    def test_neither_of_the_packages_that_load_kernels(self, monkeypatch):
        for name in ("cuda", "cuda.bindings", "cupy"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=r"needs cuda-bindings or CuPy .* install one of them"):
            open_driver()

    def test_a_kernel_for_another_architecture(self, gpu_torch):
        with pytest.raises(UserError, match=r"compiled for sm_90 but NVIDIA A100-SXM4-40GB has sm_80"):
            TorchGpu().load(_scaling("sm_90", b""))


class TestWithoutAGpu:
    def test_what_the_gpu_says_of_itself(self, gpu_torch):
        info = TorchGpu().info
        assert (info.model, info.arch, info.no_vendor) == ("NVIDIA A100-SXM4-40GB", "sm_80", "")
        assert info.versions == {"driver": "12.8", "torch": "2.9.0", "cudnn": "91002"}
        assert info.properties["clock_mhz"] == 1410
        assert info.memory_bytes == 40 << 30

    def test_torch_without_kernels_for_the_gpu_goes_on_without_a_baseline(self, gpu_torch):
        gpu_torch.ones = _raise(RuntimeError("CUDA error: no kernel image is available for execution on the device"))
        gpu_torch.cuda.get_device_capability = lambda index: (6, 0)
        gpu = TorchGpu()
        assert gpu.protocols == ("cold",)
        assert gpu.info.no_vendor.startswith("torch 2.9.0 has no kernels for sm_60 (it has sm_80); ")
        assert "whl/cu126" in gpu.info.no_vendor
        assert np.array_equal(gpu.download(gpu.upload(np.arange(3.0))), [0, 1, 2])

    def test_sensors_that_do_not_answer_are_left_out(self, gpu_torch):
        """The fake has no power sensor."""
        assert TorchGpu().sensors() == {"sm_clock_mhz": 1410, "temperature_c": 41}

    def test_launches_get_the_addresses_of_their_buffers_each_time(self, gpu_torch):
        gpu = TorchGpu()
        x, y = gpu.upload(np.ones(4)), gpu.allocate(4)
        call = gpu.load(_scaling("sm_80", b"image")).bind({"x": x, "output": y})
        call()
        call()
        expected = ("image.scale", (2, 1, 1), (32, 1, 1), 7, [x.data_ptr(), y.data_ptr()])
        assert gpu._driver.launched == [expected] * 2

    def test_poison_is_nan_in_every_bit(self, gpu_torch):
        gpu = TorchGpu()
        buffer = gpu.upload(np.zeros(6))
        gpu.poison(buffer[2:4])
        assert np.isnan(gpu.download(buffer)).tolist() == [False, False, True, True, False, False]

    def test_memory_bandwidth_of_a_bus_with_double_data_rate(self):
        """P100: 715 MHz on 4096 wires are the data sheet's 732 GB/s."""
        found = FakeDriver(memory_clock_khz=715_000, memory_bus_bits=4096).properties(0)
        assert found["memory_gbps"] == 732
        assert "memory_clock_khz" not in found


CALLS = """
import gc
from wpk_envs.devices.cuda.driver import open_driver
from wpk_envs.devices.cuda.program import Launch

driver = open_driver()
print(driver.version(), driver.properties(3)["multiprocessors"], flush=True)
module = driver.load(b"good")
launch = Launch("scale", (1, 2, 3), (4, 5, 6), ("x", "y"))
call = driver.launcher(driver.function(module, launch.function), launch, [0xABC123, 0xDEF456])
gc.collect()
call(7)
driver.fill(0x1000, 64, 7)
driver.unload(module)
try:
    driver.load(b"bad")
except RuntimeError as error:
    print(error)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_what_the_driver_is_asked(tmp_path):
    """Through the real cuda-bindings, down to a library in the driver's place."""
    pytest.importorskip("cuda.bindings.driver")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, ROOT / "tests" / "fake_libcuda.c", "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-u", "-c", CALLS],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {
        "12080 16003",
        "function scale of 0x11",
        "launch 0x22 on 1 2 3 x 4 5 6 shared 0 stream 7 with abc123 def456",
        "fill 1000 with 255, 64 bytes, stream 7",
        "unload 0x11",
        "CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid",
    }


WITHOUT_THE_SUITE = """
import importlib.machinery, sys
MISSING = "tvm tvm_ffi psutil gymnasium hydra omegaconf pyarrow scipy platformdirs rich wandb".split()
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, path, target)
sys.meta_path[:] = [Finder if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
"""


def test_the_runner_needs_numpy_and_torch_alone(tmp_path):
    """In the process that asks and in the one that answers; here the answer is that there is no GPU to use."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_THE_SUITE)
    script = (
        "import sys\n"
        "from wpk_envs.devices.cuda.runner import GpuRunner\n"
        "from wpk_envs.errors import UserError\n"
        "import wpk_envs.devices.cuda.server, wpk_envs.devices.cuda.torch_gpu, wpk_envs.vendors.cudnn_conv\n"
        "assert 'gymnasium' not in sys.modules\n"
        "try:\n"
        "    with GpuRunner([1000]) as runner: runner.info\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert done.returncode == 0, done.stderr
    expected = ("not built for CUDA", "no NVIDIA GPU can be used", "there is no GPU 1000")
    assert any(words in done.stdout for words in expected), done.stdout


SCALE = """
extern "C" __global__ void scale(const float* x, float* output) {
  output[blockIdx.x * blockDim.x + threadIdx.x] = 2.0f * x[blockIdx.x * blockDim.x + threadIdx.x];
}
"""


def _scaling(arch: str, image: bytes) -> Program:
    arguments = (Argument("x", (64,), "N", Packing()), Argument("output", (64,), "N", Packing()))
    launch = Launch("scale", (2, 1, 1), (32, 1, 1), ("x", "output"))
    return Program(arch, image, (launch,), arguments, {}, {"scale": Resources(8, 0, 0, 0)})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that torch can use")
class TestRealGpu:
    @pytest.fixture(scope="class")
    def gpu(self) -> TorchGpu:
        return TorchGpu()

    @pytest.fixture
    def program(self, gpu) -> Program:
        pytest.importorskip("cuda.bindings.nvrtc")
        from wpk_envs.devices.cuda.toolchain import compile_source

        return _scaling(gpu.info.arch, compile_source(SCALE, gpu.info.arch).cubin)

    def test_memory_is_copied_and_poisoned(self, gpu):
        buffer = gpu.upload(np.arange(8.0))
        gpu.poison(buffer[2:4])
        assert np.isnan(gpu.download(buffer)).tolist() == [False, False, True, True] + [False] * 4

    def test_a_kernel_runs_alone_and_in_a_graph(self, gpu, program):
        loaded = gpu.load(program)
        x, y = gpu.upload(np.arange(64.0)), gpu.allocate(64)
        call = loaded.bind({"x": x, "output": y})
        for again in (call, gpu.repeated(call, 3)):
            gpu.poison(y)
            again()
            assert np.array_equal(gpu.download(y), 2 * np.arange(64.0))
        assert not gpu.broken()
        loaded.unload()

    def test_marks_measure_the_gpu(self, gpu):
        start = gpu.mark()
        for _ in range(100):
            gpu.flush()
        end = gpu.mark()
        gpu.synchronize()
        assert gpu.elapsed_us(start, end) > 10

    def test_properties_are_plausible(self, gpu):
        properties = gpu.info.properties
        assert min(properties.values()) > 0
        assert properties["shared_bytes_per_block"] >= 48 << 10
        assert 100 < properties["memory_gbps"] < 20_000
        assert 500 < properties["clock_mhz"] < 4_000
