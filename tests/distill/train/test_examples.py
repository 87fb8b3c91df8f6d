"""The examples in the docstrings of the losses run, and every public loss has one."""

import doctest
import inspect
from types import ModuleType

import pytest
import torch

from distill.train import losses, margins


@pytest.mark.parametrize("module", [losses, margins])
def test_every_loss_has_an_example_that_runs(module: ModuleType) -> None:
    public = [name for name, value in inspect.getmembers(module, inspect.isfunction)
              if value.__module__ == module.__name__ and not name.startswith("_")]  # fmt: skip
    examples = {
        test.name.removeprefix(f"{module.__name__}."): len(test.examples)
        for test in doctest.DocTestFinder().find(module)
    }
    assert [name for name in public if not examples.get(name)] == []
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0
