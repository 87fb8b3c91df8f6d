"""Types that groups of settings share."""

from typing import Annotated, Literal

from pydantic import Field

Split = Literal["train", "dev", "test"]
LANGUAGE_PATTERN = r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$"
Language = Annotated[str, Field(pattern=LANGUAGE_PATTERN)]
"""A language code as in BCP 47 (`en`, `zh`, `pt-BR`)."""
