"""Relations between the concepts of a document: pairs of concepts, a vector for each pair, a score for each relation.

A document may be one sentence or a whole article in several windows. What counts is the concept, not the mention: the
vectors of all its mentions are pooled, so a relation can be stated across sentences.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lm.alignment import Window, collate, windows, words_of
from lm.encoder import PRECISIONS, Array, Encoder
from lm.sentences import sentence_of, sentence_starts
from lm.training import isolated_seed
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Relation

NUM_FEATURES = 15  # of a pair, see `_features` and `_rivals`
DIRECT = 20.0  # factor of weights from numbers straight to logits, which would else be learnt too slowly
_PREFIX = "pairs."

Extra = Callable[[Sequence[Window]], dict[str, Tensor]]


@dataclass(frozen=True)
class RelationScheme:
    """What may hold between what: relations with the types of their ends, `(relation, head type, tail type)`."""

    kinds: tuple[tuple[str, str, str], ...]

    def __post_init__(self) -> None:
        if not self.kinds:
            raise MedgraftError("no relation between typed mentions in the training documents; check the corpus")

    @classmethod
    def of(cls, documents: Iterable[Document]) -> "RelationScheme":
        """The scheme of all relations that the documents state, sorted."""
        kinds = set()
        for document in documents:
            concepts = concepts_of(document)
            for relation in document.relations:
                for head in concepts.get(relation.head, ()):
                    kinds |= {(relation.relation, head.type, tail.type) for tail in concepts.get(relation.tail, ())}
        return cls(tuple(sorted(kinds)))

    @property
    def names(self) -> tuple[str, ...]:
        """The relations, each once."""
        return tuple(dict.fromkeys(name for name, _, _ in self.kinds))

    def allowed(self, heads: Sequence[Mention], tails: Sequence[Mention]) -> list[bool]:
        """Which of the relations the types of two concepts' mentions permit."""
        types = {(head.type, tail.type) for head in heads for tail in tails}
        return [any(name == kind[0] and kind[1:] in types for kind in self.kinds) for name in self.names]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two concepts of a document between which a relation may hold. R relations.

    `allowed` and `labels` are (R,) truth values, `features` is (NUM_FEATURES,).
    """

    head: str
    tail: str
    allowed: Array
    labels: Array
    features: Array


@dataclass(frozen=True)
class Passage:
    """All windows of one document: relations are sought in the whole of it."""

    windows: tuple[Window, ...]

    def __len__(self) -> int:
        return sum(map(len, self.windows))


def concepts_of(document: Document) -> dict[str, list[Mention]]:
    """The mentions of each concept, in the order of the text; a composite mention counts for each of its concepts."""
    found: dict[str, list[Mention]] = {}
    for mention in sorted(document.mentions, key=lambda m: (m.start, m.end)):
        for concept in (mention.concept_id or "").split("|"):
            if concept:
                found.setdefault(concept, []).append(mention)
    return found


def pairs_of(document: Document, scheme: RelationScheme) -> list[Pair]:
    """The pairs of different concepts whose types permit a relation, in the order of their first mentions."""
    concepts = concepts_of(document)
    starts = sentence_starts(document.text)
    stated = {(relation.head, relation.relation, relation.tail) for relation in document.relations}
    permitted = {}
    for head, heads in concepts.items():
        for tail, tails in concepts.items():
            allowed = scheme.allowed(heads, tails)
            if head != tail and any(allowed):
                permitted[head, tail] = np.array(allowed)
    rivals = [{ends[side]: len(concepts[ends[side]]) for ends in permitted} for side in (0, 1)]
    pairs = []
    for (head, tail), kinds in permitted.items():
        labels = np.array([(head, name, tail) in stated for name in scheme.names])
        features = [*_features(concepts[head], concepts[tail], starts), *_rivals(head, rivals[0])]
        features += _rivals(tail, rivals[1])
        pairs.append(Pair(head, tail, kinds, labels, np.array(features, dtype=np.float32)))
    return pairs


def passages(documents: Sequence[Document], encoder: Encoder, max_pieces: int, stride: int) -> list[Passage]:
    """Each document as a passage, in their order."""
    made: list[list[Window]] = [[] for _ in documents]
    for window in windows([document.text for document in documents], encoder, max_pieces, stride):
        made[window.document].append(window)
    return [Passage(tuple(group)) for group in made]


def pair_documents(documents: Sequence[Document], scheme: RelationScheme) -> tuple[list[list[Pair]], Extra]:
    """The pairs of each document, and an extra for `collate` that adds them to whole passages of these documents."""
    pairs = [pairs_of(document, scheme) for document in documents]
    concepts = [concepts_of(document) for document in documents]

    def extra(group: Sequence[Window]) -> dict[str, Tensor]:
        return _tensors(group, pairs, concepts, len(scheme.names))

    return pairs, extra


@dataclass(slots=True)
class PairOutput:
    """`loss` is the mean over the `count` permitted relations of all pairs; `logits` (P, R)."""

    loss: Tensor | None
    logits: Tensor
    count: Tensor | None = None


class PairScorer(nn.Module):
    """Output layer: a vector for each pair from both concepts, what their document says to the two, and features.

    h, t = logsumexp over a concept's mentions of the mean of the mention's pieces
    c    = sum_i softmax_i(W_q [h; t] . W_k h_i / sqrt(e)) h_i       over all pieces of the document
    p    = gelu(W [h; t; h * t; c; features]),   logits = V p + U features

    U starts at zero and learns fast. Among the hundreds of numbers of the encoder the few features would be lost: with
    few labels they alone (a logistic regression) can be better than a network that has to find them.

    Pooling by logsumexp and a context of each pair's own follow Zhou et al. (ATLOP, AAAI 2021), who take the context
    from the encoder's attention. The weights come from a generator of their own.
    """

    def __init__(self, hidden_size: int, num_relations: int, size: int = 256, dropout: float = 0.1, seed: int = 0):
        super().__init__()
        self.size = size
        with isolated_seed(seed):
            self.query = nn.Linear(2 * hidden_size, size)
            self.key = nn.Linear(hidden_size, size, bias=False)
            self.pair = nn.Linear(4 * hidden_size + NUM_FEATURES, size)
            self.linear = nn.Linear(size, num_relations)
            self.direct = nn.Linear(NUM_FEATURES, num_relations, bias=False)
        nn.init.zeros_(self.direct.weight)
        self.dropout = nn.Dropout(dropout)

    def vectors(self, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Hidden states (B, T, d) to vectors (P, size) of the pairs in the batch."""
        flat = hidden.reshape(-1, hidden.shape[2])
        mentions = _mean(_rows(flat, batch[f"{_PREFIX}pieces"]), batch[f"{_PREFIX}pieces"] >= 0)
        there = batch[f"{_PREFIX}mentions"] >= 0
        pooled = _rows(mentions, batch[f"{_PREFIX}mentions"]).masked_fill(~there[:, :, None], -torch.inf)
        concepts = pooled.logsumexp(dim=1)
        head, tail = (concepts.index_select(0, batch[f"{_PREFIX}{end}"]) for end in ("head", "tail"))
        context = self._context(flat, torch.cat([head, tail], dim=1), batch)
        everything = torch.cat([head, tail, head * tail, context, batch[f"{_PREFIX}features"].to(head.dtype)], dim=1)
        return F.gelu(self.pair(self.dropout(everything)))

    def forward(self, pairs: Tensor, features: Tensor) -> Tensor:
        """Vectors (P, size) and features (P, NUM_FEATURES) of pairs to logits (P, R)."""
        logits: Tensor = self.linear(self.dropout(pairs)) + DIRECT * self.direct(features.to(pairs.dtype))
        return logits

    def _context(self, flat: Tensor, ends: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What the pieces of its document say to each pair: (P, d)."""
        pieces, document, slot = (batch[f"{_PREFIX}{name}"] for name in ("document_pieces", "document", "slot"))
        states = _rows(flat, pieces)
        asked = self.query(ends)
        queries = asked.new_zeros(len(pieces), int(slot.max()) + 1, self.size)
        queries[document, slot] = asked
        scores = queries @ self.key(states).transpose(1, 2) / self.size**0.5
        scores = scores.masked_fill((pieces < 0)[:, None, :], -torch.inf)
        heard = scores.softmax(dim=-1) @ states
        return heard.reshape(-1, heard.shape[2]).index_select(0, document * heard.shape[1] + slot)


class RelationNetwork(nn.Module):
    """An encoder (any module that maps a batch to hidden states (B, T, d)) under a `PairScorer`.

    `facts` may change the logits of the pairs, (P, R) and the batch to (P, R).
    """

    def __init__(
        self,
        encoder: nn.Module,
        scheme: RelationScheme,
        *,
        hidden_size: int,
        facts: nn.Module | None = None,
        size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.scheme = scheme
        self.output = PairScorer(hidden_size, len(scheme.names), size, seed=seed)
        self.facts = facts

    def forward(self, batch: dict[str, Tensor]) -> PairOutput:
        """Loss over `pairs.labels` (P, R) where `pairs.allowed` is true, and logits (P, R)."""
        hidden = self.encoder(batch)
        if not len(batch[f"{_PREFIX}head"]):
            nothing = hidden.new_zeros(0, len(self.scheme.names))
            return PairOutput(hidden.sum() * 0, nothing, torch.zeros((), device=hidden.device))
        logits = self.logits(hidden, batch)
        allowed = batch[f"{_PREFIX}allowed"]
        each = F.binary_cross_entropy_with_logits(logits, batch[f"{_PREFIX}labels"], reduction="none")
        count = allowed.sum()
        return PairOutput((each * allowed).sum() / count.clamp(min=1), logits, count)

    def logits(self, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What the last hidden states (B, T, d) say of the pairs, and the facts between them: (P, R)."""
        logits: Tensor = self.output(self.output.vectors(hidden, batch), batch[f"{_PREFIX}features"]).float()
        return logits if self.facts is None else self.facts(logits, batch)

    def decisions(self, output: PairOutput, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """The logits (N, 2) of no and yes for each permitted relation of each pair; with N, which divides the loss."""
        asked = output.logits[batch[f"{_PREFIX}allowed"]] if len(output.logits) else output.logits.flatten()
        return torch.stack([torch.zeros_like(asked), asked], dim=1), max(len(asked), 1)


def score_pairs(
    network: RelationNetwork,
    made: Sequence[Passage],
    pairs: Sequence[Sequence[Pair]],
    encoder: Encoder,
    *extras: Extra,
    max_pieces: int = 4096,
    temperature: float = 1.0,
    precision: str = "no",
    progress: bool = False,
) -> list[Array]:
    """Probabilities (P, R) of the pairs of each passage's document; 0 for a relation that their types do not permit.

    Args:
        network: runs where its parameters are, in evaluation mode.
        made: whole documents.
        pairs: of each document, from `pair_documents`.
        encoder: whose tokenizer cut the texts.
        extras: the one of `pair_documents`, and what the network's encoder needs.
        max_pieces: in a batch, padding included, so far as one document allows.
        temperature: by which the logits are divided.
        precision: "no", "bf16" or "fp16" (autocast).
        progress: show a bar on stderr if it is a terminal.
    """
    device = next(network.parameters()).device
    dtype = PRECISIONS[precision]
    scores = [np.zeros((len(some), len(network.scheme.names)), np.float32) for some in pairs]
    was_training = network.training
    network.eval()
    try:
        for group in tqdm(_groups(made, pairs, max_pieces), "relations", disable=None if progress else True):
            flat = [window for passage in group for window in passage.windows]
            batch = {name: tensor.to(device) for name, tensor in collate(flat, encoder, *extras).items()}
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=precision != "no"):
                logits = network(batch).logits.float() / temperature
            found = logits.sigmoid() * batch[f"{_PREFIX}allowed"]
            rows = iter(found.cpu().numpy())
            for passage in group:
                number = passage.windows[0].document
                for row in range(len(pairs[number])):
                    scores[number][row] = next(rows)
    finally:
        network.train(was_training)
    return scores


def relations_of(
    pairs: Sequence[Pair], scores: Array, scheme: RelationScheme, threshold: float
) -> tuple[Relation, ...]:
    """The relations with a probability of at least `threshold`, the surest first."""
    found = [
        Relation(pairs[row].head, scheme.names[column], pairs[row].tail, score=float(scores[row, column]))
        for row, column in np.argwhere(scores >= threshold)
        if pairs[row].allowed[column]
    ]
    return tuple(sorted(found, key=lambda r: (-(r.score or 0), r.head, r.relation, r.tail)))


def best_threshold(scores: Sequence[Array], labels: Sequence[Array], missed: int = 0) -> float:
    """The probability at and above which calling a relation gives the best micro F1.

    Args:
        scores: (P, R) of each document.
        labels: (P, R) truth values of each document.
        missed: relations that are stated between no pair, and so can never be found.
    """
    flat = np.concatenate([score.ravel() for score in scores] or [np.zeros(0, np.float32)])
    true = np.concatenate([label.ravel() for label in labels] or [np.zeros(0, bool)])
    if not true.any():
        return 0.5
    order = np.argsort(-flat, kind="stable")
    correct = np.cumsum(true[order])
    f1 = 2 * correct / (np.arange(1, len(order) + 1) + true.sum() + missed)
    # Equal scores are called together: only the last of them can be the threshold.
    last = np.append(flat[order][1:] != flat[order][:-1], True)
    best = int(np.argmax(np.where(last, f1, -1)))
    below = flat[order][best + 1] if best + 1 < len(order) else 0.0
    return float((flat[order][best] + below) / 2)


def with_evidence(document: Document, relation: Relation) -> Relation:
    """The relation with the characters of the sentences that mention both ends; of the two nearest if none does."""
    concepts, starts = concepts_of(document), sentence_starts(document.text)
    heads, tails = ({sentence_of(starts, m.start) for m in concepts[end]} for end in (relation.head, relation.tail))
    distance = min(abs(a - b) for a in heads for b in tails)
    chosen = {s for a in heads for b in tails if abs(a - b) == distance for s in (a, b)}
    if distance:
        a, b = min((a, b) for a in heads for b in tails if abs(a - b) == distance)
        chosen = {a, b}
    ends = [*starts[1:], len(document.text)]
    spans = []
    for sentence in sorted(chosen):
        text = document.text[starts[sentence] : ends[sentence]]
        spans.append((starts[sentence], starts[sentence] + len(text.rstrip())))
    return replace(relation, evidence=tuple(spans))


def _features(heads: Sequence[Mention], tails: Sequence[Mention], starts: list[int]) -> list[float]:
    """Distance in sentences (0, 1, 2, more), logarithms of characters between and of mentions, either in the first."""
    sentences = [[sentence_of(starts, mention.start) for mention in mentions] for mentions in (heads, tails)]
    apart = min(abs(a - b) for a in sentences[0] for b in sentences[1])
    gap = min(max(a.start - b.end, b.start - a.end, 0) for a in heads for b in tails)
    numbers = [apart == 0, apart == 1, apart == 2, apart > 2, np.log1p(gap) / 5]
    return [*numbers, np.log1p(len(heads)), np.log1p(len(tails)), 0 in sentences[0], 0 in sentences[1]]


def _rivals(concept: str, mentions: Mapping[str, int]) -> list[float]:
    """How a concept stands among those of the document that could take its place, by numbers of mentions.

    Logarithm of how many there are, mentions as a share of the most mentioned one's, logarithm of the share of all.
    With few labelled documents these are worth more than anything else that is known of a pair: what a text is about
    is named often.
    """
    own = mentions[concept]
    return [np.log(len(mentions)), own / max(mentions.values()), np.log(own / sum(mentions.values()))]


def _tensors(
    group: Sequence[Window], pairs: Sequence[Sequence[Pair]], concepts: Sequence[dict[str, list[Mention]]], num: int
) -> dict[str, Tensor]:
    """The pairs of all documents in a batch; pieces are numbered through the flattened batch (B * T)."""
    longest = max(map(len, group))
    documents = list(dict.fromkeys(window.document for window in group))
    pieces: list[list[int]] = []
    mentions: list[list[int]] = []
    head, tail, of, slot, labels, allowed, features = [], [], [], [], [], [], []
    context: list[Array] = []
    for number, document in enumerate(documents):
        rows = [(row * longest, window) for row, window in enumerate(group) if window.document == document]
        context.append(np.concatenate([first + np.flatnonzero(window.offsets[:, 0] >= 0) for first, window in rows]))
        # A text without pieces has no pairs either; its frame stands in, so that the softmax has something to sum.
        context[-1] = context[-1] if len(context[-1]) else np.array([rows[0][0]])
        needed = dict.fromkeys(end for pair in pairs[document] for end in (pair.head, pair.tail))
        index = {concept: len(mentions) + place for place, concept in enumerate(needed)}
        for concept in needed:
            mentions.append(list(range(len(pieces), len(pieces) + len(concepts[document][concept]))))
            pieces += [_pieces(mention, rows) for mention in concepts[document][concept]]
        for place, pair in enumerate(pairs[document]):
            head.append(index[pair.head])
            tail.append(index[pair.tail])
            of.append(number)
            slot.append(place)
            labels.append(pair.labels)
            allowed.append(pair.allowed)
            features.append(pair.features)
    tensors = {
        "pieces": _padded(pieces),
        "mentions": _padded(mentions),
        "document_pieces": _padded(context),
        "head": torch.tensor(head, dtype=torch.long),
        "tail": torch.tensor(tail, dtype=torch.long),
        "document": torch.tensor(of, dtype=torch.long),
        "slot": torch.tensor(slot, dtype=torch.long),
        "labels": torch.from_numpy(np.array(labels, dtype=np.float32).reshape(-1, num)),
        "allowed": torch.from_numpy(np.array(allowed, dtype=bool).reshape(-1, num)),
        "features": torch.from_numpy(np.array(features, dtype=np.float32).reshape(-1, NUM_FEATURES)),
    }
    return {f"{_PREFIX}{name}": tensor for name, tensor in tensors.items()}


def _pieces(mention: Mention, rows: Sequence[tuple[int, Window]]) -> list[int]:
    """The pieces of a mention in the window that owns its first word; the first special piece if it has none."""
    for first, window in rows:
        i, j = words_of(window.word_spans, mention.start, mention.end)
        if i < j and window.owned[0] <= i < window.owned[1]:
            start, end = window.pieces_of(mention.start, mention.end)
            if start < end:
                return list(range(first + start, first + end))
    return [rows[0][0]]


def _groups(made: Sequence[Passage], pairs: Sequence[Sequence[Pair]], max_pieces: int) -> list[list[Passage]]:
    """Passages that have pairs, of similar lengths, together."""
    groups: list[list[Passage]] = []
    room = 0
    for passage in sorted(made, key=len, reverse=True):
        if not pairs[passage.windows[0].document]:
            continue
        cost = len(passage.windows) * max(map(len, passage.windows))
        if not groups or room < cost:
            groups.append([])
            room = max_pieces
        groups[-1].append(passage)
        room -= cost
    return groups


def _padded(rows: Sequence[Sequence[int] | Array]) -> Tensor:
    """Rows of indices as a tensor (N, longest), -1 where a row has ended."""
    table = np.full((len(rows), max(map(len, rows), default=1)), -1, dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows (N, L, d) of a table at an index (N, L) that is padded with -1; what stands there does not matter."""
    return table.index_select(0, index.clamp(min=0).flatten()).reshape(*index.shape, -1)


def _mean(states: Tensor, there: Tensor) -> Tensor:
    """The mean (N, d) of states (N, L, d) where there are any."""
    weights = there.to(states.dtype)
    return torch.einsum("nl,nld->nd", weights / weights.sum(dim=1, keepdim=True), states)
