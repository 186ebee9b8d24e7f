"""What the scripts of this folder share: opening a model the way `panacea` does, without the network."""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported, which torch does
warnings.filterwarnings("ignore", category=FutureWarning)

import torch  # noqa: E402  (the environment comes first)
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

# Every projection of a layer: the ones that Panacea adapts.
ADAPTED_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def stop(message):
    sys.exit(f"error: {message}")


def location(model):
    """`model` (a Hugging Face folder, a GGUF file, or a folder with exactly one) as arguments of from_pretrained."""
    path = Path(model)
    if path.is_file():
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if (path / "config.json").is_file():
        return {"pretrained_model_name_or_path": str(path)}
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return {"pretrained_model_name_or_path": str(path), "gguf_file": files[0].name}
    stop(f"{model}: expected a folder with config.json, a GGUF file, or a folder with exactly one GGUF file")


def open_model(model, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(**location(model), dtype=dtype, local_files_only=True)


def random_model(shape="smollm2-135m", device="cpu", dtype=torch.float32):
    """The shapes of a real model, with weights that nobody trained: time and memory are the same."""
    from shapes import SHAPES
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **SHAPES[shape],
        rms_norm_eps=1e-5,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    with torch.device(device):
        torch.set_default_dtype(dtype)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return model


def open_tokenizer(model):
    return AutoTokenizer.from_pretrained(**location(model), local_files_only=True)


def read_jsonl(path):
    """The objects of a JSONL file; a broken line is an error that names it."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        stop(f"{path}: {error}")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            stop(f"{path}:{number}: not JSON: {error}")
        if not isinstance(record, dict):
            stop(f"{path}:{number}: expected a JSON object, found {line[:40]}")
        records.append(record)
    return records
