"""What this machine has of what medgraft can use."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fusion.corpora import HOMES, find_corpus
from loaders.errors import MedgraftError
from loaders.folders import cache_folder

PACKAGES = (
    "medgraft",
    "torch",
    "transformers",
    "accelerate",
    "pykeen",
    "faiss-gpu",
    "faiss-cpu",
    "ladybug",
    "neo4j",
    "spacy",
    "scispacy",
    "numpy",
    "polars",
    "pyarrow",
)


def examine() -> dict[str, object]:
    """Versions, devices, tools and corpora, each with what to do where something is missing."""
    import torch

    found: dict[str, object] = {"python": platform.python_version(), "machine": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found["CPU threads"] = _threads(torch.get_num_threads())
    found["CUDA"] = ", ".join(cards) or "no device: training runs on the CPU"
    found["bfloat16"] = "yes" if cards and torch.cuda.is_bf16_supported() else "on the CPU only"
    for tool in ("java", "mvn"):
        found[tool] = "found" if shutil.which(tool) else "missing: only the Neo4j tests need it"
    for name in HOMES:
        found[f"corpus {name}"] = _corpus(name)
    found["kept"] = _kept(cache_folder())
    return found


def _kept(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{folder}: {size / 1e6:,.0f} MB of what can be made or fetched again; delete it as you like"


def _threads(threads: int) -> str:
    """Threads of a process that wait for one another lose much beside other work: four times where it was measured."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads > 1 and busy > 0.5:
        return f"{threads}; other work runs here (load {busy:.1f}): if it fills the cores, OMP_NUM_THREADS=1 is faster"
    return str(threads)


def _corpus(name: str) -> str:
    try:
        folder = find_corpus(name)
    except MedgraftError as error:
        return str(error)
    return "found" if folder else "not found: set MEDGRAFT_DATA, or let 'medgraft quickstart --download' fetch it"
