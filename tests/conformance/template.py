"""`TemplateConformance`: what every schedule template must do. Inherit it and name the operators."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo, Kernel, Operator, Template
from wpk_envs.schedules import ScheduleSpace, encoding_for


class TemplateConformance:
    """Set `template`, `operators`, `devices`, and override `execute` for another kind of device."""

    template: Template
    operators: tuple[Operator, ...]
    unfit: tuple[Operator, ...]
    devices: tuple[DeviceInfo, ...]
    samples = 2

    def execute(self, kernel: Kernel, device: DeviceInfo, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Compile the kernel, run it on a poisoned output and return the canonical result."""
        raise NotImplementedError

    def space(self, operator: Operator, device: DeviceInfo) -> ScheduleSpace:
        return ScheduleSpace(operator, device, [self.template], encoding_for(device.kind))

    def cases(self) -> Iterator[tuple[ScheduleSpace, Candidate, np.random.Generator]]:
        for number, operator in enumerate(self.operators):
            for device in self.devices:
                rng = np.random.default_rng(number)
                space = self.space(operator, device)
                for _ in range(self.samples):
                    yield space, space.candidate(space.sample(rng)), rng

    def test_valid_configs_compile_and_are_correct(self):
        for space, candidate, rng in self.cases():
            kernel = self.template.kernel(candidate.operator, candidate.config, space.device)
            inputs = candidate.operator.random_inputs(rng)
            expected = candidate.operator.reference(inputs)
            result = self.execute(kernel, space.device, inputs)
            assert result.shape == expected.shape
            error = np.abs(result - expected).max() / np.abs(expected).max()
            assert error <= self.template.tolerance, f"{candidate.operator.label} {dict(candidate.config)}: {error}"

    def test_buffers_match_their_declared_shapes(self):
        for space, candidate, rng in self.cases():
            kernel = self.template.kernel(candidate.operator, candidate.config, space.device)
            inputs = candidate.operator.random_inputs(rng)
            assert {argument.name for argument in kernel.arguments} == {*inputs, "output"}
            assert kernel.arguments[-1].name == "output"
            for argument in kernel.arguments[:-1]:
                packed = argument.pack(inputs[argument.name])
                assert packed.shape == argument.shape, f"{argument.name} of {dict(candidate.config)}"
                assert packed.dtype == np.float32

    def test_every_masked_out_option_breaks_a_rule(self):
        """Change one knob of a valid config to a masked-out option: a named rule must forbid the result."""
        for space, candidate, _ in self.cases():
            vector = space.encode(candidate.config)
            for position, knob in enumerate(space.encoding.knobs):
                if position == 0 or knob.name not in self.template.knobs:
                    continue
                mask = space.mask(vector[:position])
                for option in np.flatnonzero(~mask[: len(knob.options)]):
                    changed = (*vector[:position], int(option), *vector[position + 1 :])
                    assert not space.is_valid(changed)
                    assert "breaks the rule" in space.explain(changed)

    def test_unused_knobs_have_one_option(self):
        for space, candidate, _ in self.cases():
            vector = space.encode(candidate.config)
            assert space.decode(vector) == dict(candidate.config)
            for position, knob in enumerate(space.encoding.knobs[1:], start=1):
                if knob.name not in self.template.knobs:
                    assert list(np.flatnonzero(space.mask(vector[:position]))) == [0]

    def test_executed_flops_cover_the_work(self):
        """No algorithm but Winograd executes less than the nominal arithmetic, and none is free."""
        for _, candidate, _ in self.cases():
            executed = self.template.executed_flops(candidate.operator, candidate.config)
            least = 0.15 if "winograd" in self.template.name else 0.85
            assert executed >= least * candidate.operator.flops

    def test_static_features_are_scaled_for_every_prefix(self):
        for space, candidate, _ in self.cases():
            vector = space.encode(candidate.config)
            for length in range(1, len(vector) + 1):
                partial = space.decode(vector[:length])
                values = self.template.static_features(candidate.operator, partial, space.device)
                assert len(values) == 3
                assert all(0.0 <= value <= 1.0 for value in values)

    def test_operators_it_cannot_compute_do_not_fit(self):
        for operator in self.unfit:
            assert not self.template.fits(operator, self.devices[0])

    def test_kernels_depend_only_on_their_config(self):
        space, candidate, _ = next(iter(self.cases()))
        kernels = [self.template.kernel(candidate.operator, candidate.config, space.device) for _ in range(2)]
        assert kernels[0].module.script() == kernels[1].module.script()
