"""What values an argument takes: annotations for constructors whose arguments options fill in.

`n_feat: Count` says what `n_feat: int` leaves open. The checker of options and the JSON schema read it from the source
of a constructor; a type checker sees an int. Calling the constructor checks nothing: what would be silently wrong there
raises a `ValueError` of its own.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NoReturn

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen
from pydantic import AfterValidator, AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from basicsr.utils.names import name_mistake
from basicsr.utils.task_names import ALL_IN_ONE, CDD11, members, spellings


def as_number(value: Any) -> Any:
    """The number that a text such as '5e3' spells, else the value itself."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _whole(value: Any) -> Any:
    return as_number(no_truth(value))


def _real(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError('float_type', 'must be a number')
    return value


def no_truth(value: Any) -> Any:
    """The value, unless it is true or false."""
    if isinstance(value, bool):  # Python counts with them
        raise PydanticCustomError('int_type', 'must be a whole number')
    return value


def _off(value: Any) -> Any:
    return False if value is None else value


def _slice(text: str) -> str:
    try:
        if ':' in text:
            range(0)[slice(*(int(part) if part.strip() else None for part in text.split(':')))]
            return text
    except (ValueError, TypeError):
        pass
    raise PydanticCustomError('slice', "must be a slice such as ':460' or '460:' (a number alone is no slice)")


def _ascending(span: Sequence[float]) -> Sequence[float]:
    if span[0] > span[1]:
        raise PydanticCustomError('ascending', 'must begin with the smaller number')
    return span


def _path_name(text: str) -> str:
    mistake = name_mistake(text)
    if mistake:
        raise PydanticCustomError('path_name', '{mistake}', {'mistake': mistake})
    return text


def _known_task(name: str) -> str:
    return name if set(members(name)) & set(ALL_IN_ONE) else _refused(spellings(ALL_IN_ONE))


def _known_subset(name: str) -> str:
    return name if name in _SUBSETS else _refused(_SUBSETS)


def _scalar(reduction: Any) -> Any:
    if reduction == 'none':
        raise PydanticCustomError('no_scalar', 'must be mean or sum (training needs one number)')
    return reduction if reduction in ('mean', 'sum') else _refused(('mean', 'sum'))


def _of_files(order: Any) -> Any:
    return order if order == 'HWC' else _refused(('HWC', ))


def _refused(expected: Iterable[str]) -> NoReturn:
    raise PydanticCustomError('literal_error', 'must be one of: {expected}', {'expected': ', '.join(expected)})


# null is off, as where BasicSR asks whether an option is set
Switch = Annotated[bool, BeforeValidator(_off), WithJsonSchema({'type': ['boolean', 'null']})]

WHOLE, REAL = BeforeValidator(_whole), BeforeValidator(_real)

# bounds stand before the conversion, otherwise they do not reach the JSON schema
Int = Annotated[int, WHOLE]
Natural = Annotated[int, Ge(0), WHOLE]  # 0, 1, 2, ...
Count = Annotated[int, Gt(0), WHOLE]  # 1, 2, 3, ...

Quality = Annotated[int, Ge(1), Le(100), WHOLE]  # of JPEG

Float = Annotated[float, REAL]
# neither infinite nor NaN
Finite = Annotated[float, AllowInfNan(False), REAL]
NonNegative = Annotated[float, Ge(0), AllowInfNan(False), REAL]
Positive = Annotated[float, Gt(0), AllowInfNan(False), REAL]
Fraction = Annotated[float, Ge(0), Le(1), AllowInfNan(False), REAL]
BelowOne = Annotated[float, Ge(0), Lt(1), AllowInfNan(False), REAL]  # from 0 up to 1 without it
AboveOne = Annotated[float, Gt(1), AllowInfNan(False), REAL]

_NotPositive = Annotated[float, Le(0), AllowInfNan(False), REAL]
# from the first to the second
_NotPositives = Annotated[Sequence[_NotPositive], Len(2, 2), AfterValidator(_ascending)]
_Positives = Annotated[Sequence[Positive], Len(2, 2), AfterValidator(_ascending)]
_NonNegatives = Annotated[Sequence[NonNegative], Len(2, 2), AfterValidator(_ascending)]

# one number for each level, mixture, image side ...
Naturals3 = Annotated[Sequence[Natural], Len(3, 3)]
Naturals4 = Annotated[Sequence[Natural], Len(4, 4)]
Counts3 = Annotated[Sequence[Count], Len(3, 3)]
Counts4 = Annotated[Sequence[Count], Len(4, 4)]
Size = Annotated[Sequence[Count], Len(2, 2)]  # two sides of an image
PathName = Annotated[str, Field(coerce_numbers_to_str=True), AfterValidator(_path_name)]  # becomes a file or folder
FilePath = Annotated[str, MinLen(1)]  # of a file or folder; '' would be the working directory
Slice = Annotated[str, AfterValidator(_slice)]  # 'start:stop:step', each of which may be left out


class ExposureAugs(BaseModel):
    """Inputs that are made from their ground truths, by the camera of `basicsr/data/exposure.py`."""
    model_config = ConfigDict(extra='forbid')

    probability: Fraction = Field(0.5,
                                  description='share of the inputs that are made; the others are those of the files')
    untouched: Fraction = Field(0.2, description='share of those made that equal their ground truth')
    stops: _NotPositives = Field((-5., 0.), description='darkest and brightest exposure of the others, uniform')
    full_well: _Positives = Field((1000., 40000.), description='electrons at white, log-uniform: shot noise')
    read_noise: _NonNegatives = Field((0., 6.), description='electrons of the read-out, uniform')
    white_balance: NonNegative = Field(0.03, description='standard deviation of the log gain of a channel, per stop')


class GammaAugs(BaseModel):
    """Inputs in [0, 1] that are raised to a power, below 1 lighter; ground truths stay (CIDNet)."""
    model_config = ConfigDict(extra='forbid')

    probability: Fraction = Field(1., description='share of the batches or samples whose inputs are raised')
    gamma: _Positives = Field((0.6, 1.2), description='smallest and largest power, uniform')
    step: Positive = Field(0.01, description='of the powers, from the smallest on')
    per: Literal['batch', 'sample'] = Field('batch', description='one power for all inputs of a batch, or for each')


# options say less than callers from Python may
AxisOrder = Annotated[Literal['HWC', 'CHW'],
                      BeforeValidator(_of_files),
                      WithJsonSchema({'const': 'HWC'})]  # of an array that holds an image
Reduction = Annotated[Literal['none', 'mean', 'sum'],
                      BeforeValidator(_scalar),
                      WithJsonSchema({'enum': ['mean', 'sum']})]  # of a loss per pixel

# any spelling of a task is accepted; editors are told the usual ones
_SPELLINGS = sorted({spelling for name in spellings(ALL_IN_ONE) for spelling in (name, name.lower())})
TaskName = Annotated[str, AfterValidator(_known_task), WithJsonSchema({'enum': _SPELLINGS})]
TaskNames = Annotated[list[TaskName], MinLen(1)]
_SUBSETS = ('all', 'single', 'double', 'triple', *CDD11)
CDD11Subset = Annotated[str, AfterValidator(_known_subset), WithJsonSchema({'enum': list(_SUBSETS)})]

# by name, as annotations spell them
KNOWN: dict[str, Any] = {
    'Natural': Natural, 'Count': Count, 'Finite': Finite, 'NonNegative': NonNegative, 'Positive': Positive,
    'Quality': Quality, 'Fraction': Fraction, 'BelowOne': BelowOne, 'AboveOne': AboveOne, 'Naturals3': Naturals3,
    'Naturals4': Naturals4, 'Counts3': Counts3, 'Counts4': Counts4, 'Size': Size, 'FilePath': FilePath, 'Slice': Slice,
    'AxisOrder': AxisOrder, 'Reduction': Reduction, 'TaskName': TaskName, 'TaskNames': TaskNames,
    'CDD11Subset': CDD11Subset, 'ExposureAugs': ExposureAugs, 'GammaAugs': GammaAugs
}
