"""An encoder as one ONNX file that onnxruntime runs without torch's kernels, in float32 or with int8 weights.

int8 is dynamic quantisation: weights of the linear layers are stored as int8, a scale for each output, and what meets
them is scaled when it comes. torch's own (`torch.ao.quantization`) is deprecated, and what it makes is no plain tensor.
The only module that knows onnx and onnxruntime, optional dependencies.
"""

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from lm.encoder import Change, Encoder, load_tokenizer
from loaders.errors import MedgraftError

FILE = "model.onnx"
_OPSET = 23
"""The first with attention as one operator: a third faster than its parts for 256 pieces."""
_QUANTISED = ("MatMul", "Gemm", "Gather")  # not "Attention", which is another operator to the quantiser
_INSTALL = "install it with: pip install 'medgraft[onnx]'"


class OnnxEncoder(Encoder):
    """An encoder that onnxruntime runs on the CPU. It says hidden states like any other, but cannot be trained."""

    def __init__(self, file: Path, tokenizer: Any) -> None:
        # Not the constructor of `Encoder`, which looks for the blocks of a torch model.
        nn.Module.__init__(self)
        try:
            import onnxruntime
        except ImportError:
            raise MedgraftError(f"{file} needs onnxruntime; {_INSTALL}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common class
            raise MedgraftError(f"{file} is no model that onnxruntime can run; export it again") from error
        facts = self.session.get_modelmeta().custom_metadata_map
        if not {"hidden_size", "max_pieces"} <= facts.keys():
            raise MedgraftError(f"{file} was not made by medgraft export-model; export it again")
        self._file, self._facts, self._frozen = file, facts, 0
        self._take_tokenizer(tokenizer)
        self.eval()

    @classmethod
    def read(cls, folder: str | Path) -> "OnnxEncoder":
        """From a folder with `model.onnx` and a tokenizer.

        Raises:
            MedgraftError: onnxruntime is not installed, or cannot run the file, or the tokenizer is missing.
        """
        return cls(Path(folder) / FILE, load_tokenizer(folder))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def blocks(self) -> nn.ModuleList:
        raise MedgraftError("an exported encoder cannot be trained or taken apart; use the model it was exported from")

    @property
    def hidden_size(self) -> int:
        return int(self._facts["hidden_size"])

    @property
    def max_pieces(self) -> int:
        return int(self._facts["max_pieces"])

    def forward(self, batch: dict[str, Tensor], after_block: int | None = None, change: Change | None = None) -> Tensor:
        given = {name: batch[name].cpu().numpy() for name in ("input_ids", "attention_mask")}
        (hidden,) = self.session.run(None, given)
        return torch.from_numpy(hidden).to(batch["input_ids"].device)

    def save(self, folder: str | Path) -> None:
        self.tokenizer.save_pretrained(folder)
        shutil.copyfile(self._file, Path(folder) / FILE)


def export_onnx(encoder: Encoder, folder: str | Path, *, int8: bool = False) -> OnnxEncoder:
    """Write `model.onnx` and the tokenizer into a folder that is there, and read them back.

    Raises:
        MedgraftError: onnx is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MedgraftError(f"export needs {error.name}; {_INSTALL}") from None
    facts = {"hidden_size": encoder.hidden_size, "max_pieces": encoder.max_pieces, "int8": int8}
    pieces = torch.full((2, 8), encoder.pad_id)
    example = (pieces, torch.ones_like(pieces))
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("pieces", min=2, max=encoder.max_pieces)}
    with TemporaryDirectory() as work, _quiet():
        whole, small = Path(work) / FILE, Path(work) / "int8.onnx"
        torch.onnx.export(
            _Bare(encoder.model).eval(), example, whole, input_names=["input_ids", "attention_mask"],
            output_names=["hidden"], dynamic_shapes=(sizes, sizes), dynamo=True, opset_version=_OPSET,
            external_data=False, verbose=False,
        )  # fmt: skip
        if int8:
            # Seven bits: processors without VNNI add up pairs of products in 16 bits, which eight bits overflow.
            quantize_dynamic(
                whole, small, list(_QUANTISED), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
            )
        model = onnx.load(small if int8 else whole)
        onnx.helper.set_model_props(model, {name: str(value) for name, value in facts.items()})
        onnx.save(model, Path(folder) / FILE)
    encoder.tokenizer.save_pretrained(folder)
    return OnnxEncoder.read(folder)


class _Bare(nn.Module):
    """Tensors in, hidden states out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of themselves."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
