"""The official OpenAI client against the server: whole and streamed answers, with and without a preference.

    python check.py PANACEA

PANACEA is the binary. A run of the quickstart is trained for a few steps, served on a free port, and asked. Called from the
root of the repository; `cargo xtask ci` does it, in a virtual environment with requirements.txt.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

BASE = "datasets/quickstart/base"
PROMPT = [{"role": "user", "content": "how do birds fly?"}]


def check(client, base):
    """Asks in every way that the client has."""
    models = client.models.list().data
    assert [model.id for model in models] == ["check", base], models
    # Fields that the client does not know are kept.
    assert models[0].objectives == ["brevity", "detail"], models[0]

    def ask(weight, **options):
        extra = {"preference": {"brevity": weight, "detail": 1 - weight}}
        return client.chat.completions.create(
            model="check", messages=PROMPT, temperature=0, max_tokens=24, extra_body=extra, **options
        )

    # Each of many clients gets the answer of its own preference.
    weights = [i / 10 for i in range(11)]
    alone = [ask(weight).choices[0].message.content for weight in weights]
    # Most answers tell their λ, and above all the three that are asked for in other ways below.
    assert len({alone[2], alone[5], alone[8]}) == 3 and len(set(alone)) >= 6, f"λ changes too little: {alone}"
    with ThreadPoolExecutor(11) as pool:
        together = list(pool.map(ask, weights))
    for weight, answer, text in zip(weights, together, alone):
        assert answer.choices[0].message.content == text, (weight, answer, text)
        assert abs(answer.preference["brevity"] - weight) < 1e-12, answer
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    # The same, streamed.
    chunks = list(ask(0.2, stream=True, stream_options={"include_usage": True}))
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == alone[2], (pieces, alone[2])
    assert chunks[-1].usage == together[2].usage, chunks[-1]
    with client.chat.completions.stream(
        model="check@0.2,0.8", messages=PROMPT, temperature=0, max_tokens=24
    ) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
    assert "".join(pieces) == alone[2], (pieces, alone[2])

    # By header, and by the model's name; then without any preference, which is the uniform one.
    by_header = client.chat.completions.with_raw_response.create(
        model="check", messages=PROMPT, temperature=0, max_tokens=24, extra_headers={"X-Preference": "brevity=8,detail=2"}
    ).parse()
    assert by_header.choices[0].message.content == alone[8], by_header
    plain = client.chat.completions.create(model="check", messages=PROMPT, temperature=0, max_tokens=24)
    assert plain.choices[0].message.content == alone[5], plain

    # A second turn holds the first answer as the client gives it.
    turns = [*PROMPT, plain.choices[0].message, {"role": "user", "content": "and bats?"}]
    second = client.chat.completions.create(model="check", messages=turns, temperature=0, max_tokens=4)
    assert second.usage.prompt_tokens > plain.usage.total_tokens, second
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert plain.usage.prompt_tokens <= cached < second.usage.prompt_tokens, second

    # Several answers, log-probabilities, stop strings; texts without a template.
    several = client.chat.completions.create(
        model="check", messages=PROMPT, n=3, seed=1, max_tokens=8, logprobs=True, top_logprobs=2
    )
    assert len(several.choices) == 3
    for choice in several.choices:
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content), choice
    text = client.completions.create(model=base, prompt="how do", max_tokens=6, temperature=0, logprobs=1)
    assert len(text.choices[0].logprobs.tokens) == text.usage.completion_tokens, text
    streamed = client.completions.create(model=base, prompt="how do", max_tokens=6, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == text.choices[0].text

    # Mistakes are the client's own kinds of errors, with the field.
    for kind, options in [
        (openai.BadRequestError, {"extra_body": {"preference": {"tone": 1}}}),
        (openai.BadRequestError, {"extra_body": {"prefrence": [1, 1]}}),
        (openai.NotFoundError, {"model": "nobody"}),
    ]:
        try:
            client.chat.completions.create(**{"model": "check", "messages": PROMPT, **options})
        except kind as error:
            assert error.param, error
        else:
            raise AssertionError(f"{options} was answered")


def ended(server):
    """The exit code of a server that is asked to end, and killed where it does not: it may not outlive the check."""
    server.terminate()
    try:
        return server.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def main():
    """Trains, serves, asks."""
    binary = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as runs:
        # The server is on this machine, whatever stands in between for others.
        os.environ["NO_PROXY"] = "127.0.0.1"
        train = [binary, "train", "--steps", "12", "--run", "check", "--runs", runs]
        # Few steps, and large ones that are hardly held back, so that λ changes what is answered.
        train += ["--set", "optimizer.learning_rate=3e-2", "--set", "method.beta=0.1"]
        trained = subprocess.run(train, capture_output=True, text=True)
        assert trained.returncode == 0, trained.stderr
        serve = [binary, "serve", "--model", BASE, "--run", "check", "--runs", runs, "--port", "0"]
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().removeprefix("listening on ").strip()
            assert url.startswith("http://"), url
            check(openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), Path(BASE).name)
        finally:
            code = ended(server)
    assert code == 0, code
    print(f"the client of openai {openai.__version__} is served")


main()
