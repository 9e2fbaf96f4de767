"""Builds the validators of all models before a signal may interrupt that."""

from __future__ import annotations

from pydantic import BaseModel


def build() -> None:
    """Build the validators of all models that are imported so far; some 15 ms.

    Pydantic builds them at first use. It swallows an exception that a signal's handler raises meanwhile and
    keeps a validator that refuses every value, so that the results of an interrupted run were lost.
    """
    models = list(BaseModel.__subclasses__())
    for model_class in models:
        models += model_class.__subclasses__()
        if model_class.__module__.startswith("harness."):
            model_class.model_rebuild()
