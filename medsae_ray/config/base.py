"""What every part of a recipe shares: strict, frozen models whose fields are documented one by one."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LabelPolicy = Literal["ignore", "zero", "one"]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)
