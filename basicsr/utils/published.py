"""`pretrained_weights/published.json`: weights of others by name, what is known of them, and what is claimed."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from basicsr.utils.errors import UserError
from basicsr.utils.fetching.addresses import read_address

FILE = 'published.json'
_Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True)


class Claim(_Part):
    """Figures of a test set, by name of the metric. by: whose they are. protocol: what was done to measure them."""
    data: _Text
    figures: dict[str, float] = Field(min_length=1)
    by: _Text
    protocol: _Text


class Licence(_Part):
    """As its owners state it. non_commercial: the weights may not be used to earn money."""
    code: _Text
    weights: _Text
    non_commercial: bool = False


class ByHand(_Part):
    """What no program can get. file: its name there. where: the page, and who has put it there."""
    file: _Text
    where: _Text


class Published(_Part):
    """Weights of others.

    Attributes:
        network: registered name. arguments: of its constructor; None: the shapes of the weights tell.
        address: where it is fetched, as `read_address` takes it; None where it has to be got by hand.
        by_hand: how, where nothing else is known.
        sha256: of the file, or its first and last eight digits around '…' where no more is known; None: not known.
        trained_on: data. claimed: figures of others. measured: by us; None: not measured by us. note: what else to know.
    """
    network: _Text
    arguments: dict[str, Any] | None = None
    address: str | None = None
    by_hand: ByHand | None = None
    bytes: Annotated[int, Gt(0)] | None = None
    sha256: Annotated[str, Field(pattern='^[0-9a-f]{64}$|^[0-9a-f]{8}…[0-9a-f]{8}$')] | None = None
    licence: Licence
    trained_on: _Text
    claimed: tuple[Claim, ...] = ()
    measured: Claim | None = None
    note: str = ''

    @field_validator('address')
    @classmethod
    def _leads_somewhere(cls, address: str | None) -> str | None:
        try:
            return address if address is None else str(read_address(address))
        except UserError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode='after')
    def _is_somewhere(self) -> Published:
        if (self.address is None) == (self.by_hand is None):
            raise ValueError('give either address or by_hand')
        return self


class _Table(_Part):
    weights: dict[Annotated[str, Field(pattern='^[a-z0-9][a-z0-9_]*$')], Published]


def read_published(where: Path) -> dict[str, Published]:
    """The rows of the folder's file by name; none where there is no file. Raises `UserError` when it is damaged."""
    file = where / FILE
    if not file.is_file():
        return {}
    try:
        return _Table.model_validate(json.loads(file.read_text(encoding='utf-8'))).weights
    except (ValueError, ValidationError) as error:
        raise UserError(f"'{file}' is damaged; restore it (git checkout, or install again)") from error
