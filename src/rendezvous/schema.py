"""The schema of an input: its fields in order, their kinds and bounds; and names and roles."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
"""Pattern of the names of endpoints, topics and models."""

Role = Literal["production", "canary", "shadow", "backup"]
"""What a model that scores is to its endpoint."""


class InputField(BaseModel):
    """One field of an input.

    Attributes:
        name: Its name in JSON.
        type: ``number`` (an integer will do) or ``integer``; never a bool, nor a text.
        minimum: The least that is allowed.
        maximum: The most that is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    type: Literal["number", "integer"] = "number"
    minimum: float
    maximum: float

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"{self.name}: minimum {self.minimum} is above {self.maximum}")
        return self
