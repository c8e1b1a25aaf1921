"""The card of a model folder: what it was made from, how it scores, what it must not be used for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.model import FusedModel


def model_card(model: "FusedModel[Any]") -> str:
    """Markdown with data, settings and measured scores."""
    kind = "fused with a knowledge graph" if model.table is not None else "without a graph"
    relations = [f"{name} ({head}, {tail})" for name, head, tail in model.settings.relations]
    lines = [
        "---",
        "library_name: medgraft",
        f"tags: [biomedical, {'relation-extraction' if relations else 'token-classification'}]",
        "---",
        "",
        f"# medgraft {model.settings.task}, {kind}",
        "",
        f"Finds relations between the mentions of a document: {', '.join(relations)}."
        if relations
        else f"Finds mentions of {', '.join(model.settings.types)} in text.",
        "",
        "```python",
        "import fusion",
        "",
        'model = fusion.load("this folder")',
        "document = model(document_with_mentions)" if relations else 'document = model("She developed ataxia.")',
        "```",
        "",
        "## Training",
        "",
        *(f"- {name}: {value}" for name, value in model.training.items()),
        *(f"- {name}: {value}" for name, value in vars(model.settings).items()),
    ]
    if model.table is not None:
        lines.append(f"- graph: fingerprint `{model.table.fingerprint}`, {len(model.table.ids):,} concepts")
    lines += ["", "## Scores", ""]
    lines += [f"- {name}: {value}" for name, value in model.scores.items()] or ["Not measured."]
    lines += [
        "",
        "Scores are strict: mentions agree in start, end and type, relations in both concepts.",
        "They say nothing about other text.",
        "A research aid: its output is not a diagnosis and needs the eye of a clinician.",
        "",
    ]
    return "\n".join(lines)
