"""Types that groups of settings share."""

from typing import Annotated, Literal

from pydantic import Field

Split = Literal["train", "dev", "test"]
LANGUAGE_PATTERN = r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$"
Language = Annotated[str, Field(pattern=LANGUAGE_PATTERN)]
"""A language code as in BCP 47 (`en`, `zh`, `pt-BR`)."""
Sides = Literal["two_sided", "one_sided"]
"""Whether a test asks if two systems differ, or if the first is better than the second."""
Correction = Literal["holm", "bonferroni"]
"""How p-values are corrected for the number of comparisons."""
