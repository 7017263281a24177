"""The optimizers that options can name, all of them torch's, whose own signatures say no ranges."""
from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from annotated_types import Lt
from pydantic import AfterValidator, BaseModel, WithJsonSchema
from pydantic_core import PydanticCustomError

from basicsr.config import signatures
from basicsr.utils.values import AboveOne, BelowOne, Fraction, NonNegative, Positive

OPTIMIZERS = {
    'Adam': 'torch.optim.adam',
    'AdamW': 'torch.optim.adamw',
    'Adamax': 'torch.optim.adamax',
    'SGD': 'torch.optim.sgd',
    'ASGD': 'torch.optim.asgd',
    'RMSprop': 'torch.optim.rmsprop',
    'Rprop': 'torch.optim.rprop',
}


def _not_differentiable(value: bool) -> bool:
    if value:
        raise PydanticCustomError('differentiable', 'must be false (training does not differentiate its own steps)')
    return value


# arguments that mean the same in all optimizers that have them
RANGES: dict[str, Any] = {
    'lr': NonNegative,
    'betas': tuple[BelowOne, BelowOne],
    'eps': NonNegative,
    'weight_decay': NonNegative,
    'momentum': BelowOne,
    'dampening': Fraction,
    'alpha': Fraction,
    'lambd': NonNegative,
    't0': NonNegative,
    'etas': tuple[Annotated[Positive, Lt(1)], AboveOne],
    'differentiable': Annotated[bool, AfterValidator(_not_differentiable),
                                WithJsonSchema({'const': False})],
    'step_sizes': tuple[Positive, Positive],
}


@cache
def optimizer_model(name: str) -> type[BaseModel] | None:
    """A pydantic model of the options of an optimizer; None where this torch keeps it elsewhere and it must complain itself."""
    signature = signatures.torch_signature(OPTIMIZERS[name], name)
    if signature is None:
        return None
    fields = {k: (RANGES.get(k, kind), default) for k, (kind, default) in signature.fields.items() if k != 'params'}
    return signatures.to_model(name, fields | {'type': (str, ...), 'lr': (RANGES['lr'], ...)}, signature.open)
