"""pyarrow ships no types, and makes much of itself at run time where a checker cannot see it."""

from typing import Any

def __getattr__(name: str) -> Any: ...
