"""What the scripts about llama.cpp share: its server in this process, with the adapters of an export. Needs xllamacpp."""

import shlex

import xllamacpp


def adapters(folder):
    """The adapters, with the scales that the exported command line has."""
    line = next(line for line in (folder / "README.md").read_text().splitlines() if line.startswith("    llama-server "))
    options = dict(zip(shlex.split(line)[1::2], shlex.split(line)[2::2], strict=True))
    pairs = [pair.rsplit(":", 1) for pair in options["--lora-scaled"].split(",")]
    return [xllamacpp.CommonAdapterLoraInfo(str(folder / path), float(scale)) for path, scale in pairs]


def server(model, lora, places, context, threads, port=0):
    """A server that answers `places` requests at once, of `context` tokens each at most."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.lora_adapters = adapters(lora)
    params.n_parallel, params.n_ctx = places, places * context
    params.n_gpu_layers = 0
    params.fit_params = params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.port = port
    params.cache_ram_mib = params.verbosity = 0
    return xllamacpp.Server(params)
