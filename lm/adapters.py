"""Low-rank additions to an encoder's linear layers (LoRA, Hu et al., ICLR 2022), by peft: W x + 2 B A x.

The weights W stay as they are while the few of A and B learn; in the end the product joins W, so that the encoder is
saved, loaded and as fast as any other. The only module that knows peft, an optional dependency.
"""

from torch import nn

from lm.encoder import Encoder
from lm.training import isolated_seed
from loaders.errors import MedgraftError


def add_low_rank(encoder: Encoder, rank: int, seed: int = 0) -> None:
    """Give every linear layer of the blocks that are not frozen an addition of this rank, and freeze all the rest.

    B begins at zero, so the encoder says what it said before.

    Raises:
        MedgraftError: a rank below 1, no block that is not frozen, or peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MedgraftError("low-rank additions need peft; install it with: pip install 'medgraft[lora]'") from None
    if rank < 1:
        raise MedgraftError(f"the rank of an addition is 1 or more, not {rank}")
    names = {id(module): name for name, module in encoder.model.named_modules()}
    above = encoder.blocks[encoder.frozen_blocks :]
    targets = [names[id(m)] for block in above for m in block.modules() if isinstance(m, nn.Linear)]
    if not targets:
        raise MedgraftError("every block is frozen, so there is nothing to add to; freeze fewer blocks")
    with isolated_seed(seed):
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), encoder.model)


def merge_low_rank(encoder: Encoder) -> None:
    """Add the products to the weights and take the additions away; what was frozen before them is so again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(encoder.model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            encoder.model.set_submodule(name, module.get_base_layer())
    encoder.model.__dict__.pop("peft_config", None)
    encoder.freeze_blocks(encoder.frozen_blocks)
