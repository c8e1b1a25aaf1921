"""Pictures of a training and of an embedding space, as PNG. Needs matplotlib (`pip install medgraft[notebooks]`)."""

from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from kg.vectors import Embeddings
from loaders.errors import MedgraftError

_COLOURS = 9  # semantic categories with a colour of their own; the rest share one
_MOST = 5_000  # concepts on a map


class Concepts(Protocol):
    """A graph, as far as a map needs it."""

    def table(self, name: str) -> pa.Table: ...


def draw_training(embeddings: Embeddings, out: str | Path) -> Path:
    """The loss of each epoch, and the MRR on development triples if early stopping looked at it.

    Raises:
        MedgraftError: matplotlib is absent, or the embeddings hold no losses.
    """
    losses = embeddings.metrics.get("loss")
    if not losses:
        raise MedgraftError("these embeddings hold no losses to draw; train them with kg.train_embeddings")
    figure, axes = new_figure()
    axes.plot(range(1, len(losses) + 1), losses, marker="o", color="tab:blue", label="loss")
    axes.set(xlabel="epoch", ylabel="loss", title=f"{embeddings.model}, {embeddings.dim} numbers a concept")
    if checks := embeddings.metrics.get("dev_mrr"):
        other = axes.twinx()
        other.plot(*zip(*checks, strict=True), marker="s", color="tab:orange")
        other.set_ylabel("MRR on development triples", color="tab:orange")
    return save_figure(figure, out)


def draw_map(embeddings: Embeddings, graph: Concepts, out: str | Path, *, limit: int = _MOST, seed: int = 0) -> Path:
    """A map of the concepts in two dimensions, coloured by semantic category.

    PCA to at most 50 dimensions, then t-SNE (van der Maaten and Hinton, 2008): what is near on the map is near in the
    space; distances between far groups mean little.

    Args:
        embeddings: to draw.
        graph: says the category of each concept, the first of its types.
        out: PNG file.
        limit: draw a seeded sample of this many concepts.
        seed: of sample and layout.

    Raises:
        MedgraftError: matplotlib is absent, or there are fewer than five concepts.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(embeddings) < 5:
        raise MedgraftError(f"{len(embeddings)} concepts are too few for a map; there must be five")
    figure, axes = new_figure()
    rows = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:limit])
    vectors = embeddings.vectors[rows]
    reduced = PCA(min(50, *vectors.shape), random_state=seed).fit_transform(vectors)
    places = TSNE(perplexity=min(30, (len(rows) - 1) / 3), init="pca", random_state=seed).fit_transform(reduced)
    table = graph.table("concepts")
    types = dict(zip(table["id"].to_pylist(), table["types"].to_pylist(), strict=True))
    category = np.array([(types.get(embeddings.ids[row]) or ["without a type"])[0] for row in rows])
    common = [name for name, _ in Counter(category.tolist()).most_common(_COLOURS)]
    for name in [*common, None]:
        chosen = ~np.isin(category, common) if name is None else category == name
        if chosen.any():
            axes.scatter(*places[chosen].T, s=4, alpha=0.6, linewidths=0, label=name or "other")
    axes.set(xticks=[], yticks=[], title=f"{embeddings.model}: {len(rows):,} of {len(embeddings):,} concepts")
    axes.legend(markerscale=4, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return save_figure(figure, out)


def new_figure(width: float = 8, height: float = 5, rows: int = 1, **settings: Any) -> tuple[Any, Any]:
    """A matplotlib figure of this size in inches that needs no screen, and its axes (an array for several rows)."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MedgraftError("pictures need matplotlib; pip install 'medgraft[notebooks]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, **settings)


def save_figure(figure: Any, out: str | Path) -> Path:
    """Write it as PNG.

    Raises:
        MedgraftError: it cannot be written there.
    """
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150, format="png")
    except OSError as error:
        raise MedgraftError(f"cannot write the picture {out}: {error.strerror}; choose another place") from error
    return out
