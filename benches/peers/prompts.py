"""How long prompts take in a server that runs: the next turn of a chat, a system prompt in common, a long prompt beside an answer.

    python benches/peers/prompts.py http://127.0.0.1:8080
"""

import json
import random
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

WORDS = "the quick brown fox jumps over a lazy dog while seven birds watch from an old oak tree near the river".split()


def text(words, seed):
    """Words that nobody has read before."""
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) for _ in range(words))


def ask(url, messages, most):
    """When each piece came, in seconds, the text, and the usage."""
    body = {"messages": messages, "max_tokens": most, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    start, times, pieces, usage = time.monotonic(), [], [], None
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            piece = event["choices"] and event["choices"][0]["delta"].get("content")
            if piece:
                times.append(time.monotonic() - start)
                pieces.append(piece)
    return times, "".join(pieces), usage


def user(content):
    return {"role": "user", "content": content}


def main():
    url = sys.argv[1]
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    seed = int(time.time())
    chat = [user(f"Here is a text: {text(300, seed)}. What animals are in it?")]
    first, answer, _ = ask(url, chat, 60)
    chat += [{"role": "assistant", "content": answer}, user("And which of them is the fastest?")]
    second, _, usage = ask(url, chat, 20)
    print(f"first token of a chat's first turn after {first[0]:.2f} s, of its second after {second[0]:.2f} s: {usage}")

    system = {"role": "system", "content": text(490, seed + 1)}
    questions = [user(f"Question {i}: what do the birds watch?") for i in range(8)]
    with ThreadPoolExecutor(len(questions)) as pool:
        # The list raises what a client raised.
        answers = list(pool.map(lambda question: ask(url, [system, question], 16), questions))
    firsts = sorted(times[0] for times, _, _ in answers)
    print(f"first tokens behind a common system prompt after {firsts[0]:.2f} to {firsts[-1]:.2f} s")

    question = [user("Count from one to one thousand in words.")]
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(ask, url, question, 400)
        time.sleep(1)
        long, _, usage = ask(url, [user(text(3950, seed + 2))], 2)
        times, _, _ = beside.result()
    gap = max(b - a for a, b in zip(times, times[1:]))
    print(f"first token behind {usage['prompt_tokens']} tokens after {long[0]:.1f} s; beside it, {gap:.1f} s without one at most")


main()
