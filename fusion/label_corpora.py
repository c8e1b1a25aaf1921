"""Corpora of labelled texts, in splits of which no text is in two parts.

Medical Abstracts: of its test part, the only one that is read, each distinct abstract once; abstracts that stand under
several classes are left out. The split is ours (by a hash, in each class, 60 : 20 : 20), so scores on it compare with
no published ones. MTS-Dialog: the published parts; a training dialogue that is also in another part would be left out.
"""

from fusion.corpora import Corpus, find_corpus, packed_or_not
from fusion.question_corpora import split
from loaders import Document, read_labelled
from loaders.errors import MedgraftError

NAMES = ("medical_abstracts", "mts_dialog", "mts_dialog_2")
_DIALOGUES = {"mts_dialog": "TestSet-1-MEDIQA-Chat-2023", "mts_dialog_2": "TestSet-2-MEDIQA-Sum-2023"}


def load_labelled(name: str, *, download: bool = False) -> Corpus | None:
    """Medical Abstracts (`medical_abstracts`) or MTS-Dialog with its first or second test part (`mts_dialog_2`).

    None where the files are not at hand and may not be downloaded.

    Raises:
        MedgraftError: another name, a file that differs from the published one, or no archive to download.
    """
    if name not in NAMES:
        raise MedgraftError(f"unknown corpus {name!r}; choose {', '.join(NAMES)}")
    folder = find_corpus(name.removesuffix("_2"), download=download)
    if folder is None:
        return None
    if name == "medical_abstracts":
        documents = _of_one_class(list(read_labelled(packed_or_not(folder / "medical_tc_test.csv"))))
        train, dev, test = split(documents, [0.6, 0.2, 0.2], strata=lambda d: d.labels[0].name)
        return Corpus(name, train, dev, test)
    parts = [
        tuple(read_labelled(packed_or_not(folder / f"MTS-Dialog-{part}.csv")))
        for part in ("TrainingSet", "ValidationSet", _DIALOGUES[name])
    ]
    held_out = {d.text for part in parts[1:] for d in part}
    return Corpus(name, tuple(d for d in parts[0] if d.text not in held_out), parts[1], parts[2])


def _of_one_class(documents: list[Document]) -> list[Document]:
    """Each text once, without those that have several labels."""
    labels: dict[str, set[str]] = {}
    for document in documents:
        labels.setdefault(document.text, set()).update(label.name for label in document.labels)
    first = {document.text: document for document in reversed(documents)}
    return [document for document in documents if first[document.text] is document and len(labels[document.text]) == 1]
