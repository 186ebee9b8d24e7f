#!/usr/bin/env python3
"""Seconds and memory of one DPO training step in transformers + PEFT on an NVIDIA GPU.

    python torch_gpu.py --shape llama-8b --pairs 8 --tokens 512 --steps 5
    python torch_gpu.py --shape llama-8b --pairs 8 --tokens 512 --steps 5 --recompute

As people run it: base weights in bf16 and LoRA in float32 under autocast, scaled-dot-product attention, both responses as
whole sequences, the reference policy as a second forward with the adapter disabled, AdamW. --recompute switches gradient
checkpointing on. Weights and tokens are random; a pair is a prompt and two responses of --tokens tokens each, that is
two sequences of twice as many.

Prints one JSON line: the seconds of each timed step, their median, and the most memory that the allocator has taken, in
units of 2^30 bytes.
"""

import argparse
import contextlib
import json
import statistics
import time

from shapes import SHAPES


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=8, help="pairs a step (default 8)")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of a prompt and of each response (default 256)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after one that is not (default 5)")
    parser.add_argument("--rank", type=int, default=10, help="rank of the LoRA: k + m of Panacea (default 8 + 2)")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu, which is good for trying the script only")
    options = parser.parse_args()
    for name in ("pairs", "tokens", "steps", "rank"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    return options


def main():
    options = arguments()
    import common  # noqa: F401  (before torch: it sets the environment)
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        common.stop("torch finds no CUDA device; --device cpu tries the script without one")
    torch.manual_seed(0)
    policy = random_policy(options)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=options.lr)
    seconds = []
    for _ in range(options.steps + 1):
        ids = torch.randint(policy.config.vocab_size, (2 * options.pairs, 2 * options.tokens), device=options.device)
        ids[1::2, : options.tokens] = ids[0::2, : options.tokens]  # one prompt a pair
        wait(options)
        start = time.perf_counter()
        step(policy, optimizer, ids, options)
        wait(options)
        seconds.append(time.perf_counter() - start)
    timed = seconds[1:]
    peak = torch.cuda.max_memory_reserved() / 2**30 if options.device == "cuda" else None
    print(json.dumps({
        "measure": "torch_dpo_step",
        "seconds": timed,
        "median": statistics.median(timed),
        "peak_rss_gb": peak,
        "torch": torch.__version__,
    }), flush=True)


def random_policy(options):
    import torch
    from common import ADAPTED_MODULES, random_model
    from peft import LoraConfig, get_peft_model

    base = random_model(options.shape, options.device, torch.bfloat16)
    base.config.use_cache = False
    if options.recompute:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    lora = LoraConfig(r=options.rank, lora_alpha=options.rank, target_modules=ADAPTED_MODULES)
    policy = get_peft_model(base, lora, autocast_adapter_dtype=True)
    policy.train()
    return policy


def step(policy, optimizer, ids, options):
    """One step on L = −mean log σ(β·(Δ₀ − Δ₁)), Δⱼ = log π(yⱼ|x) − log π_ref(yⱼ|x), summed over tokens."""
    import torch

    with torch.no_grad(), policy.disable_adapter():
        reference = log_probs(policy, ids, options)
    ratio = (log_probs(policy, ids, options) - reference).reshape(-1, 2)
    loss = -torch.nn.functional.logsigmoid(options.beta * (ratio[:, 0] - ratio[:, 1])).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def log_probs(policy, ids, options):
    import torch

    types = torch.autocast("cuda", torch.bfloat16) if options.device == "cuda" else contextlib.nullcontext()
    with types:
        logits = policy(ids, use_cache=False).logits[:, options.tokens - 1 : -1]
    targets = ids[:, options.tokens :, None]
    return logits.float().log_softmax(-1).gather(-1, targets)[..., 0].sum(-1)


def wait(options):
    import torch

    if options.device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
