"""The search space: a YAML file of option paths and the values to try, checked against the option file it is for."""
from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from annotated_types import Ge
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from basicsr.config import load_options
from basicsr.config.base import read_options
from basicsr.config.blocks import check_block
from basicsr.config.overrides import apply_overrides, as_overrides
from basicsr.config.report import Problems, raise_mistakes
from basicsr.config.schema import Block
from basicsr.config.yaml_reader import read_yaml
from basicsr.utils.errors import UserError
from basicsr.utils.values import REAL, Count, Natural


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise PydanticCustomError('finite_number', 'must be a finite number')
    return value


_FINITE = AfterValidator(_finite)


class Parameter(Block):
    """Values of one option: a list of choices, or a range of whole numbers (both ends are) or of numbers."""
    choices: list[Any] | None = Field(None, min_length=1)
    low: Annotated[int | float | None, _FINITE, REAL] = None
    high: Annotated[int | float | None, _FINITE, REAL] = None
    step: Annotated[int | float | None, _FINITE, REAL] = None
    log: bool = False

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """As Optuna's distribution. Choices are JSON texts, so that lists can be chosen. Raises `ValueError`."""
        numbers = (self.low, self.high, self.step)
        if self.choices is not None and (any(n is not None for n in numbers) or self.log):
            raise ValueError('give choices, or a range of low and high, not both')
        if self.choices is not None:
            return optuna.distributions.CategoricalDistribution([json.dumps(c) for c in self.choices])
        low, high, step = self._range()
        if self._of_integers():
            return optuna.distributions.IntDistribution(int(low), int(high), log=self.log, step=int(step or 1))
        return optuna.distributions.FloatDistribution(low, high, log=self.log, step=step)

    def suggest(self, trial: optuna.Trial, path: str) -> Any:
        """The value of this trial."""
        if self.choices is not None:
            return self.decode(trial.suggest_categorical(path, [json.dumps(c) for c in self.choices]))
        low, high, step = self._range()
        if self._of_integers():
            return trial.suggest_int(path, int(low), int(high), step=int(step or 1), log=self.log)
        return trial.suggest_float(path, low, high, step=step, log=self.log)

    def _range(self) -> tuple[float, float, float | None]:
        if self.low is None or self.high is None:
            raise ValueError('give choices: [...], or low and high')
        if self.low > self.high:
            raise ValueError(f'low: {self.low} is above high: {self.high}')
        if self.log and self.low <= 0:
            raise ValueError(f'log: true needs a low above 0, not {self.low}')
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError('log: true takes no step' if self.log else f'step must be above 0, not {self.step}')
        return self.low, self.high, self.step

    def _of_integers(self) -> bool:
        return all(isinstance(n, int) for n in (self.low, self.high, self.step) if n is not None)

    def decode(self, value: Any) -> Any:
        """The option's value from what Optuna stores."""
        return json.loads(value) if self.choices is not None else value

    def samples(self) -> list[Any]:
        """Values that show whether the option takes them: every choice, or both ends."""
        return self.choices or [self.low, self.high]


class SamplerOptions(Block):
    type: Literal['tpe', 'random'] = 'tpe'
    seed: Natural | None = None


class PrunerOptions(Block):
    type: Literal['median', 'hyperband', 'none'] = 'median'
    min_iter: Count | None = None
    startup_trials: Natural = 5
    reduction_factor: Annotated[Count, Ge(2)] = 3


class SpaceFile(Block):
    space: dict[str, dict[str, Any]] = Field(min_length=1)
    fixed: dict[str, Any] = Field(default_factory=dict)
    trial_only: dict[str, Any] = Field(default_factory=dict)
    direction: Literal['maximize', 'minimize'] | None = None
    sampler: SamplerOptions = Field(default_factory=SamplerOptions)
    pruner: PrunerOptions = Field(default_factory=PrunerOptions)


@dataclass
class Space:
    """Attributes:
        parameters: what is searched, by option path.
        fixed: options set in every trial and in the result. trial_only: those set in trials alone, e.g. their length.
        content: the file as it was read.
    """
    parameters: dict[str, Parameter]
    fixed: dict[str, Any]
    trial_only: dict[str, Any]
    direction: str | None
    sampler: SamplerOptions
    pruner: PrunerOptions
    content: dict[str, Any] = field(repr=False)

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """`path=value` entries of a trial with these values."""
        return as_overrides(self.fixed | self.trial_only | values)


def read_space(file: str | Path) -> Space:
    """Raises `UserError`: lists every mistake of the file with its line."""
    data, source = read_yaml(file)
    problems = Problems(source)
    checked = check_block(SpaceFile, data, (), problems)
    parameters = {}
    for path, block in (data['space'].items() if isinstance(data.get('space'), dict) else ()):
        values = check_block(Parameter, block, ('space', path), problems) if isinstance(block, dict) else None
        if values is not None:
            try:
                parameters[path] = Parameter(**values)
                parameters[path].distribution()
            except ValueError as error:
                problems.add(('space', path), str(error))
        for other in ('fixed', 'trial_only'):
            if isinstance(data.get(other), dict) and path in data[other]:
                problems.add((other, path), 'is searched already')
    raise_mistakes(source.file, problems.texts())
    found = SpaceFile(**(checked or {}))
    return Space(parameters, found.fixed, found.trial_only, found.direction, found.sampler, found.pruner, data)


def check_space(space: Space, space_file: str | Path, option_file: str | Path, overrides: list[str]) -> dict[str, Any]:
    """Load the options of a trial with every choice and both ends of every range. Returns the first trial's options.

    Raises `UserError` for paths that do not exist, values that are not allowed, and option files of several runs.
    """
    data, source = read_options(option_file)
    apply_overrides(data, overrides, Problems(source))
    if 'stages' in data:
        raise UserError(f"'{option_file}' has stages; a search needs an option file of one run")
    own = load_options(option_file, overrides, is_train=True).opt  # its own mistakes first
    if own['train'].get('time_limit'):
        raise UserError('train.time_limit interrupts runs, and a trial is not resumed; leave it out for a search')
    count = max(len(p.samples()) for p in space.parameters.values())
    loaded = []
    for i in range(count):
        values = {path: p.samples()[min(i, len(p.samples()) - 1)] for path, p in space.parameters.items()}
        try:
            loaded.append(load_options(option_file, [*overrides, *space.overrides(values)], is_train=True))
        except UserError as error:
            raise UserError(f"the search space '{space_file}' does not fit: {error}") from error
    return loaded[0].opt
