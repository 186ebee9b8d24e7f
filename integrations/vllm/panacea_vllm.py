"""A LoRA resolver for vLLM: a request for the model `NAME@0.3,0.7` is answered at λ = (0.3, 0.7).

vLLM serves one LoRA a request. An adapter of Panacea at one λ is such a LoRA, of rank k + m, so this writes its folder when
the first request asks for that λ, from what `cargo xtask export --format peft-parts` has written. docs/elsewhere.md says how
it is set up; these environment variables do it:

PANACEA_PARTS      NAME=FOLDER, several with commas between: the folders of `export --format peft-parts`.
PANACEA_LORAS      The folder for what is written. Every process of vLLM has to see it.
PANACEA_MOST       LoRAs that may be kept of each NAME; 1000 by default.
PANACEA_ANY_BASE   1 where vLLM knows the base model by another name than the export: it is not compared then.
"""

import asyncio
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import numpy
from safetensors.numpy import load_file, save_file

LOG = logging.getLogger("vllm.panacea")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
USUAL_MOST = 1000
# Bytes of a folder's name.
LONGEST_NAME = 200


class NotReady(Exception):
    """What those who run vLLM have to put right, and who asks need not know."""


class Parts:
    """The LoRAs whose sum, each times its weight, is the adapter at λ."""

    def __init__(self, folder):
        folder = Path(folder)
        index = index_of(folder)
        parts = json.loads(index.read_text(encoding="utf-8"))
        self.objectives = [objective["name"] for objective in parts["objectives"]]
        names = [objective["folder"] for objective in parts["objectives"]]
        if parts["base"] is not None:
            names.insert(0, parts["base"])
        self.has_base = parts["base"] is not None
        self.configs, self.tensors = [], []
        digest = hashlib.sha256(index.read_bytes())
        for name in names:
            config, tensors = folder / name / "adapter_config.json", folder / name / "adapter_model.safetensors"
            self.configs.append(json.loads(config.read_text(encoding="utf-8")))
            self.tensors.append(load_file(tensors))
            for file in (config, tensors):
                digest.update(file.read_bytes())
        self.base_model = self.configs[0]["base_model_name_or_path"]
        # What was written from other parts is never taken for these.
        self.fingerprint = digest.hexdigest()[:16]

    def at(self, weights):
        """The LoRA at λ: its tensors and its configuration.

        Σ w_i B_i A_i is one product: the A below each other, times the w_i B_i beside each other.
        """
        weights = [1.0, *weights] if self.has_base else weights
        factors = [w * c["lora_alpha"] / c["r"] for w, c in zip(weights, self.configs, strict=True)]
        tensors = {}
        for key in self.tensors[0]:
            if key.endswith(".lora_A.weight"):
                tensors[key] = numpy.concatenate([part[key] for part in self.tensors], axis=0)
            else:
                pairs = zip(self.tensors, factors, strict=True)
                scaled = [part[key].astype(numpy.float64) * factor for part, factor in pairs]
                tensors[key] = numpy.concatenate(scaled, axis=1).astype(numpy.float32)
        rank = sum(config["r"] for config in self.configs)
        return tensors, {**self.configs[0], "r": rank, "lora_alpha": rank}


def index_of(folder):
    """The file that says which folder is which part."""
    index = Path(folder) / "parts.json"
    if not index.is_file():
        raise NotReady(f"{folder} has no parts.json: `cargo xtask export --format peft-parts` writes such a folder")
    return index


def preference(text, objectives):
    """λ of a text like `0.2,0.8` or `brevity=2,detail=1`: weights that are finite, at least 0 and not all 0, by their sum.

    An objective without a name has 0."""
    listed, m = ", ".join(objectives), len(objectives)
    given = [part.strip() for part in text.split(",")]
    if all("=" in part for part in given):
        by_name = {}
        for part in given:
            name, number = (side.strip() for side in part.split("=", 1))
            if name not in objectives:
                raise ValueError(f"there is no objective `{name}`; there are {listed}")
            if name in by_name:
                raise ValueError(f"objective `{name}` has two weights")
            by_name[name] = number
        given = [by_name.get(name, "0") for name in objectives]
    elif any("=" in part for part in given):
        raise ValueError(f"`{text}`: give every weight a name, as in `a=0.2,b=0.8`, or none, as in `0.2,0.8`")
    if len(given) != m:
        raise ValueError(f"the preference {text} has {len(given)} weight(s), but there are {m} objective(s): {listed}")
    weights = []
    for position, number in enumerate(given, 1):
        if not NUMBER.fullmatch(number):
            raise ValueError(f"preference weight {position} is `{number}`, which is not a number ≥ 0")
        weights.append(float(number))
        if not math.isfinite(weights[-1]) or weights[-1] < 0:
            raise ValueError(f"preference weight {position} is {number}; every weight must be a finite number ≥ 0")
    if not any(weights):
        raise ValueError(f"the preference weights {text} are all 0; they must sum to 1")
    return normalised(weights)


def normalised(weights):
    """Weights by their sum, as our server divides them: added from left to right, and left alone where they sum to 1."""
    total = added(weights)
    if not math.isfinite(total) or total < sys.float_info.min:
        largest = max(weights)
        weights = [w / largest for w in weights]
        total = added(weights)
    if abs(total - 1.0) > len(weights) * sys.float_info.epsilon:
        weights = [w / total for w in weights]
    # -0.0 is 0.
    return [w + 0.0 for w in weights]


