"""The tasks, and the one way to make a model of any of them or to load it from its folder."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from fusion.classification import ClassificationModel
from fusion.knowledge import KnowledgeTable
from fusion.memory import Memory
from fusion.model import NAME_ENCODER, FusedEncoder, FusedModel, ModelSettings
from fusion.name_vectors import NameVectors
from fusion.questions import QuestionModel
from fusion.relations import RelationModel
from fusion.tagging import TaggingModel
from kg import Linker
from lm.encoder import Encoder, resolve_device
from lm.exporting import OnnxEncoder
from loaders import read_corpus, read_labelled, read_questions
from loaders.errors import MedgraftError
from loaders.folders import restore_folder

TASKS: dict[str, type[TaggingModel] | type[RelationModel] | type[QuestionModel] | type[ClassificationModel]] = {
    "ner": TaggingModel,
    "relations": RelationModel,
    "qa": QuestionModel,
    "classification": ClassificationModel,
}


def read_items(task: str, path: str | Path) -> list[Any]:
    """What the task is about from a file: annotated documents, questions, or labelled texts."""
    if task not in TASKS:
        raise MedgraftError(f"unknown task {task!r}; choose {' or '.join(TASKS)}")
    readers: dict[str, Callable[[str | Path], Iterable[Any]]] = {"qa": read_questions, "classification": read_labelled}
    return list(readers.get(task, read_corpus)(path))


def make_model(
    encoder: Encoder,
    settings: ModelSettings,
    table: KnowledgeTable | None = None,
    linker: Linker | None = None,
    memory: Memory | None = None,
) -> FusedModel[Any]:
    """An untrained model: fused if there is a table, plain otherwise; with or without a memory.

    Raises:
        MedgraftError: the memory is of another graph than the table, or read by another encoder.
    """
    model = TASKS[settings.task].make(encoder, settings, table, linker)
    if memory is not None:
        memory.check(encoder, "" if table is None else table.fingerprint)
        network: Any = model.network
        if not isinstance(network.encoder, FusedEncoder):
            network.encoder = FusedEncoder(encoder, after_block=settings.after_block)
        network.encoder.add_memory(memory, settings.seed)
        model.memory = memory
    return model


def load(folder: str | Path, device: str = "auto") -> FusedModel[Any]:
    """Load a model folder; needs neither the graph store nor the network.

    Raises:
        MedgraftError: the folder, or a file in it, is missing, or its parts come from different graphs.
    """
    folder = Path(folder)
    restore_folder(folder)
    for name in ("medgraft.json", "medgraft.safetensors"):
        if not (folder / name).is_file():
            raise MedgraftError(f"{folder / name} is missing; give a folder written by 'medgraft train'")
    description = json.loads((folder / "medgraft.json").read_text())
    settings = ModelSettings.read(description["settings"])
    table = linker = None
    if description["fused"]:
        table = KnowledgeTable.load(folder / "knowledge")
        names = folder / NAME_ENCODER
        linker = Linker.load(folder / "linker", vectors=NameVectors(names, device=device) if names.is_dir() else None)
        if linker.fingerprint != table.fingerprint:
            raise MedgraftError(
                f"{folder}: knowledge is of graph {table.fingerprint[:12]}, the linker of {linker.fingerprint[:12]}; "
                "copy both from one training"
            )
    exported = (folder / "model.onnx").is_file()
    encoder = OnnxEncoder.read(folder) if exported else Encoder.load(folder)
    memory = Memory.load(folder / "memory", encoder) if description.get("memory") else None
    model = make_model(encoder, settings, table, linker, memory)
    weights = folder / "medgraft.safetensors"
    try:
        missing, unexpected = model.network.load_state_dict(load_file(weights), strict=False)
    except RuntimeError:  # torch's word for other shapes
        raise MedgraftError(
            f"{weights} has other shapes than its settings say, as of an older version; train anew"
        ) from None
    absent = [name for name in missing if not name.startswith(model.encoder_prefix)]
    if absent or unexpected:
        raise MedgraftError(
            f"{weights} is of another model or an older version ({[*absent, *unexpected][0]}); train anew"
        )
    model.scores, model.training = description["scores"], description["training"]
    model.leaks = description.get("leaks", {})
    model.network.to(resolve_device(device)).eval()
    return model
