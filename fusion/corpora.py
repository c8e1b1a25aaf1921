"""Annotated corpora: found on this machine, else fetched from their official home, each file checked by SHA-256.

The order is: the folder named by `MEDGRAFT_DATA`, else `../shared/data`, else what an earlier download left in the
user's cache, else a download where the caller allows it.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from loaders import Document, MedgraftError, read_gsc, read_pubtator
from loaders.folders import cache_folder
from loaders.lines import open_bytes, reading

DATA_VARIABLE = "MEDGRAFT_DATA"


@dataclass(frozen=True)
class Corpus:
    """Documents by split. `silver` marks labels that no person made."""

    name: str
    train: tuple[Document, ...]
    dev: tuple[Document, ...]
    test: tuple[Document, ...]
    silver: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """The types of mentions in the training part, sorted."""
        return tuple(sorted({m.type for document in self.train for m in document.mentions}))

    def digest(self) -> str:
        """SHA-256 of all documents with their labels, so that two corpora of one name can be told apart."""
        return hashlib.sha256(repr((self.train, self.dev, self.test)).encode()).hexdigest()


@dataclass(frozen=True)
class Home:
    """Where a corpus lives in the data folder and on the net: archive, and per file its member and SHA-256."""

    folder: str
    archive: str
    files: dict[str, tuple[str, str]]


_PUBMEDQA = "1cbae8e92f72f20c8d3747cbb3bf5bc53554d997"
_COVID_QA = "471a9d888160b9e5c33f8e42e2a34c1eb4866766"

HOMES = {
    "bc5cdr": Home(
        "text/bc5cdr",
        "https://ftp.ncbi.nlm.nih.gov/pub/lu/BC5CDR/CDR_Data.zip",
        {
            f"CDR_{part}Set.PubTator.txt": (f"CDR_Data/CDR.Corpus.v010516/CDR_{part}Set.PubTator.txt", digest)
            for part, digest in {
                "Training": "7afcec134e3d4871e74b0398d92850d3c9ac94c0bdc780003f2d60184c012bd8",
                "Development": "9e18d8e700168887a7919e62f67ac2ce2357e3f409a48ee992906abdd80fe3e5",
                "Test": "a3c48d5f35bdfce20c2371778abedc9fd24d1da092207072e5181ad53c8d0e2f",
            }.items()
        },
    ),
    "gsc_plus": Home(
        "text/gsc_plus",
        "https://github.com/ncbi-nlp/PhenoTagger/raw/050b61c6d4dbf66ee1f78bbb551f0f919c90366b/data/corpus.zip",
        {
            f"GSCplus_{part}_gold.tsv": (f"corpus/GSC/GSCplus_{part}_gold.tsv", digest)
            for part, digest in {
                "dev": "56c27102efe209a8f75dd4eee1d65dae5d141860f8aa728c75501b6deac1ab96",
                "test": "5e220a14b8a1a2d811f28c7a3cf813be16e7e21b17afe6f19f0f1e159967104e",
            }.items()
        },
    ),
    "pubmedqa": Home(
        "text/pubmedqa",
        f"https://github.com/pubmedqa/pubmedqa/archive/{_PUBMEDQA}.zip",
        {
            file: (f"pubmedqa-{_PUBMEDQA}/data/{file}", digest)
            for file, digest in {
                "ori_pqal.json": "8b3276be8942ebbd77f3ddcda12c1749bf0e490045a736fd8438ee40cf37a41d",
                "test_ground_truth.json": "939fe566f09017d13b1ca64d2ddfee0bc2374b366048152997669cccedc44d51",
            }.items()
        },
    ),
    "covid_qa": Home(
        "text/covid_qa",
        f"https://github.com/deepset-ai/COVID-QA/archive/{_COVID_QA}.zip",
        {
            "200423_covidQA.json": (
                f"COVID-QA-{_COVID_QA}/data/question-answering/200423_covidQA.json",
                "ab310b4e39f726e087c8fa3d1787c73771dacddc584977204ebe3cc889ee1264",
            )
        },
    ),
    "medical_abstracts": Home(
        "text/medical_abstracts",
        "https://github.com/sebischair/Medical-Abstracts-TC-Corpus",
        {
            "medical_tc_test.csv": ("", "1eecea73c9ecad292c55e10403bd139fab9580545d6878482997c5564d51ac05"),
            "medical_tc_labels.csv": ("", "8a27ae03339c798103678efa8012f744a723ff71a80f2b2c1355ee249564adc5"),
        },
    ),
    "mts_dialog": Home(
        "text/mts_dialog",
        "https://github.com/abachaa/MTS-Dialog",
        {
            f"MTS-Dialog-{part}.csv": ("", digest)
            for part, digest in {
                "TrainingSet": "65a28681dd59fc159681ea026e44610f2af7bc64a0e7f892d763eb03d9f503dc",
                "ValidationSet": "227206520c4534381c0d7fba6d3f09319a9af5a6d9603a93c0341af1198e3958",
                "TestSet-1-MEDIQA-Chat-2023": "b4d38dd2c99b2e9860099abcf653f1e0f3e9b69f9fcc45be2a2699b37a4d2f37",
                "TestSet-2-MEDIQA-Sum-2023": "226644466ed3af82382b327a3e684aab70aa605b96cfd93b04f584f1826ab1a6",
            }.items()
        },
    ),
}


def find_corpus(name: str, *, download: bool = False) -> Path | None:
    """The folder that holds the corpus, every file checked; None if it is nowhere and may not be downloaded.

    A file may lie there packed as `<name>.gz`.

    Raises:
        MedgraftError: another name, a file that differs from the published one, or a download that fails.
    """
    home = HOMES.get(name)
    if home is None:
        raise MedgraftError(f"unknown corpus {name!r}; choose {', '.join(HOMES)}")
    for root in _roots():
        folder = root / home.folder
        if all(packed_or_not(folder / file).is_file() for file in home.files):
            return _checked(folder, home)
    return _checked(_download(name, home), home) if download else None


def load_corpus(name: str, *, download: bool = False) -> Corpus | None:
    """BC5CDR (`bc5cdr`) or GSC+ (`gsc_plus`, which has no training part); None where `find_corpus` finds none.

    Corpora of questions come from `fusion.load_questions`, labelled texts from `fusion.load_labelled`.

    Raises:
        MedgraftError: another name, a file that differs from the published one, or a download that fails.
    """
    if name in ("pubmedqa", "covid_qa"):
        raise MedgraftError(f"{name} is a corpus of questions; load it with fusion.load_questions")
    if name in ("medical_abstracts", "mts_dialog"):
        raise MedgraftError(f"{name} is a corpus of labelled texts; load it with fusion.load_labelled")
    folder = find_corpus(name, download=download)
    if folder is None:
        return None
    if name == "gsc_plus":
        dev, test = (tuple(read_gsc(folder / f"GSCplus_{part}_gold.tsv")) for part in ("dev", "test"))
        return Corpus(name, (), dev, test)
    parts = ("Training", "Development", "Test")
    train, dev, test = (tuple(read_pubtator(folder / f"CDR_{part}Set.PubTator.txt")) for part in parts)
    return Corpus(name, train, dev, test)


def packed_or_not(path: Path) -> Path:
    """The file itself, or `<name>.gz` if only that is there."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.is_file() else path