def added(weights):
    """Not `sum`, which newer Pythons compensate."""
    total = 0.0
    for weight in weights:
        total += weight
    return total


class Loras:
    """The LoRAs of one NAME: a folder for each λ, which stays as it is once it is there.

    vLLM keeps keys and values by the name of a LoRA and reads the folder again whenever it has dropped its tensors, so that
    no folder is changed or removed here, and a name always means the same λ.
    """

    def __init__(self, name, parts, folder, most=USUAL_MOST):
        self.name = name
        self.parts = parts
        self.folder = Path(folder).resolve() / f"{name}-{parts.fingerprint}"
        self.most = most
        self.lock = threading.Lock()

    def path(self, text):
        """The folder of the LoRA at λ = `text`, which is written where it is not there."""
        weights = preference(text, self.parts.objectives)
        exact = ",".join(map(repr, weights))
        name = exact if len(exact) <= LONGEST_NAME else hashlib.sha256(exact.encode()).hexdigest()
        target = self.folder / name
        with self.lock:
            if not target.is_dir():
                self.write(target, weights)
        return target

    def write(self, target, weights):
        """Beside its place, and renamed: another process may write the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = sum(not entry.name.startswith(".") for entry in self.folder.iterdir())
        if kept >= self.most:
            raise ValueError(
                f"{self.name} has been asked for at {kept} λ, which are all that PANACEA_MOST allows: ask at λ of a grid"
            )
        tensors, config = self.parts.at(weights)
        partial = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        try:
            partial.chmod(0o755)
            save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
            (partial / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            named = dict(zip(self.parts.objectives, weights, strict=True))
            (partial / "preference.json").write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
            try:
                partial.rename(target)
            except OSError:
                # The other process was faster, and wrote the same.
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


class Adapters:
    """All NAMEs that are served, each read when it is first asked for.

    A ValueError is about what was asked for.
    """

    def __init__(self, parts, folder, most=USUAL_MOST, any_base=False):
        self.parts = parts
        self.folder = folder
        self.most = most
        self.any_base = any_base
        self.opened = {}
        self.lock = threading.Lock()

    @classmethod
    def from_environment(cls, environment):
        """None where nothing is set."""
        given = environment.get("PANACEA_PARTS")
        if not given:
            return None
        parts = {}
        for entry in given.split(","):
            name, equals, folder = entry.strip().partition("=")
            if not (name and equals and folder) or any(letter in name for letter in "@/\\") or name.startswith("."):
                raise NotReady(f"PANACEA_PARTS: `{entry}`, expected NAME=FOLDER, without `@` or `/` in NAME")
            if name in parts:
                raise NotReady(f"PANACEA_PARTS has two folders for {name}")
            index_of(folder)
            parts[name] = folder
        folder = environment.get("PANACEA_LORAS")
        if not folder:
            raise NotReady("PANACEA_LORAS is not set: expected the folder for the LoRAs that are written")
        most = environment.get("PANACEA_MOST", str(USUAL_MOST))
        if not most.isdecimal() or int(most) == 0:
            raise NotReady(f"PANACEA_MOST is `{most}`, expected a number above 0")
        return cls(parts, folder, int(most), environment.get("PANACEA_ANY_BASE") == "1")

    def path(self, base_model, asked):
        """The folder of the LoRA that `asked` is, or None where it is none of ours."""
        name, at, text = asked.partition("@")
        if not at or name not in self.parts:
            return None
        with self.lock:
            if name not in self.opened:
                self.opened[name] = Loras(name, Parts(self.parts[name]), self.folder, self.most)
            loras = self.opened[name]
        if not self.any_base and not is_same(base_model, loras.parts.base_model):
            raise NotReady(
                f"{name} was exported for the base model {loras.parts.base_model}, but vLLM serves {base_model}: "
                "export it with --base-name as vLLM is given it, or set PANACEA_ANY_BASE=1 where it is the same model"
            )
        return loras.path(text)


def is_same(served, exported):
    """Whether two names are one model: the same text, the same folder, or a folder that `cargo xtask fetch` has filled."""
    if exported is None or served == exported:
        return exported is not None
    if not os.path.exists(served):
        return False
    if os.path.exists(exported) and os.path.samefile(served, exported):
        return True
    try:
        origin = json.loads(Path(served, "origin.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(origin, dict) and origin.get("repository") == exported


def register():
    """What vLLM calls when it starts, in each of its processes."""
    adapters = Adapters.from_environment(os.environ)
    if adapters is None:
        return
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    class PanaceaResolver(LoRAResolver):
        """λ by the name of the model."""

        async def resolve_lora(self, base_model_name, lora_name):
            try:
                path = await asyncio.to_thread(adapters.path, base_model_name, lora_name)
            except (OSError, NotReady) as error:
                # vLLM answers with the text of a ValueError; the names of folders are nobody's business.
                LOG.error("%s: %s", lora_name, error)
                raise ValueError(f"{lora_name} cannot be served; the log of vLLM says why") from None
            if path is None:
                return None
            # vLLM gives it a number of its own.
            number = int.from_bytes(hashlib.sha256(lora_name.encode()).digest()[:4], "big") + 1
            return LoRARequest(lora_name=lora_name, lora_int_id=number, lora_path=str(path))

    if "Panacea" not in LoRAResolverRegistry.get_supported_resolvers():
        LoRAResolverRegistry.register_resolver("Panacea", PanaceaResolver())
