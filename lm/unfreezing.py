"""Which parts of an encoder learn, when, and how fast: gradual unfreezing, and learning rates that fall with depth.

Both are of Howard and Ruder (ULMFiT, ACL 2018).
"""

from collections.abc import Callable

from torch import nn

from lm.encoder import Encoder
from loaders.errors import MedgraftError


def gradual_unfreezing(encoder: Encoder, epochs: int) -> Callable[[int], None]:
    """What `lm.fit` calls before each epoch: first only the top block learns, one more every `epochs` epochs.

    After the lowest block the embedding layer and all the rest follow.

    Raises:
        MedgraftError: fewer than one epoch.
    """
    if epochs < 1:
        raise MedgraftError(f"a block is thawed every epoch or more rarely, not every {epochs} epochs")
    return lambda epoch: encoder.freeze_blocks(max(encoder.num_blocks - 1 - epoch // epochs, 0))


def layer_rates(network: nn.Module, encoder: Encoder, rate: float, decay: float) -> dict[str, float]:
    """Learning rates by prefix for `lm.fit`: `rate` for the top block, times `decay` for each block below it.

    The prefix "" (embedding layer and all that has no prefix of its own) gets one factor more than the lowest block.

    Raises:
        MedgraftError: a factor that is not above 0 and at most 1.
    """
    if not 0 < decay <= 1:
        raise MedgraftError(f"the learning rates fall by a factor above 0 and at most 1, not {decay:g}")
    names = {id(module): name for name, module in network.named_modules()}
    count = encoder.num_blocks
    rates = {names[id(block)]: rate * decay ** (count - 1 - n) for n, block in enumerate(encoder.blocks)}
    return {"": rate * decay**count, **rates}
