"""llama.cpp's server against ours: what `export` writes for it, at four λ.

    python check.py PANACEA
    python check.py PANACEA --run NAME --runs FOLDER --records FILE

PANACEA is the binary. Without --run, the quickstart is trained for a few steps. Every form of adapters is exported and started
with the command line that its README.md says; answers that were given are scored, and new ones are written greedily. Called
from the root of the repository; `cargo xtask ci` does it, in a virtual environment with requirements.txt.
"""

import argparse
import json
import math
import os
import random
import shlex
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import xllamacpp

NEW_TOKENS = 16
RECORDS = 10


def panacea(*arguments):
    """Standard output of a command that succeeds."""
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def post(url, path, body):
    """The answer to a request."""
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def messages(prompt):
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


class LlamaServer:
    """A server of llama.cpp in this process, with 32-bit keys and values."""

    def __init__(self, model, adapters=(), cache_ram=0):
        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), scale) for path, scale in adapters]
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_ctx = 512
        params.n_gpu_layers = 0
        params.fit_params = params.warmup = False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.port = 0
        params.cache_ram_mib = cache_ram
        params.verbosity = 0
        self.server = xllamacpp.Server(params)
        self.url = self.server.listening_address

    def tokens(self, text):
        body = {"content": text, "add_special": False, "parse_special": True}
        return post(self.url, "/tokenize", body)["tokens"]

    def prompt(self, prompt):
        return self.tokens(post(self.url, "/apply-template", {"messages": messages(prompt)})["prompt"])

    def log_prob(self, prompt, response, lora):
        """The sum over the tokens of a response, each asked for behind those before it."""
        total = 0.0
        for i, token in enumerate(response):
            # All of them, so that they can be normalised: the server adds up a vocabulary in 32 bits, from the likeliest down.
            body = {"prompt": prompt + response[:i], "n_predict": 1, "n_probs": 1 << 20, "temperature": 0, "lora": lora}
            top = post(self.url, "/completion", body)["completion_probabilities"][0]["top_logprobs"]
            (found,) = [candidate["logprob"] for candidate in top if candidate["id"] == token]
            total += found - math.log(math.fsum(math.exp(candidate["logprob"]) for candidate in top))
        return total

    def greedy(self, prompt, lora):
        return [token["token"] for token in greedy(self.url, prompt, {"lora": lora})]


def greedy(url, prompt, extra):
    """The tokens of an answer over OpenAI's API, with what `logprobs` says of them."""
    body = {"messages": messages(prompt), "temperature": 0, "max_tokens": NEW_TOKENS, "logprobs": True, **extra}
    choice = post(url, "/v1/chat/completions", body)["choices"][0]
    tokens = choice["logprobs"]["content"]
    # llama.cpp lists the token that ends a turn, without its text.
    is_listed = choice["finish_reason"] == "stop" and [token["token"] for token in tokens[-1:]] == [""]
    return tokens[:-1] if is_listed else tokens


def agree(found, ours, tolerance):
    """Whether tokens are ours, up to one where our two likeliest are as good as equal: what follows is another text."""
    for i, token in enumerate(ours):
        if found[i : i + 1] != [token["token"]]:
            first, second = token["top_logprobs"]
            # Nothing stands where the answer of llama.cpp has ended.
            near = found[i : i + 1] in ([], [first["token"]], [second["token"]])
            return near and first["logprob"] - second["logprob"] < tolerance
    return len(found) == len(ours)


def ended(server):
    """The exit code of a server that is asked to end, and killed where it does not: it may not outlive the check."""
    server.terminate()
    try:
        return server.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def scaled(weights, split):
    """The `lora` array of a request."""
    scales = [1, *weights] if split else weights
    return [{"id": i, "scale": scale} for i, scale in enumerate(scales)]


def started(folder):
    """The server that README.md of an export says how to start, and the scales that it has then."""
    line = next(line for line in (folder / "README.md").read_text().splitlines() if line.startswith("    llama-server "))
    options = dict(zip(shlex.split(line)[1::2], shlex.split(line)[2::2], strict=True))
    model, adapters, cache_ram = (options.pop(name) for name in ["--model", "--lora-scaled", "--cache-ram"])
    assert not options, line
    pairs = [pair.rsplit(":", 1) for pair in adapters.split(",")]
    adapters = [(folder / path, float(scale)) for path, scale in pairs]
    return LlamaServer(folder / model, adapters, int(cache_ram)), [scale for _, scale in adapters]


