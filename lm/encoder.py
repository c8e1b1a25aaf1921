"""Load a BERT-type encoder with its tokenizer; text to hidden states, whole or in two halves.

The only module that knows transformers. The encoder is wrapped, never copied: what has to happen between two blocks
(knowledge fusion, caching, explanation) happens in hooks on the blocks of the Hugging Face model itself.
"""

import copy
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging as _hf_logging

from loaders.errors import MedgraftError

_SURROGATES = re.compile("[\ud800-\udfff]")

LOWER_STATES = "lower_states"
"""Entry of a batch, (B, T, d): what the frozen blocks make of it, see `lm.caching`."""

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Array = npt.NDArray[Any]

Change = Callable[[Tensor], Tensor]
"""Hidden states (B, T, d) in, hidden states (B, T, d) out."""


@dataclass(frozen=True, slots=True)
class BlockState:
    """What the blocks above `after_block` need: the hidden states below them and their further arguments.

    All blocks of one model take the same further arguments (mask, positions), so a state made at one depth serves at
    any other: to go on from cached hidden states, take `replace(encoder.lower(batch, 0), after_block=k)`, which runs
    the embedding layer only, and hand the cached states to `upper`.
    """

    hidden: Tensor
    """(B, T, d)"""
    after_block: int
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def rows(self, which: Tensor) -> "BlockState":
        """The state of these rows (N,) of the batch alone."""

        def chosen(value: Any) -> Any:
            per_row = isinstance(value, Tensor) and value.dim() and len(value) == len(self.hidden)
            return value[which] if per_row else value

        keywords = {name: chosen(value) for name, value in self.keywords.items()}
        return BlockState(self.hidden[which], self.after_block, tuple(map(chosen, self.arguments)), keywords)


