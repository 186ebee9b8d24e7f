"""llama.cpp's server with adapters, until it is interrupted, to be asked by the bench `load`.

    python benches/peers/llama_cpp_serve.py MODEL.gguf LORA [--port 8081] [--threads 2] [--places 16] [--context 512]

LORA is a folder of `cargo xtask export --format llama-lora`. Needs xllamacpp.
"""

import argparse
import signal
from pathlib import Path

import llama_cpp

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=Path)
parser.add_argument("lora", type=Path)
parser.add_argument("--port", type=int, default=8081)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--places", type=int, default=16)
parser.add_argument("--context", type=int, default=512)
options = parser.parse_args()
server = llama_cpp.server(options.model, options.lora, options.places, options.context, options.threads, options.port)
print(f"listening on {server.listening_address}", flush=True)
signal.pause()
