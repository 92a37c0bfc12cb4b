"""Tests marked ``gpu`` are skipped, with that reason, where torch finds no NVIDIA GPU."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _gpu_present():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


def _gpu_present() -> bool:
    import torch

    return torch.cuda.is_available()
