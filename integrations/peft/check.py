"""transformers + PEFT against ours: the adapters of `export --format peft-parts`, at four λ.

    python check.py PANACEA
    python check.py PANACEA --run NAME --runs FOLDER --model FOLDER --records FILE

PANACEA is the binary. Without --run, the quickstart is trained for a few steps. The program that the export writes loads the
adapters; answers that were given are scored by it and by `score`. Called from the root of the repository, by hand: PyTorch
is too large for `cargo xtask ci`.
"""

import argparse
import json
import random
import runpy
import subprocess
import tempfile
from pathlib import Path

import peft
import torch
import transformers

# On the sum of the log-probabilities of an answer.
TOLERANCE = 1e-4
RECORDS = 10


def panacea(*arguments):
    """Standard output of a command that succeeds."""
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def log_prob(model, prompt, response):
    """The sum over the tokens of the response."""
    ids = torch.tensor([prompt + response])
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None]).sum().item()


def check(options, folder):
    """Exports, scores here and there, compares."""
    binary, run = options.panacea.resolve(), ["--run", options.run, "--runs", options.runs, "--model", options.model]
    parts = folder / "parts"
    panacea(binary, "export", *run, "--format", "peft-parts", "--out", parts)
    records = [json.loads(line) for line in options.records.read_text().splitlines()]
    records = [{"prompt": record["prompt"], "response": response} for record in records for response in record["responses"]]
    records = random.Random(7).sample(records, RECORDS)
    given = folder / "records.jsonl"
    given.write_text("".join(f"{json.dumps(record)}\n" for record in records))

    loaded = runpy.run_path(str(parts / "load.py"))
    model, steer, m = loaded["model"].eval(), loaded["steer"], len(loaded["OBJECTIVES"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)

    def tokens(record):
        prompt = record["prompt"]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        response = tokenizer(record["response"], add_special_tokens=False).input_ids
        return tokenizer(text, add_special_tokens=False).input_ids, [*response, tokenizer.eos_token_id]

    generator = random.Random(3)
    lambdas = [[float(i == 0) for i in range(m)], [1 / m] * m]
    while len(lambdas) < 4:
        cuts = sorted(generator.random() for _ in range(m - 1))
        lambdas.append([b - a for a, b in zip([0, *cuts], [*cuts, 1])])
    largest, sums = 0.0, []
    for weights in lambdas:
        preference = ",".join(map(repr, weights))
        output = panacea(binary, "score", *run, "--preference", preference, "--input", given)
        steer(weights)
        sums.append([])
        for record, line in zip(records, output.splitlines(), strict=True):
            prompt, response = tokens(record)
            score = json.loads(line)
            assert len(response) == score["tokens"], (record, response, score)
            sums[-1].append(log_prob(model, prompt, response))
            difference = abs(sums[-1][-1] - score["sum_logprob"])
            largest = max(largest, difference)
            assert difference < TOLERANCE, (weights, record, difference)
    spread = max(abs(a - b) for a, b in zip(sums[0], sums[1]))
    assert spread > 100 * TOLERANCE, f"λ changes nothing: {spread}"
    print(f"peft {peft.__version__} says the same: log-probabilities within {largest:.1e}, which λ moves by up to {spread:.2f}")


def main():
    """Trains, if there is no run, and checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panacea", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--model", default="datasets/quickstart/base")
    parser.add_argument("--records", type=Path, default=Path("datasets/quickstart/menus.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if options.run is None:
            options.run, options.runs = "check", folder / "runs"
            # Few steps, and large ones, so that λ changes much.
            settings = ["--set", "optimizer.learning_rate=3e-2", "--set", "optimizer.batch_size=4"]
            run = ["--run", options.run, "--runs", options.runs]
            panacea(options.panacea.resolve(), "train", "--steps", "12", *settings, *run)
        check(options, folder)


main()
