"""Seconds that llama.cpp takes to continue 1 and 8 prompts of two tokens, with adapters, over its server's HTTP.

    python benches/peers/llama_cpp_generate.py MODEL.gguf LORA [--tokens 33] [--threads 2] [--repeats 3]

LORA is a folder of `cargo xtask export --format llama-lora`; its scales are those of the README.md in it. Needs xllamacpp.
"""

import argparse
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llama_cpp


def complete(url, row, tokens):
    """Continues a prompt by exactly so many tokens."""
    body = {"prompt": [100 + 7 * row, 101 + 7 * row], "n_predict": tokens, "temperature": 0}
    body |= {"ignore_eos": True, "cache_prompt": False}
    request = urllib.request.Request(f"{url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        found = json.load(answer)["tokens_predicted"]
    assert found == tokens, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("lora", type=Path)
    parser.add_argument("--tokens", type=int, default=33)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    started = llama_cpp.server(options.model, options.lora, places=8, context=256, threads=options.threads)
    url = started.listening_address
    complete(url, 0, 8)
    for rows in [1, 8]:
        seconds = []
        for _ in range(options.repeats):
            with ThreadPoolExecutor(rows) as pool:
                start = time.monotonic()
                # The list raises what a client raised: one that failed is not timed.
                list(pool.map(lambda row: complete(url, row, options.tokens), range(rows)))
                seconds.append(time.monotonic() - start)
        print(json.dumps({"rows": rows, "tokens": options.tokens, "seconds": seconds}))


main()
