"""A small genetic algorithm, built from DEAP's operators: population 10, (mu + lambda), no config twice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from deap import algorithms, base, tools

from agents.base import Agent
from wpk_envs.schedules.space import Prefix, ScheduleSpace
from wpk_envs.tuning import TuningProblem

ATTEMPTS = 20
"""Mutations of a child that was tried before, until a random config takes its place."""


class Fitness(base.Fitness):
    """The reward of a config, to be maximised."""

    weights = (1.0,)


class Individual(list[int]):
    """A config as option numbers, one per knob of the encoding."""

    def __init__(self, options: Iterable[int]) -> None:
        super().__init__(options)
        self.fitness = Fitness()


@dataclass
class GeneticAlgorithm(Agent):
    """Keep the best ``population`` configs; vary them by crossover or mutation; measure only new ones.

    Children are repaired to the nearest valid config before they are compared with what was tried.

    Attributes:
        population: Configs that survive a generation (mu).
        offspring: Children of a generation (lambda), measured as one batch.
        crossover: Share of children made by uniform crossover; the others are mutated.
        mutation_rate: Chance of every knob to take a random option in a mutation.
    """

    name: ClassVar[str] = "ga"
    population: int = 10
    offspring: int = 10
    crossover: float = 0.5
    mutation_rate: float = 0.15

    def __post_init__(self) -> None:
        self.check(2, math.inf, "population")
        self.check(1, math.inf, "offspring")
        self.check(0, 1, "crossover", "mutation_rate")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Measure generation after generation."""
        rng = np.random.default_rng(seed)
        toolbox = self._toolbox(problem.space)
        tried: set[Prefix] = set()
        population = _measured(problem, self.first(problem, rng, tried))
        while not problem.done:
            children = algorithms.varOr(population, toolbox, self.offspring, self.crossover, 1 - self.crossover)
            fresh = [_fresh(problem, rng, toolbox, tried, child) for child in children]
            population = tools.selBest(population + _measured(problem, fresh), self.population)

    def first(self, problem: TuningProblem, rng: np.random.Generator, tried: set[Prefix]) -> list[Prefix | None]:
        """The configs of the first population, noted in ``tried``; none in place of one that could not be drawn."""
        return [untried(problem, rng, tried) for _ in range(self.population)]

    def _toolbox(self, space: ScheduleSpace) -> base.Toolbox:
        toolbox = base.Toolbox()
        highest = [len(knob.options) - 1 for knob in space.encoding.knobs]
        toolbox.register("mate", tools.cxUniform, indpb=0.5)
        toolbox.register("mutate", tools.mutUniformInt, low=0, up=highest, indpb=self.mutation_rate)
        return toolbox


def _fresh(
    problem: TuningProblem, rng: np.random.Generator, toolbox: base.Toolbox, tried: set[Prefix], child: Individual
) -> Prefix | None:
    """The child's repaired config if it is new, else the first new one that mutating it again gives."""
    for _ in range(ATTEMPTS):
        vector = problem.space.repair(child)
        if vector not in tried:
            tried.add(vector)
            return vector
        (child,) = toolbox.mutate(child)
    return untried(problem, rng, tried)


def untried(problem: TuningProblem, rng: np.random.Generator, tried: set[Prefix]) -> Prefix | None:
    """A random config that is not in ``tried``; none if drawing finds only those of the batch at hand."""
    for _ in range(ATTEMPTS):
        vector = problem.sample_untried(rng)
        if vector is not None and vector not in tried:
            tried.add(vector)
            return vector
    return None


def _measured(problem: TuningProblem, vectors: Iterable[Prefix | None]) -> list[Individual]:
    """Individuals of the configs that the budget paid for."""
    wanted = [vector for vector in vectors if vector is not None]
    measured = []
    for vector, measurement in zip(wanted, problem.measure(wanted)):
        if measurement is not None:
            individual = Individual(vector)
            individual.fitness.values = (problem.reward(measurement),)
            measured.append(individual)
    return measured
