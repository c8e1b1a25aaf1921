"""The share of the loss that is taken with the graph removed."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusion
from fusion.robustness import loss_without_graph, without_knowledge
from kg import Linker
from tests.fusion.invented import invented_corpus, invented_graph, invented_names, invented_vectors


@dataclass
class Output:
    loss: Tensor | None


class Network(nn.Module):
    """Its loss is 2 w with knowledge in the batch and 10 w without."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch: dict[str, Tensor]) -> Output:
        if "labels" not in batch:
            return Output(None)
        return Output(self.weight * (2.0 if any(name.startswith("knowledge.") for name in batch) else 10.0))


BATCH = {"labels": torch.zeros(1), "knowledge.start": torch.zeros(1), "facts.codes": torch.zeros(1)}


def test_the_loss_is_a_mixture_and_its_gradient_too() -> None:
    network = Network().train()
    with loss_without_graph(network, 0.25):
        loss = network(BATCH).loss
        loss.backward()
        assert loss.item() == network.weight.grad.item() == pytest.approx(0.75 * 2 + 0.25 * 10)  # type: ignore[union-attr]
        assert network({"labels": torch.zeros(1)}).loss.item() == 10.0
        assert network({name: t for name, t in BATCH.items() if name != "labels"}).loss is None
        assert network.eval()(BATCH).loss.item() == 2.0
    assert network.train()(BATCH).loss.item() == 2.0 and not network._forward_hooks
    with loss_without_graph(network, 0.0):
        assert network(BATCH).loss.item() == 2.0


def test_nothing_of_the_knowledge_stays_in_the_batch() -> None:
    assert without_knowledge(BATCH | {"questions.places": torch.zeros(1)}).keys() == {"labels"}


@pytest.mark.parametrize("how", ["without_graph", "sentence_dropout"])
def test_what_never_trains_with_its_graph_takes_nothing_from_it(encoder_folder: Any, how: str) -> None:
    names = invented_names(24)
    graph = invented_graph(names)
    corpus = invented_corpus(names, (30, 0, 10))
    settings: dict[str, Any] = {
        "encoder": encoder_folder("bert"), "epochs": 2, "learning_rate": 1e-3, "max_pieces": 64, "device": "cpu",
        "progress": False,
    }  # fmt: skip
    linker = Linker.build(graph)
    leaning, sturdy = (
        fusion.train("ner", corpus, graph, invented_vectors(graph), linker, **{how: share}, **settings)
        for share in (0.0, 1.0)
    )
    for model, nothing in ((leaning, False), (sturdy, True)):
        data = model.training_data(corpus.test)
        batch = data.collate(data.examples)
        with torch.inference_mode():
            logits, bare = (model.network(some).logits for some in (batch, without_knowledge(batch)))
        assert torch.equal(logits, bare) == nothing
    name = how.replace("_", " ")
    assert sturdy.training[name] == 1.0 and not leaning.training.get(name)
