"""The encoders of `tests/encoders.py` as fixtures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.encoders import encoder, encoder_folder

__all__ = ["encoder", "encoder_folder"]


@pytest.fixture(scope="module")
def folder(encoder_folder: Callable[[str], Path]) -> Path:
    """A small BERT."""
    return encoder_folder("bert")
