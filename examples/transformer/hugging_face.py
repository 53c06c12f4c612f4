"""A quantized checkpoint in a Hugging Face Transformers model, through fp4rt's layers.

    python examples/transformer/hugging_face.py --make tiny            # a small Llama of random weights, in NVFP4
    python examples/transformer/hugging_face.py tiny                   # loads it and writes some tokens
    python examples/transformer/hugging_face.py MODEL --recipe w4a16_nvfp4 --device cuda

MODEL is a folder with config.json and .safetensors files, as NVIDIA ModelOpt and LLM Compressor export them. Needs
`pip install 'fp4cc[torch]' transformers`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

import fp4rt.torch
from fp4rt import io
from fp4rt.torch.checkpoints import CONVENTIONS

#: The smallest shape in which every layer has whole blocks and atoms.
TINY = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}


def make(folder: Path) -> None:
    """A checkpoint as ModelOpt exports one: NVFP4 weights but for the head, tensors under their own names."""
    torch.manual_seed(0)
    config = LlamaConfig(**TINY)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tensors = dict(model.state_dict())
    for name, layer in model.named_modules():
        if type(layer) is torch.nn.Linear and name != "lm_head":
            del tensors[f"{name}.weight"]
            tensors |= io.to_modelopt(fp4rt.quantize(layer.weight.detach(), "nvfp4"), name)
    folder.mkdir(parents=True, exist_ok=True)
    io.save_checkpoint(folder / "model.safetensors", tensors)
    said = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "quantization_config": said}, indent=1))


def load(folder: Path, recipe: str, convention: str | None, device: str, artifacts: Any = None) -> Any:
    """The model of a folder, with fp4rt's layers for the quantized ones."""
    config = AutoConfig.from_pretrained(folder)
    said = getattr(config, "quantization_config", None) or {}
    if said:
        del config.quantization_config  # Transformers would look for its own way to load it
    convention = convention or said.get("format") or said.get("quant_method")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).to(device).eval()
    return fp4rt.torch.load_quantized(model, folder, recipe, str(convention), artifacts=artifacts)


@torch.no_grad()
def written(model: Any, start: list[int], count: int) -> list[int]:
    """`start` and the `count` most likely tokens after it."""
    tokens = torch.tensor([start], device=model.device)
    ids = model.generate(tokens, min_new_tokens=count, max_new_tokens=count, do_sample=False, pad_token_id=0)
    return ids[0].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true", help="write a small random checkpoint there")
    parser.add_argument("--recipe", default="nvfp4")
    parser.add_argument("--convention", choices=CONVENTIONS, help="default: what config.json says")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--artifacts", type=Path, help="folder made by `fp4cc recipes build`")
    parser.add_argument("--start", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--count", type=int, default=16)
    options = parser.parse_args()
    if options.make:
        make(options.folder)
        return
    model = load(options.folder, options.recipe, options.convention, options.device, options.artifacts)
    print(written(model, options.start, options.count))


if __name__ == "__main__":
    main()
