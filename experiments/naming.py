"""What figures are called: those of predictions say so in every name."""

from __future__ import annotations

from dataclasses import dataclass

from wpk_envs.core import Config, Measurement


@dataclass(frozen=True)
class Naming:
    """Names of a device's figures.

    Attributes:
        predicted: Whether they are predictions; then no name is that of anything measured.
    """

    predicted: bool

    def key(self, name: str) -> str:
        """A field or file: ``speedup`` is ``predicted_speedup`` where it is predicted."""
        return f"predicted_{name}" if self.predicted else name

    def text(self, words: str) -> str:
        """A label: ``speedup`` is ``predicted speedup`` where it is predicted."""
        return f"predicted {words}" if self.predicted else words

    @property
    def baseline(self) -> str:
        """What speedups are over, in words."""
        return "default schedule (predicted)" if self.predicted else "vendor's best"

    def figures(self, measurement: Measurement) -> dict[str, float | None]:
        """Speedup and latency of one trial by their names; none where there is none."""
        return {self.key("speedup"): measurement.gain, self.key("latency_us"): measurement.cost_us}


LONGEST_VALUE = 40


def config_text(config: Config, separator: str = ", ") -> str:
    """A config for people; of a value as long as a trace only the beginning."""
    cut = {
        name: f"{str(value)[:LONGEST_VALUE]}..." for name, value in config.items() if len(str(value)) > LONGEST_VALUE
    }
    return separator.join(f"{name}={value}" for name, value in {**config, **cut}.items())


MEASURED, PREDICTED = Naming(predicted=False), Naming(predicted=True)