class Encoder(nn.Module):
    """A Hugging Face encoder of the BERT, RoBERTa, ELECTRA or DistilBERT shape, with its tokenizer.

    The shape: one stack of transformer blocks whose last output is the output of the model.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model: Any = model
        self._take_tokenizer(tokenizer)
        self._blocks_name = _find_blocks(model)
        self._frozen = 0
        self.eval()

    def _take_tokenizer(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.prefix_ids, self.suffix_ids = _frame(tokenizer)

    @classmethod
    def load(cls, name_or_folder: str | Path, *, download: bool = False) -> "Encoder":
        """Load from a Hugging Face model folder, or by name from the local Hugging Face cache.

        Weights are read from safetensors only, in float32. Nothing is fetched unless `download` is set.

        Raises:
            MedgraftError: the folder misses a file, the name is not in the cache, weights are missing or in another
                format, or the architecture is not of a supported shape.
        """
        name = str(name_or_folder)
        if Path(name).is_dir():
            _check_folder(Path(name))
        with _quiet():
            try:
                return cls(*_from_pretrained(name, local_only=Path(name).is_dir() or not download))
            except (OSError, ValueError, KeyError, ImportError) as error:
                raise MedgraftError(_why_not(name, error)) from error

    @classmethod
    def new(
        cls,
        texts: Iterable[str],
        *,
        vocabulary: int = 8000,
        hidden_size: int = 256,
        num_blocks: int = 4,
        num_heads: int = 4,
        max_pieces: int = 512,
        seed: int = 0,
    ) -> "Encoder":
        """A BERT encoder with random weights, and a word-piece tokenizer in lower case that is trained on the texts.

        Args:
            texts: read once, as a stream.
            vocabulary: word pieces at most.
            hidden_size: width; the inner layers are four times as wide.
            num_blocks: transformer blocks.
            num_heads: attention heads, a divisor of the width.
            max_pieces: longest input.
            seed: of the weights.

        Raises:
            MedgraftError: no text, or a width that the heads do not divide.
        """
        if hidden_size % num_heads:
            raise MedgraftError(f"{num_heads} heads do not divide a width of {hidden_size}; change one of them")
        tokenizer = _trained_tokenizer(texts, vocabulary, max_pieces)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=hidden_size, num_hidden_layers=num_blocks,
            num_attention_heads=num_heads, intermediate_size=4 * hidden_size, max_position_embeddings=max_pieces,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls(BertModel(config, add_pooling_layer=False), tokenizer)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks of the wrapped model, lowest first."""
        # By name, not as a second attribute: every parameter must be registered once.
        blocks: nn.ModuleList = self.model.get_submodule(self._blocks_name)
        return blocks

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def num_blocks(self) -> int:
        return len(self.blocks)

    @property
    def max_pieces(self) -> int:
        """Longest input in pieces, special ones included: what the position table and the tokenizer both allow."""
        positions = next(m for n, m in self.model.named_modules() if n.endswith("position_embeddings"))
        # RoBERTa numbers its positions from padding_idx + 1.
        usable = positions.num_embeddings - (0 if positions.padding_idx is None else positions.padding_idx + 1)
        return min(int(usable), int(self.tokenizer.model_max_length))

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def forward(self, batch: dict[str, Tensor], after_block: int | None = None, change: Change | None = None) -> Tensor:
        """Hidden states (B, T, d) of the last block for `input_ids` and `attention_mask`, both (B, T).

        With `after_block=k` and `change=f`, the hidden states after k blocks have run are replaced by `f(hidden)`
        before block k + 1 sees them; k runs from 1 to `num_blocks`. `f` runs once, gradient checkpointing or not.
        A batch that has the states of the frozen blocks goes on from there.
        """
        if LOWER_STATES in batch:
            return self._from_lower_states(batch, after_block, change)
        if change is None or after_block is None:
            return self._run(batch)
        self._check_depth(after_block, lowest=1)
        handle = self.blocks[after_block - 1].register_forward_hook(lambda _module, _inputs, hidden: change(hidden))
        try:
            return self._run(batch)
        finally:
            handle.remove()

    def _from_lower_states(self, batch: dict[str, Tensor], after_block: int | None, change: Change | None) -> Tensor:
        state = replace(self.lower(batch, 0), after_block=self._frozen)
        hidden = batch[LOWER_STATES]
        if change is None or after_block is None:
            return self.upper(state, hidden)
        self._check_depth(after_block, lowest=max(self._frozen, 1))
        for block in self.blocks[self._frozen : after_block]:
            hidden = block(hidden, *state.arguments, **state.keywords)
        return self.upper(replace(state, after_block=after_block), change(hidden))

    def lower(self, batch: dict[str, Tensor], after_block: int) -> BlockState:
        """Run the embedding layer and the first `after_block` blocks only (0 to `num_blocks`)."""
        self._check_depth(after_block, lowest=0)
        at_end = after_block == self.num_blocks

        def stop(_module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], *output: Tensor) -> None:
            hidden, *others = arguments
            raise _Stop(BlockState(output[0] if at_end else hidden, after_block, tuple(others), keywords))

        if at_end:
            handle = self.blocks[-1].register_forward_hook(stop, with_kwargs=True)
        else:
            handle = self.blocks[after_block].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self._run(batch)
        except _Stop as stopped:
            return stopped.state
        finally:
            handle.remove()
        raise AssertionError("the model returned without passing its own blocks")

    def upper(self, state: BlockState, hidden: Tensor) -> Tensor:
        """Run the blocks above `state.after_block` on `hidden` (B, T, d) and give the last hidden states (B, T, d)."""
        for block in self.blocks[state.after_block :]:
            hidden = block(hidden, *state.arguments, **state.keywords)
        return hidden

    def digest(self, after_block: int) -> str:
        """SHA-256 of the tokenizer and of all weights up to that block: what `lower` depends on."""
        self._check_depth(after_block, lowest=0)
        above = tuple(f"{self._blocks_name}.{n}." for n in range(after_block, self.num_blocks))
        total = hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            if not name.startswith((*above, "pooler.")):
                total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    def pieces(self, texts: Sequence[str]) -> list[tuple[Array, Array]]:
        """Input ids (N,) and character offsets (N, 2) of each text, without special pieces, never truncated.

        A special piece spelt out in a text ("[SEP]", "</s>") is read as plain text.
        """
        if not texts:
            return []
        # A lone surrogate cannot be encoded; its stand-in has the same length, so that offsets stay true.
        found = self.tokenizer(
            [_SURROGATES.sub("\ufffd", text) for text in texts],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            truncation=False,
            split_special_tokens=True,
            verbose=False,
        )
        return [
            (np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int32).reshape(-1, 2))
            for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)
        ]

    @property
    def frozen_blocks(self) -> int:
        """How many of the lowest blocks are not trained."""
        return self._frozen

    def freeze_blocks(self, count: int) -> None:
        """Train only the blocks above the first `count`, and not the embedding layer; 0 makes everything trainable.

        Frozen parts also run without dropout, so that their output can be cached without changing the training.
        """
        self._check_depth(count, lowest=0)
        self._frozen = count
        self.model.requires_grad_(count == 0)
        if count:
            self.blocks[count:].requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        if self._frozen and mode:
            self.model.train(False)
            for block in self.blocks[self._frozen :]:
                block.train(True)
        return self

    def set_attention_dropout(self, share: float) -> None:
        """Drop this share of the attention weights in training, whatever the encoder's config says.

        On a CPU any share above zero doubles the time that a block takes in training, because attention is then
        computed step by step and a random number drawn for each pair of pieces.
        """
        for module in self.blocks.modules():
            if type(module).__name__.endswith("SelfAttention"):
                module.get_submodule("dropout").p = share  # type: ignore[assignment]

    def shallower(self, count: int) -> "Encoder":
        """A copy with `count` of the blocks, evenly spaced, the top one among them: 2, 4 and 6 for three of six.

        Raises:
            MedgraftError: no block, or more than there are.
        """
        self._check_depth(count, lowest=1)
        model: Any = copy.deepcopy(self.model)
        kept = [self.num_blocks * (n + 1) // count - 1 for n in range(count)]
        blocks = model.get_submodule(self._blocks_name)
        model.set_submodule(self._blocks_name, nn.ModuleList(blocks[n] for n in kept))
        model.config.num_hidden_layers = count
        model.requires_grad_(True)
        return Encoder(model, self.tokenizer)

    def checkpoint_gradients(self, on: bool = True) -> None:
        """Trade time for memory: keep only each block's input for the backward pass and recompute the rest."""
        if on:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        else:
            self.model.activation_checkpointing_disable()

    def save(self, folder: str | Path) -> None:
        """Write a Hugging Face model folder: config, safetensors weights, tokenizer."""
        with _quiet():
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def _run(self, batch: dict[str, Tensor]) -> Tensor:
        output = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _check_depth(self, depth: int, lowest: int) -> None:
        if not lowest <= depth <= self.num_blocks:
            raise MedgraftError(
                f"the encoder has {self.num_blocks} blocks; give a depth from {lowest} to that, not {depth}"
            )


class _Stop(Exception):
    """Leaves the model's forward pass once the lower blocks have run."""

    def __init__(self, state: BlockState) -> None:
        super().__init__()
        self.state = state


def freeze_blocks(encoder: Encoder, count: int) -> None:
    """Train only the blocks of `encoder` above the first `count`; see `Encoder.freeze_blocks`."""
    encoder.freeze_blocks(count)


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a model folder, which may lack the weights.

    Raises:
        MedgraftError: it is missing.
    """
    if not (Path(folder) / "tokenizer.json").is_file():
        raise MedgraftError(f"{folder} lacks tokenizer.json; copy the whole model folder, or export it again")
    with _quiet():
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=True)


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first present of cuda, mps, cpu."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    kind = name.partition(":")[0]
    if kind not in present:
        raise MedgraftError(f"unknown device {name!r}; choose auto, cuda, mps or cpu")
    if not present[kind]:
        raise MedgraftError(f"no {kind} device on this machine; choose --device auto or cpu")
    return torch.device(name)


def _from_pretrained(name: str, local_only: bool) -> tuple[nn.Module, Any]:
    config = AutoConfig.from_pretrained(name, local_files_only=local_only)
    if type(config) not in AutoModel._model_mapping:
        raise ValueError(f"no encoder of type {config.model_type!r}")
    model_class: Any = AutoModel._model_mapping[type(config)]
    pooling = inspect.signature(model_class).parameters.get("add_pooling_layer")
    model, report = model_class.from_pretrained(
        name,
        config=config,
        local_files_only=local_only,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        **({} if pooling is None else {"add_pooling_layer": False}),
    )
    # Absent weights would be drawn at random without a word.
    if report["missing_keys"]:
        raise ValueError(f"the weights lack {sorted(report['missing_keys'])[0]}, so they belong to another model")
    return model, AutoTokenizer.from_pretrained(name, local_files_only=local_only, use_fast=True)


def _trained_tokenizer(texts: Iterable[str], vocabulary: int, max_pieces: int) -> Any:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() <= len(special):
        raise MedgraftError("there is no text to train a vocabulary on; check the files")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=max_pieces,
    )  # fmt: skip


def _find_blocks(model: nn.Module) -> str:
    """Name of the stack of transformer blocks, checked to be the last thing that the model runs."""
    config: Any = model.config
    count = getattr(config, "num_hidden_layers", None)
    stacks = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count)
    outputs: list[Any] = []
    for name, blocks in stacks:
        handle = blocks[-1].register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        was_training = model.training
        try:
            one_piece = torch.zeros((1, 1), dtype=torch.long, device=next(model.parameters()).device)
            with torch.no_grad():
                result = model.eval()(input_ids=one_piece, attention_mask=one_piece + 1)
        finally:
            handle.remove()
            model.train(was_training)
        if len(outputs) == 1 and outputs[0] is result.last_hidden_state:
            return name
    raise MedgraftError(
        f"an encoder of type {config.model_type!r} does not end in a plain stack of transformer blocks; "
        "use one of the BERT, RoBERTa, ELECTRA or DistilBERT family"
    )


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special pieces that go before and after a text."""
    if not tokenizer.is_fast:
        raise MedgraftError("this tokenizer gives no character offsets; add a tokenizer.json to the model folder")
    bare, framed = tokenizer("a", add_special_tokens=False).input_ids, tokenizer("a").input_ids
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    raise MedgraftError("this tokenizer changes a text when it adds special pieces; choose another encoder")


def _check_folder(folder: Path) -> None:
    wanted = (
        ("config.json",),
        ("model.safetensors", "model.safetensors.index.json"),
        ("tokenizer.json", "vocab.txt", "vocab.json"),
    )
    for names in wanted:
        if not any((folder / name).is_file() for name in names):
            hint = ""
            if names[0] == "model.safetensors" and (folder / "pytorch_model.bin").is_file():
                hint = " (pickled weights are not read: convert them to safetensors)"
            raise MedgraftError(f"{folder} lacks {names[0]}{hint}; give the folder of a Hugging Face encoder")


def _why_not(name: str, error: Exception) -> str:
    if Path(name).is_dir() or "/" in name and Path(name).is_absolute():
        cause = str(error).strip().split("\n")[0] if Path(name).is_dir() else "no such folder"
        return f"cannot load an encoder from {name}: {cause}; give the folder of a Hugging Face encoder"
    return (
        f"cannot load the encoder {name!r}: no such folder, and not complete in the local Hugging Face cache; "
        "give a model folder, or fetch it once with Encoder.load(name, download=True)"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' loading bars and reports: what matters of them is checked here."""
    hf_logging: Any = _hf_logging
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
