"""The card of a model folder: what it was made from, how it scores, what it must not be used for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.model import FusedModel


def model_card(model: "FusedModel[Any]") -> str:
    """Markdown with data, settings and measured scores."""
    kind = "fused with a knowledge graph" if model.table is not None else "without a graph"
    s = model.settings
    relations = [f"{name} ({head}, {tail})" for name, head, tail in s.relations]
    if s.task == "qa":
        tag, does, call = "question-answering", _answers(s.kind, s.types), "model.answer(question, context)"
    elif s.task == "classification":
        tag, call = "text-classification", 'model("She developed ataxia.").labels'
        does = f"Labels texts with {s.kind} of: {', '.join(s.types)}."
    elif relations:
        tag, call = "relation-extraction", "model(document_with_mentions)"
        does = f"Finds relations between the mentions of a document: {', '.join(relations)}."
    else:
        tag, call = "token-classification", 'model("She developed ataxia.")'
        does = f"Finds mentions of {', '.join(s.types)} in text."
    lines = [
        "---",
        "library_name: medgraft",
        f"tags: [biomedical, {tag}]",
        "---",
        "",
        f"# medgraft {model.settings.task}, {kind}",
        "",
        does,
        "",
        "```python",
        "import fusion",
        "",
        'model = fusion.load("this folder")',
        f"found = {call}",
        "```",
        "",
        "## Training",
        "",
        *(f"- {name}: {value}" for name, value in model.training.items()),
        *(f"- {name}: {value}" for name, value in vars(model.settings).items()),
    ]
    if model.table is not None:
        lines.append(f"- graph: fingerprint `{model.table.fingerprint}`, {len(model.table.ids):,} concepts")
    if model.memory is not None:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in model.memory.counts.items())
        lines.append(f"- memory: {counts}; examples are in it word for word, so share the folder as you may share them")
    lines += _leaks(model.leaks) if model.leaks else []
    lines += ["", "## Scores", ""]
    lines += [f"- {name}: {value}" for name, value in model.scores.items()] or ["Not measured."]
    lines += [
        "",
        "Mentions are right if start, end and type agree, relations if both concepts do, answers if they are the same.",
        "Confidence is scaled by a temperature that was chosen on the development part.",
        "They say nothing about other text.",
        "A research aid: its output is not a diagnosis and needs the eye of a clinician.",
        "",
    ]
    return "\n".join(lines)


def _leaks(leaks: dict[str, Any]) -> list[str]:
    """What the graph may have told of the labels."""
    lines = ["", "## What the graph states of the labels", ""]
    lines += [f"- {line}" for line in leaks["searched for"]]
    if not leaks["searched for"]:
        lines.append(
            "- Not searched for the source of the labels: none is known, or a finished knowledge table was given."
        )
    for name, share in leaks["stated"].items():
        lines.append(f"- {share:.1%} of the {name} development pairs have a fact between them.")
    lines.append(
        "- Nothing was filtered: a graph that holds the source of the labels is refused, others are used whole."
    )
    return [*lines, "", "`medgraft evaluate` gives these shares for other documents."]


def _answers(kind: str, labels: tuple[str, ...]) -> str:
    return {
        "label": f"Answers questions over a context with one of {', '.join(labels)}.",
        "choice": "Chooses one of a question's options.",
        "span": "Answers questions with words of their context, or says that it holds no answer.",
    }[kind]
