#!/usr/bin/env python3
"""Products of a training step's shapes in PyTorch on an NVIDIA GPU, for the side by side with `gemm`.

    python torch_gemm.py
    python torch_gemm.py --operands f32

Prints one JSON line a product: {"product", "shape", "seconds", "value"}, the value in units of 10^12 operations a second.
"""

import argparse
import json
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operands", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--rows", type=int, default=8192, help="rows of the activations (default 8192)")
    parser.add_argument("--hidden", type=int, default=4096, help="width of the model (default 4096)")
    parser.add_argument("--intermediate", type=int, default=14336, help="width of its MLP (default 14336)")
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu, which is good for trying the script only")
    options = parser.parse_args()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "error: torch finds no CUDA device; --device cpu tries the script without one\n")
    wait = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[options.operands]
    rows, hidden, intermediate = options.rows, options.hidden, options.intermediate
    for name, (m, k, n) in {
        "x W^T of attention": (rows, hidden, hidden),
        "x W^T up": (rows, hidden, intermediate),
        "x W^T down": (rows, intermediate, hidden),
        "x V": (rows, hidden, 10),
        "p U^T": (rows, 10, hidden),
    }.items():
        a = torch.randn(m, k, device=options.device, dtype=dtype)
        b = torch.randn(n, k, device=options.device, dtype=dtype).t()
        for _ in range(3):
            a @ b
        wait()
        start = time.perf_counter()
        for _ in range(20):
            a @ b
        wait()
        seconds = (time.perf_counter() - start) / 20
        rate = 2 * m * k * n / seconds / 1e12
        print(json.dumps({"product": name, "shape": [m, k, n], "seconds": seconds, "value": rate}), flush=True)


if __name__ == "__main__":
    main()
