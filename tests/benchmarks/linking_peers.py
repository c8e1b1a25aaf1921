"""Other linkers over the same names, run by an interpreter of their own: `python linking_peers.py PEER INPUT.json`.

It builds, prints a line of JSON with what that took, and then, for each line on stdin, links all texts and prints how
long that took, with the mentions after the first. Nothing of medgraft is imported.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

STOCK_SECONDS = 1800  # of processor time that scispaCy's index may take


def exact(given):
    """Lower-cased names by Aho-Corasick, at word boundaries, the longest first."""
    import ahocorasick

    automaton = ahocorasick.Automaton()
    ids: dict[str, list[str]] = {}
    for concept, name in given["names"]:
        if len(name) > 2:
            ids.setdefault(name.lower(), []).append(concept)
    for name, concepts in ids.items():
        automaton.add_word(name, (len(name), sorted(set(concepts))))
    automaton.make_automaton()

    def link(text):
        lower = text.lower()
        if len(lower) != len(text):
            lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        found = []
        for last, (length, concepts) in automaton.iter(lower):
            start, end = last + 1 - length, last + 1
            bounded = not (start and lower[start - 1].isalnum()) and not (end < len(lower) and lower[end].isalnum())
            if bounded:
                found.append((start, end, concepts[0]))
        return found if given["nested"] else longest(found)

    return link


def lemmas(given):
    """spaCy's PhraseMatcher over lemmas of its look-up tables."""
    import spacy
    from spacy.matcher import PhraseMatcher

    nlp = spacy.blank("en")
    nlp.add_pipe("lemmatizer", config={"mode": "lookup"})
    nlp.initialize()
    matcher = PhraseMatcher(nlp.vocab, attr="LEMMA")
    docs: dict[str, list[object]] = {}
    names = given["names"]
    for (concept, _), doc in zip(names, nlp.pipe(name.lower() for _, name in names), strict=True):
        docs.setdefault(concept, []).append(doc)
    for concept, examples in docs.items():
        matcher.add(concept, examples)

    def link(text):
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        doc = nlp(lower)
        found = []
        for key, start, end in matcher(doc):
            span = doc[start:end]
            found.append((span.start_char, span.end_char, nlp.vocab.strings[key]))
        return found if given["nested"] else longest(found)

    return link


def iamsystem(given):
    """iamsystem over stems."""
    import snowballstemmer
    from iamsystem import Entity, Matcher, english_tokenizer

    stem = snowballstemmer.stemmer("english").stemWord
    tokenizer = english_tokenizer()
    normalize = tokenizer.normalize
    tokenizer.normalize = lambda text: normalize(text)
    plain = tokenizer.tokenize

    def tokenize(text):
        tokens = plain(text)
        for token in tokens:
            object.__setattr__(token, "norm_label", stem(token.norm_label))
        return tokens

    tokenizer.tokenize = tokenize
    stopwords = "a an and of the in on to with by for from".split()
    matcher = Matcher.build(
        keywords=[Entity(name, concept) for concept, name in given["names"]],
        tokenizer=tokenizer,
        stopwords=stopwords,
        remove_nested_annots=not given["nested"],
    )

    def link(text):
        return [(a.start, a.end, keyword.kb_id) for a in matcher.annot_text(text) for keyword in a.keywords[:1]]

    return link


def fasthpocr(given):
    """FastHPOCR with its own index of hp.obo; concepts outside the names are left out by the scores."""
    from FastHPOCR.HPOAnnotator import HPOAnnotator
    from FastHPOCR.IndexHPO import IndexHPO

    folder = Path(given["folder"]) / "fasthpocr"
    if not (folder / "hp.index").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):
            IndexHPO(given["obo"], str(folder)).index()
    annotator = HPOAnnotator(str(folder / "hp.index"))

    def link(text):
        found = annotator.annotate(text, longestMatch=not given["nested"])
        return [(int(a.startOffset), int(a.endOffset), a.hpoUri) for a in found]

    return link