def where_to_put(name: str) -> str:
    """One sentence that tells the user how to provide a corpus."""
    return (
        f"{name} was found neither in ${DATA_VARIABLE} nor in {_shared()}; set {DATA_VARIABLE} to a folder with "
        f"{HOMES[name].folder}/, or allow the download with --download"
    )


def _roots() -> list[Path]:
    named = os.environ.get(DATA_VARIABLE)
    return [Path(named) if named else _shared(), cache_folder()]


def _shared() -> Path:
    """Beside the checkout of the project."""
    return Path(__file__).resolve().parents[2] / "shared" / "data"


def _checked(folder: Path, home: Home) -> Path:
    for file, (_, digest) in home.files.items():
        path = packed_or_not(folder / file)
        with open_bytes(path) as content, reading(path):
            found = hashlib.sha256(content.read()).hexdigest()
        if found != digest:
            raise MedgraftError(
                f"{path} has SHA-256 {found[:12]}..., the published file {digest[:12]}...; remove it and fetch it again"
            )
    return folder


def _download(name: str, home: Home) -> Path:
    """Fetch the archive and unpack the corpus's files alone into the cache."""
    import logging

    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    folder = cache_folder() / home.folder
    if not home.archive.endswith(".zip"):
        raise MedgraftError(
            f"{name} has no archive to download; put {', '.join(home.files)} from {home.archive} into "
            f"{home.folder}/ of a folder and set {DATA_VARIABLE} to it"
        )
    members = [member for member, _ in home.files.values()]
    try:
        paths = pooch.retrieve(
            home.archive,
            known_hash=None,  # the files are checked one by one: an archive may be packed anew
            path=cache_folder() / "archives",
            fname=f"{name}.zip",
            processor=pooch.Unzip(members=members),
            progressbar=True,
        )
    except (requests.RequestException, OSError, ValueError) as error:
        raise MedgraftError(
            f"cannot download {name} from {home.archive} ({type(error).__name__}); "
            f"put {home.folder}/ into a folder and set {DATA_VARIABLE} to it"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    for path in map(Path, paths):
        path.replace(folder / path.name)
    return folder
