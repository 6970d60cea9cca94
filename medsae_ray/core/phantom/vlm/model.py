"""The small vision-language model: Gemma 3 at a geometry that a CPU trains in half an hour, and its folder."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

POOLED = 7
"""The number of image tokens per side."""

WINDOW = POOLED**2 + 7
"""The reach of the first layer: an image token attends back to the number before its image, not to another image."""

SIDE, PATCH, WIDTH, HEADS = 224, 16, 96, 4

_VISION: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS,
    "image_size": SIDE,
    "patch_size": PATCH,
    "vision_use_head": False,
}
TOWER = SiglipVisionConfig(**_VISION)
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}


def path() -> Path:
    """Return the folder of the shipped model: weights, configuration, tokenizer, processor, chat template."""
    return Path(str(files("medsae_ray"))) / "core" / "phantom" / "weights" / "vlm"


def config(tokenizer: PreTrainedTokenizerFast) -> Gemma3Config:
    """Return the whole model's configuration for this tokenizer."""
    number = tokenizer.get_vocab()
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        max_position_embeddings=2048,
        layer_types=["sliding_attention", *["full_attention"] * 3],
        sliding_window=WINDOW,
        rope_parameters={"full_attention": dict(_ROPE), "sliding_attention": dict(_ROPE)},
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Gemma3Config(
        text_config=text,
        vision_config=TOWER,
        mm_tokens_per_image=POOLED**2,
        boi_token_index=number["<start_of_image>"],
        eoi_token_index=number["<end_of_image>"],
        image_token_index=number["<image_soft_token>"],
        tie_word_embeddings=True,
        dtype="float32",
    )


def untrained(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Gemma3ForConditionalGeneration:
    """Return a model to train: matrices scaled by their fan-in (Gemma's 0.02 is too small for so narrow a net)."""
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration(config(tokenizer))
    for module in model.model.language_model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
    return model


def processor(tokenizer: PreTrainedTokenizerFast) -> Gemma3Processor:
    """Return the processor of images to pixel values, and of messages to tokens."""
    images = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_pan_and_scan=False)
    template = tokenizer.chat_template
    return Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=POOLED**2)


def save(model: Gemma3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save all files that transformers and vLLM load; the weights are replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / "part")
    processor(tokenizer).save_pretrained(folder / "part")
    for file in sorted((folder / "part").iterdir()):
        file.chmod(0o644)
        file.rename(folder / file.name)
    (folder / "part").rmdir()
