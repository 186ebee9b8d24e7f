"""vLLM's resolver plug-in against ours: the LoRAs that it writes, at several λ.

    python check.py PANACEA
    python check.py PANACEA --peft
    python check.py PANACEA --vllm
    python check.py PANACEA --serve

PANACEA is the binary; the quickstart is trained for a few steps. What is written has to be what `export --format peft` writes
at that λ; that much takes numpy and safetensors, and `cargo xtask ci` runs it. --peft: transformers and PEFT load it, and
log-probabilities are those of `score`. --vllm: vLLM finds the plug-in by its entry point, asks it, and reads what it wrote;
--serve: a server of vLLM answers, and its log-probabilities are those of `score`. For these two the plug-in is installed
(`pip install integrations/vllm`), with vLLM or its build for CPUs. Called from the root of the repository.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy
from safetensors.numpy import load_file

# It stands among the sources.
sys.dont_write_bytecode = True
import panacea_vllm

BASE = "datasets/quickstart/base"
RECORDS = Path("datasets/quickstart/menus.jsonl")
# Of a number of a LoRA, relative to the largest of its matrix: both are rounded to 32 bits.
ROUNDING = 1e-6
# On the sum of the log-probabilities of an answer.
TOLERANCE = 1e-4


def panacea(*arguments):
    """Standard output of a command that succeeds."""
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def lambdas(m):
    """Each objective alone, all alike, and two at random."""
    generator = random.Random(3)
    found = [[float(i == j) for i in range(m)] for j in range(m)] + [[1 / m] * m]
    for _ in range(2):
        cuts = sorted(generator.random() for _ in range(m - 1))
        found.append(panacea_vllm.normalised([b - a for a, b in zip([0, *cuts], [*cuts, 1])]))
    return found


def text(weights):
    return ",".join(map(repr, weights))


def update(folder):
    """The change of every weight, and how many columns it is written with."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    changes = {}
    for key, a in tensors.items():
        if key.endswith(".lora_A.weight"):
            b = tensors[key.replace(".lora_A.", ".lora_B.")]
            assert a.shape[0] == b.shape[1] == config["r"], (key, a.shape, b.shape, config)
            changes[key] = config["lora_alpha"] / config["r"] * (b.astype(numpy.float64) @ a.astype(numpy.float64))
    assert 2 * len(changes) == len(tensors)
    return changes, config


class Run:
    """A run of the quickstart, and its parts."""

    def __init__(self, options, folder, name, *settings):
        self.binary, self.folder, self.name = options.panacea.resolve(), folder, name
        self.run = ["--run", name, "--runs", folder / "runs", "--model", BASE]
        panacea(self.binary, "train", "--run", name, "--runs", folder / "runs", "--set", "optimizer.learning_rate=3e-2",
                "--set", "optimizer.batch_size=4", *settings)
        self.parts = folder / f"{name}-parts"
        self.export("--format", "peft-parts", "--out", self.parts)

    def export(self, *arguments):
        panacea(self.binary, "export", *self.run, *arguments)

    def adapters(self, **settings):
        return panacea_vllm.Adapters({self.name: str(self.parts)}, self.folder / "loras", **settings)

    def scores(self, weights, given):
        lines = panacea(self.binary, "score", *self.run, "--preference", text(weights), "--input", given).splitlines()
        return [json.loads(line)["sum_logprob"] for line in lines]