def gilda(given):
    """Gilda with a grounder over the names; sentences are split at full stops (no download)."""
    import re

    import gilda.grounder
    from gilda import make_grounder
    from gilda.ner import annotate
    from gilda.process import normalize
    from gilda.term import Term

    terms = [
        Term(normalize(name), name, concept.split(":")[0], concept, name, "synonym", "graph")
        for concept, name in given["names"]
    ]
    gilda.grounder.load_gilda_models = lambda *_: {}  # its trained disambiguators would be fetched
    grounder = make_grounder(terms)

    def sentences(text):
        bounds = [0, *(m.end() for m in re.finditer(r"[.?!]\s+", text)), len(text)]
        return [(a, b) for a, b in zip(bounds, bounds[1:], strict=False) if a < b]

    def link(text):
        found = annotate(text, grounder=grounder, sent_split_fun=sentences)
        return [(a.start, a.end, a.matches[0].term.id) for a in found if a.matches]

    return link


def quickumls(given):
    """QuickUMLS wants a UMLS installation, spaCy's en_core_web_sm and NLTK's stop words by download."""
    raise RuntimeError("needs spaCy's en_core_web_sm and NLTK data, which it downloads")


def scispacy(given):
    """scispaCy's stock TF-IDF and HNSW index, its guard against scipy switched off: candidates of names.

    Texts are mentions here; of each the ids of its best ten. Its index is built with one thread instead of sixty, for
    half an hour of processor time at most.
    """
    import signal

    import scispacy.candidate_generation as stock
    from scispacy.linking_utils import Entity, KnowledgeBase

    class OneThread:
        def __init__(self, **options):
            self._index = plain(**options)

        def createIndex(self, settings, **options):
            effort = given.get("construction", settings["efConstruction"])
            self._index.createIndex({**settings, "indexThreadQty": 1, "efConstruction": effort}, **options)

        def __getattr__(self, name):
            return getattr(self._index, name)

    plain = stock.nmslib.init
    stock.nmslib.init = OneThread
    stock.scipy_supports_sparse_float16 = lambda: True
    aliases: dict[str, list[str]] = {}
    for concept, name in given["names"]:
        aliases.setdefault(concept, []).append(name)
    kb = KnowledgeBase(Entity(concept, names[0], names[1:]) for concept, names in aliases.items())
    sys.stderr.write(f"not built in {STOCK_SECONDS} seconds of processor time\n")  # the last word, if it ends here
    sys.stderr.flush()
    signal.setitimer(signal.ITIMER_PROF, STOCK_SECONDS)
    with contextlib.redirect_stdout(io.StringIO()):
        kept, vectorizer, index = stock.create_tfidf_ann_index(None, kb)
        generator = stock.CandidateGenerator(index, vectorizer, kept, kb)
    signal.setitimer(signal.ITIMER_PROF, 0)

    def link_all(texts):
        answers = []
        with contextlib.redirect_stdout(sys.stderr):
            for candidates in generator(texts, 10 * 3):
                best = sorted(((max(c.similarities), c.concept_id) for c in candidates), key=lambda p: (-p[0], p[1]))
                answers.append([(0, 0, concept) for _, concept in best[:10]])
        return answers

    link_all.whole = True
    return link_all


def scispacy_quick(given):
    """The same with a tenth of the effort at building its index, which takes a small part of the time."""
    return scispacy({**given, "construction": 200})


def longest(found):
    """Of mentions that overlap the longest, then the first."""
    kept = []
    taken: set[int] = set()
    for start, end, concept in sorted(found, key=lambda m: (m[0] - m[1], m[0], m[2])):
        if taken.isdisjoint(range(start, end)):
            taken.update(range(start, end))
            kept.append((start, end, concept))
    return kept


def peak_gb() -> float:
    """The most memory that this process has held; unlike `getrusage`, without that of the one which started it."""
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**20


def main() -> None:
    name, path = sys.argv[1:]
    given = json.loads(Path(path).read_text())
    start = time.perf_counter()
    link = globals()[name](given)
    built = time.perf_counter() - start
    out = sys.stdout
    sys.stdout = sys.stderr
    out.write(json.dumps({"build_seconds": built}) + "\n")
    out.flush()
    for number, line in enumerate(iter(sys.stdin.readline, "")):
        if line.strip() != "go":
            break
        start, start_processor = time.perf_counter(), time.process_time()
        found = link(given["texts"]) if hasattr(link, "whole") else [link(text) for text in given["texts"]]
        seconds, processor_seconds = time.perf_counter() - start, time.process_time() - start_processor
        taken = {"seconds": seconds, "processor_seconds": processor_seconds, "peak_gb": peak_gb()}
        answer = taken | ({} if number else {"found": found})
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
