#!/usr/bin/env python3
"""Tokens per second of a forward pass and of greedy generation in transformers.

    python torch_generate.py --random-weights
    python torch_generate.py --model models/smollm2-135m-instruct --rows 1 8

The counterpart of the program `generate` of this package: a forward pass over 256 tokens with all logits, and 64 new
tokens behind prompts of 64 random ones, for 1 row and for 8. Prints one JSON line a measure; `seconds` are those of each
repetition, the rate is that of their median.
"""

import argparse
import json
import statistics
import time

from shapes import SHAPES


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="Hugging Face folder or GGUF file")
    model.add_argument("--random-weights", action="store_true", help="weights drawn at random")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m", help="of random weights")
    parser.add_argument("--device", default="cpu", help="cpu (default, float32) or cuda (bfloat16)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8], help="rows that are continued together")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt (default 64)")
    parser.add_argument("--new-tokens", type=int, default=64, help="tokens of a continuation (default 64)")
    parser.add_argument("--forward", type=int, default=256, help="tokens of the forward pass (default 256)")
    parser.add_argument("--repeats", type=int, default=3, help="times that each is measured (default 3)")
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: what PyTorch chooses)")
    return parser.parse_args()


def main():
    options = arguments()
    from common import open_model, random_model  # before torch: it sets the environment

    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    if options.random_weights:
        model = random_model(options.shape, options.device, dtype)
    else:
        model = open_model(options.model, dtype).to(options.device)
    model.eval()

    def tokens(rows, length):
        return torch.randint(100, model.config.vocab_size, (rows, length), device=options.device)

    def wait():
        if options.device == "cuda":
            torch.cuda.synchronize()

    def report(measure, rows, length, run):
        with torch.no_grad():
            run()
            wait()
            seconds = []
            for _ in range(options.repeats):
                start = time.perf_counter()
                run()
                wait()
                seconds.append(time.perf_counter() - start)
        line = {
            "measure": measure,
            "rows": rows,
            "tokens": length,
            "seconds": [round(value, 4) for value in seconds],
            "tokens_per_second": round(rows * length / statistics.median(seconds), 1),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        print(json.dumps(line), flush=True)

    ids = tokens(1, options.forward)
    report("forward", 1, options.forward, lambda: model(ids, use_cache=False))
    for rows in options.rows:
        prompts = tokens(rows, options.prompt)
        report(
            "generate_base",
            rows,
            options.new_tokens,
            lambda: model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=options.new_tokens,
                min_new_tokens=options.new_tokens,
                do_sample=False,
                pad_token_id=2,
            ),
        )


if __name__ == "__main__":
    main()
