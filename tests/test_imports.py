"""``import wpk_envs`` where little is installed, as on a machine that only times kernels."""

import importlib.metadata
import subprocess
import sys

import pytest

WITH_NUMPY = {"numpy"}
TORCH_NEEDS = {"filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "typing_extensions"}
WITH_TORCH = WITH_NUMPY | {"torch", "functorch", "torchgen"} | TORCH_NEEDS
WITH_GYMNASIUM = WITH_TORCH | {"gymnasium", "cloudpickle", "farama_notifications"}
OWN = {"wpk_envs", "agents", "experiments", "conf"}


def run_with(installed: set[str], code: str) -> str:
    """Run code where no other third-party package can be imported."""
    known = {name for name in importlib.metadata.packages_distributions() if name.isidentifier()}
    missing = sorted(known - installed - OWN)
    assert {"tvm", "hydra", "pyarrow"} <= set(missing)
    hide = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
    done = subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_gymnasium_there_is_nothing_to_register_with():
    code = "import wpk_envs, sys; print('wpk_envs.envs' in sys.modules)"
    assert run_with(WITH_NUMPY, code) == "False"


def test_with_gymnasium_alone_the_ids_are_there():
    code = "import wpk_envs, gymnasium; print('wpk/Gemm-v0' in gymnasium.registry)"
    assert run_with(WITH_GYMNASIUM, code) == "True"


@pytest.mark.parametrize("module", ["core", "operators", "packing", "devices", "devices.cuda.program"])
def test_contracts_need_numpy_alone(module):
    run_with(WITH_NUMPY, f"import wpk_envs.{module}")