def check_folders(run):
    """Every λ is what `export` writes at it, once, under whatever name it is asked for."""
    adapters = run.adapters()
    objectives = panacea_vllm.Parts(run.parts).objectives
    m = len(objectives)
    seen, largest = set(), 0.0
    for weights in lambdas(m):
        path = adapters.path(BASE, f"{run.name}@{text(weights)}")
        expected = run.folder / f"{run.name}-{len(seen)}"
        run.export("--preference", text(weights), "--format", "peft", "--out", expected)
        (found, config), (exact, other) = update(path), update(expected)
        assert found.keys() == exact.keys() and set(config) == set(other), (config, other)
        assert config["target_modules"] == other["target_modules"]
        for key, change in exact.items():
            difference = abs(found[key] - change).max() / abs(change).max()
            largest = max(largest, difference)
            assert difference < ROUNDING, (weights, key, difference)
        before = path.stat().st_mtime_ns
        assert run.adapters().path(BASE, f"{run.name}@{text(weights)}") == path
        assert path.stat().st_mtime_ns == before, "it was written again"
        assert json.loads((path / "preference.json").read_text()) == dict(zip(objectives, weights))
        seen.add(path)
    assert len(seen) == len(lambdas(m))
    return largest


def check_names(run):
    """Which names are ours, which are refused and why, and that many who ask at once get one folder."""
    adapters, name = run.adapters(), run.name
    equal = adapters.path(BASE, f"{name}@1,1")
    for other in ["0.5,0.5", "2e-1, .2", "brevity=4,detail=4", "detail=1, brevity=1.0", "1e308,1e308", "5e-324,5e-324"]:
        assert adapters.path(BASE, f"{name}@{other}") == equal, other
    assert adapters.path(BASE, f"{name}@0.5,0.5000001") != equal
    for foreign in [name, "other@0.5,0.5", "datasets/quickstart/base", f"x{name}@1,1", "@1,1", ""]:
        assert adapters.path(BASE, foreign) is None, foreign
    for refused, part in [
        ("", "has 1 weight(s), but there are 2"), ("1", "has 1 weight(s)"), ("1,0,0", "has 3 weight(s)"), ("0,0", "all 0"),
        ("1,x", "weight 2 is `x`"), ("1,-1", "weight 2 is -1"), ("nan,1", "weight 1 is `nan`"), ("inf,1", "weight 1 is `inf`"),
        ("1e999,1", "finite"), ("1_0,1", "`1_0`"), ("brevity=0", "all 0"),
        ("brevity=1,detail=1,brevity=2", "two weights"), ("brevity=1,tone=1", "no objective `tone`"),
        ("brevity=1,1", "every weight a name"), ("../x,1", "`../x`"),
    ]:
        try:
            found = adapters.path(BASE, f"{name}@{refused}")
        except ValueError as error:
            assert part in str(error), (refused, error)
        else:
            raise AssertionError(f"{refused} is not refused: {found}")
    for wrong, part in [
        (lambda: adapters.path("another/model", f"{name}@1,1"), "was exported for the base model"),
        (lambda: run.adapters(most=1).path(BASE, f"{name}@7,1"), "all that PANACEA_MOST allows"),
        (lambda: panacea_vllm.Parts(run.folder), "parts.json"),
        (lambda: panacea_vllm.Adapters.from_environment({"PANACEA_PARTS": "a@b=c"}), "NAME=FOLDER"),
        (lambda: panacea_vllm.Adapters.from_environment({"PANACEA_PARTS": "a=nowhere"}), "nowhere has no parts.json"),
        (lambda: panacea_vllm.Adapters.from_environment({"PANACEA_PARTS": f"a={run.parts}"}), "PANACEA_LORAS is not set"),
    ]:
        try:
            wrong()
        except (ValueError, panacea_vllm.NotReady) as error:
            assert part in str(error), error
        else:
            raise AssertionError(f"not refused: {part}")
    assert run.adapters(any_base=True).path("another/model", f"{name}@1,1") == equal
    assert panacea_vllm.Adapters.from_environment({}) is None

    paths, asked = [], f"{name}@5,3"
    threads = [threading.Thread(target=lambda: paths.append(run.adapters().path(BASE, asked))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8 and len(set(paths)) == 1, paths
    left = [entry.name for entry in equal.parent.iterdir() if entry.name.startswith(".")]
    assert not left, left


class Texts:
    """Answers that were given, as tokens."""

    def __init__(self, folder):
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
        records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
        records = [{"prompt": record["prompt"], "response": said} for record in records for said in record["responses"]]
        records = random.Random(7).sample(records, 6)
        self.given = folder / "records.jsonl"
        self.given.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        self.tokens = []
        for record in records:
            prompt = record["prompt"]
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            response = tokenizer(record["response"], add_special_tokens=False).input_ids
            self.tokens.append((tokenizer(prompt, add_special_tokens=False).input_ids, [*response, tokenizer.eos_token_id]))

    def compare(self, run, log_prob):
        """The largest difference between `log_prob(weights, prompt, response)` and `score`, and how far λ moves them."""
        sums, largest = [], 0.0
        for weights in lambdas(2):
            found = [log_prob(weights, prompt, response) for prompt, response in self.tokens]
            differences = [abs(a - b) for a, b in zip(found, run.scores(weights, self.given), strict=True)]
            # Each by itself: the largest of all may leave out what is not a number.
            assert all(difference < TOLERANCE for difference in differences), (weights, differences)
            largest = max(largest, *differences)
            sums.append(found)
        spread = max(abs(a - b) for a, b in zip(sums[0], sums[1]))
        assert spread > 100 * TOLERANCE, f"λ changes nothing: {spread}"
        return f"log-probabilities within {largest:.1e}, which λ moves by up to {spread:.2f}"


def check_peft(run):
    """transformers and PEFT load what is written."""
    import peft
    import torch
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    adapters, loaded = run.adapters(), {}

    def log_prob(weights, prompt, response):
        name = f"lora{lambdas(2).index(weights)}"
        path = str(adapters.path(BASE, f"{run.name}@{text(weights)}"))
        if not loaded:
            loaded["model"] = peft.PeftModel.from_pretrained(base, path, adapter_name=name).eval()
        elif name not in loaded["model"].peft_config:
            loaded["model"].load_adapter(path, adapter_name=name)
        loaded["model"].set_adapter(name)
        ids = torch.tensor([prompt + response])
        with torch.no_grad():
            logits = loaded["model"](ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double()
        return logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None]).sum().item()

    print(f"peft {peft.__version__} loads it: {Texts(run.folder).compare(run, log_prob)}")


def environment(run):
    return {"PANACEA_PARTS": f"{run.name}={run.parts}", "PANACEA_LORAS": str(run.folder / "loras"), "VLLM_PLUGINS": "panacea"}


def check_vllm(run):
    """vLLM's own registry finds the plug-in by its entry point, and vLLM's own reader takes what it wrote."""
    os.environ.update(environment(run))
    import vllm
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper
    from vllm.lora.resolver import LoRAResolverRegistry
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    resolver = LoRAResolverRegistry.get_resolver("Panacea")

    def resolve(name, base=BASE):
        return asyncio.run(resolver.resolve_lora(base, name))

    for weights in lambdas(2):
        name = f"{run.name}@{text(weights)}"
        request = resolve(name)
        assert (request.lora_name, Path(request.lora_path).name) == (name, text(weights)), request
        assert request.lora_int_id > 0
        helper = PEFTHelper.from_local_dir(request.lora_path, 256)
        helper.validate_legal(LoRAConfig(max_lora_rank=16, max_loras=1))
        tensors = load_file(Path(request.lora_path) / "adapter_model.safetensors")
        modules = {key.split(".")[-3] for key in tensors}
        lora = LoRAModel.from_local_checkpoint(
            request.lora_path, modules, helper, lora_model_id=request.lora_int_id, device="cpu"
        )
        assert 2 * len(lora.loras) == len(tensors)
        for module, weight in lora.loras.items():
            # What vLLM computes: its scaling may be multiplied into B already.
            change = weight.scaling * (weight.lora_b.double() @ weight.lora_a.double()).numpy()
            expected, _ = update(Path(request.lora_path))
            expected = expected[f"base_model.model.{module}.lora_A.weight"]
            assert abs(change - expected).max() <= ROUNDING * abs(expected).max(), module
    assert resolve("somebody/else") is None
    for base, name, part in [(BASE, f"{run.name}@1,2,3", "but there are 2"), ("other", f"{run.name}@1,1", "log of vLLM")]:
        try:
            resolve(name, base)
        except ValueError as error:
            assert part in str(error), error
        else:
            raise AssertionError(f"{name} on {base} is not refused")
    print(f"vllm {vllm.__version__} finds the resolver, and reads what it writes")


def post(url, body):
    """The status and the answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def check_serve(run):
    """A server of vLLM answers under every λ, and keeps them apart."""
    import vllm

    # The server is on this machine, whatever stands in between for others.
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", BASE, "--dtype", "float32",
               "--enable-lora", "--max-lora-rank", "16", "--max-loras", "2", "--max-cpu-loras", "2", "--max-model-len", "256",
               "--enforce-eager", "--enable-prefix-caching", "--host", "127.0.0.1", "--port", str(port)]
    settings = {**os.environ, **environment(run), "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    log = (run.folder / "vllm.log").open("w+")
    server = subprocess.Popen(command, env=settings, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 900
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                log.seek(0)
                assert server.poll() is None and time.monotonic() < deadline, log.read()[-4000:]
                time.sleep(1)

        def log_prob(weights, prompt, response):
            body = {"model": f"{run.name}@{text(weights)}", "prompt": prompt + response, "max_tokens": 1, "prompt_logprobs": 0}
            status, answer = post(f"{url}/v1/completions", body)
            assert status == 200, answer
            found = answer["choices"][0]["prompt_logprobs"][len(prompt) :]
            return sum(tokens[str(token)]["logprob"] for token, tokens in zip(response, found, strict=True))

        texts = Texts(run.folder)
        said = texts.compare(run, log_prob)
        # More λ than vLLM keeps in memory, by turns, with the keys and values of the same prompts.
        for prompt, _ in texts.tokens[:2]:
            answers = {}
            for turn in range(2):
                for weights in lambdas(2):
                    body = {"model": f"{run.name}@{text(weights)}", "prompt": prompt, "max_tokens": 12, "temperature": 0,
                            "logprobs": 0, "return_token_ids": True}
                    status, answer = post(f"{url}/v1/completions", body)
                    assert status == 200, answer
                    choice = answer["choices"][0]
                    tokens, found = choice["token_ids"], sum(choice["logprobs"]["token_logprobs"])
                    assert answers.setdefault(text(weights), tokens) == tokens, (turn, weights)
                    assert abs(log_prob(weights, prompt, tokens) - found) < TOLERANCE, (turn, weights)
        refused = [(f"{run.name}@1,2,3", 400, "but there are 2 objective(s)"), ("nobody@1,2", 404, "does not exist")]
        for name, expected, part in refused:
            status, answer = post(f"{url}/v1/completions", {"model": name, "prompt": [1], "max_tokens": 1})
            assert status == expected and part in answer["error"]["message"], answer
        print(f"a server of vllm {vllm.__version__} says the same: {said}")
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main():
    """Trains, and checks what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panacea", type=Path)
    for flag in ["--peft", "--vllm", "--serve"]:
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        run = Run(options, folder, "check", "--steps", "12")
        largest = check_folders(run)
        soup = Run(options, folder, "soup", "--steps", "2", "--set", 'method.name="rewarded_soups"')
        largest = max(largest, check_folders(soup))
        check_names(run)
        print(f"LoRAs for vLLM are those of export: within {largest:.1e} of the largest number of a matrix")
        for is_asked, check in [(options.peft, check_peft), (options.vllm, check_vllm), (options.serve, check_serve)]:
            if is_asked:
                check(run)


main()
