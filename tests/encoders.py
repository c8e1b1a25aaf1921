"""Random encoders of two blocks and width 32, one for each supported shape, written to a folder without a download."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from lm.encoder import Encoder

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SENTENCES = [
    "Famotidine-associated delirium. A series of six cases.",
    "The boy had absence seizures after β-blocker treatment (5-HT, Ca2+).",
    "Naïve patients with nausea, vomiting and renal failure took aspirin or warfarin.",
]
SHAPES = ("bert", "roberta", "electra", "distilbert")


def _wordpiece() -> PreTrainedTokenizerFast:
    alphabet = sorted(
        {c for s in SENTENCES for c in s.lower() if not c.isspace()} | set("abcdefghijklmnopqrstuvwxyz0123456789")
    )
    words = ["aspirin", "war", "##farin", "seizure", "nausea", "the", "of", "dro", "##wsi", "##ness", "patients"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *alphabet, *(f"##{c}" for c in alphabet), *words]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=128,
    )  # fmt: skip


def _byte_level() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: a piece takes the space before it, and its offsets too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>",
        mask_token="<mask>", model_max_length=128,
    )  # fmt: skip


def _model(shape: str, vocab_size: int) -> torch.nn.Module:
    sizes = {"vocab_size": vocab_size, "max_position_embeddings": 128}
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if shape == "bert":
        return BertModel(BertConfig(**sizes, **wide))
    if shape == "roberta":
        return RobertaModel(RobertaConfig(**sizes | {"max_position_embeddings": 130}, **wide, pad_token_id=1))
    if shape == "electra":
        return ElectraModel(ElectraConfig(**sizes, **wide, embedding_size=16))
    return DistilBertModel(DistilBertConfig(**sizes, dim=32, n_layers=2, n_heads=2, hidden_dim=64))


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a saved random encoder of the shape."""
    made: dict[str, Path] = {}

    def folder(shape: str = "bert") -> Path:
        if shape not in made:
            tokenizer = _byte_level() if shape == "roberta" else _wordpiece()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = _model(shape, len(tokenizer))
            made[shape] = tmp_path_factory.mktemp(shape)
            model.save_pretrained(made[shape])  # type: ignore[operator]
            tokenizer.save_pretrained(made[shape])
        return made[shape]

    return folder


@pytest.fixture
def encoder(encoder_folder: Callable[[str], Path]) -> Encoder:
    return Encoder.load(encoder_folder("bert"))


@pytest.fixture(params=SHAPES)
def any_encoder(request: pytest.FixtureRequest, encoder_folder: Callable[[str], Path]) -> Encoder:
    return Encoder.load(encoder_folder(request.param))
