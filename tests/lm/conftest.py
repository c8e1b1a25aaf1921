"""The encoders of `tests/encoders.py` as fixtures."""

from tests.encoders import any_encoder, encoder, encoder_folder

__all__ = ["any_encoder", "encoder", "encoder_folder"]