def check(options, folder):
    """Exports, serves here and there, compares."""
    binary, run = options.panacea.resolve(), ["--run", options.run, "--runs", options.runs]
    model = options.model
    export = [binary, "export", *run, "--model", model]
    forms = {"A": [], "A'": ["--fold"], "B": ["--specialists"]}
    for form, arguments in forms.items():
        panacea(*export, "--format", "llama-lora", *arguments, "--out", folder / form)
    base = Path(model)
    if not base.is_file():
        base = folder / "base.gguf"
        panacea(binary, "export", "--base", "--model", model, "--format", "gguf", "--out", base)
        for form in "AB":
            os.link(base, folder / form / "model.gguf")

    records = [json.loads(line) for line in options.records.read_text().splitlines()]
    records = [{"prompt": record["prompt"], "response": response} for record in records for response in record["responses"]]
    records = random.Random(7).sample(records, RECORDS)
    given = folder / "records.jsonl"
    given.write_text("".join(f"{json.dumps(record)}\n" for record in records))

    serve = [binary, "serve", "--model", model, *run, "--port", "0"]
    ours = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    try:
        url = ours.stdout.readline().removeprefix("listening on ").strip()
        catalogue = json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"]
        (steered,) = [entry for entry in catalogue if entry.get("objectives")]
        (plain,) = [entry["id"] for entry in catalogue if not entry.get("objectives")]
        objectives = steered["objectives"]
        m = len(objectives)
        generator = random.Random(3)
        lambdas = [[float(i == 0) for i in range(m)], [1 / m] * m]
        while len(lambdas) < 4:
            cuts = sorted(generator.random() for _ in range(m - 1))
            lambdas.append([b - a for a, b in zip([0, *cuts], [*cuts, 1])])
        at, likeliest = {"model": steered["id"]}, {"top_logprobs": 2}
        scores = []
        answers = []
        for weights in lambdas:
            preference = ",".join(map(repr, weights))
            output = panacea(
                binary, "score", "--model", model, *run, "--preference", preference, "--input", given
            )
            scores.append([json.loads(line) for line in output.splitlines()])
            answers.append([greedy(url, record["prompt"], {**at, **likeliest, "preference": weights}) for record in records])
        of_base = [greedy(url, record["prompt"], {**likeliest, "model": plain}) for record in records]
    finally:
        code = ended(ours)
    assert code == 0, code
    spread = max(abs(a["sum_logprob"] - b["sum_logprob"]) for a, b in zip(scores[0], scores[2]))
    assert spread > 10 * options.tolerance, f"λ changes nothing: {spread}"

    for form in forms:
        server, scales = started(folder / form)
        split = form == "A"
        uniform = [part["scale"] for part in scaled([1 / m] * m, split)]
        assert scales == uniform, (scales, uniform)
        listed = json.load(urllib.request.urlopen(f"{server.url}/lora-adapters"))
        assert [entry["id"] for entry in listed] == list(range(len(scales))), listed
        assert [entry["task_name"] for entry in listed][-m:] == objectives, listed
        largest = 0.0
        for number, record in enumerate(records):
            prompt = server.prompt(record["prompt"])
            response = server.tokens(record["response"]) + [options.end_of_turn]
            # λ changes from request to request, for the same prompt.
            for weights, score, answer in zip(lambdas, scores, answers):
                lora = scaled(weights, split)
                assert len(response) == score[number]["tokens"], (record, response)
                difference = abs(server.log_prob(prompt, response, lora) - score[number]["sum_logprob"])
                largest = max(largest, difference)
                assert difference < options.tolerance, (form, weights, record, difference)
                found = server.greedy(record["prompt"], lora)
                assert agree(found, answer[number], options.tolerance), (form, weights, record, found, answer[number])
        print(f"form {form}: log-probabilities within {largest:.1e}, the same {NEW_TOKENS} tokens")
    server = LlamaServer(base)
    for record, answer in zip(records, of_base):
        assert agree(server.greedy(record["prompt"], []), answer, options.tolerance), (record, answer)
    print("the model alone: the same tokens")


def main():
    """Trains, if there is no run, and checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panacea", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--model", default="datasets/quickstart/base")
    parser.add_argument("--records", type=Path, default=Path("datasets/quickstart/menus.jsonl"))
    parser.add_argument("--end-of-turn", type=int, default=3, help="the id of the token that ends a turn")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="on log-probabilities")
    options = parser.parse_args()
    # Servers are on this machine, whatever stands in between for others.
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if options.run is None:
            options.run, options.runs = "check", folder / "runs"
            # Few steps, and large ones, so that λ changes much.
            settings = ["--set", "optimizer.learning_rate=3e-2", "--set", "optimizer.batch_size=4"]
            run = ["--run", options.run, "--runs", options.runs]
            panacea(options.panacea.resolve(), "train", "--steps", "12", *settings, *run)
        check(options, folder)
    print(f"llama.cpp (xllamacpp {xllamacpp.__version__}) says the same")


if __name__ == "__main__":
    main()
