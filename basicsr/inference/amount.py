"""How much of what a network does is wanted, and how bright."""
from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np

from basicsr.inference.light import mixed, with_grain
from basicsr.utils.errors import UserError

AUTO: Literal['auto'] = 'auto'
_ENDS = {'strength': (0., 1.5), 'exposure': (-3., 3.), 'denoise': (0., 1.)}


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Amount:
    """What is made of a network's answer to a photo; the defaults leave it as it is.

    Attributes:
        strength: 0 to 1.5: of the way from the photo to the result, in linear light; beyond 1 further. 'auto': as much
            as the photo needs, see `auto_strength`.
        exposure: -3 to 3: stops by which the result is brighter.
        denoise: 0 to 1: at 0 the result has the grain of the photo.

    Raises `UserError` for other values.
    """
    strength: float | Literal['auto'] = 1.
    exposure: float = 0.
    denoise: float = 1.

    def __post_init__(self) -> None:
        for name, (least, most) in _ENDS.items():
            value = getattr(self, name)
            if (name, value) != ('strength', AUTO) and not (_is_number(value) and least <= value <= most):
                auto = f"'{AUTO}' or " if name == 'strength' else ''
                raise UserError(f'--{name} is {auto}a number from {least:g} to {most:g}, not {value!r}')

    @classmethod
    def of_words(cls, strength: str, exposure: str, denoise: str) -> Amount:
        """Of what somebody has typed."""
        return cls(*(_number(word) for word in (strength, exposure, denoise)))  # type: ignore[arg-type]

    @property
    def compares(self) -> bool:
        """Whether the result has to have the size of the photo."""
        return self.strength not in (1, AUTO) or self.denoise != 1


AS_IT_IS = Amount()


def applied(amount: Amount, strength: float, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A result, exposed already, with grain and strength; the same array where nothing is asked for.

    Args:
        strength: that of `amount`, or what 'auto' was found to be.
        before: the photo, sRGB (H, W, 3) in [0, 1]. after: the result, the same or grey.

    Raises:
        UserError: where their sizes differ.
    """
    if strength == 1 and amount.denoise == 1:
        return after
    check_size(before.shape, after.shape)
    if amount.denoise != 1:
        after = with_grain(before, after, amount.denoise)
    return after if strength == 1 else mixed(before, after, strength)


def check_size(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Raises `UserError` where a network enlarges."""
    if before[:2] != after[:2]:
        raise UserError('--strength and --denoise blend photo and result, but this network enlarges its images'
                        f' ({after[0] // before[0]} times); leave them out')


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word
