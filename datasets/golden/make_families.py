#!/usr/bin/env python3
"""Writes four tiny decoders of the Gemma 3 and Phi-3 families with random weights, and what transformers makes of them.

    pip install -r ../../benches/peers/requirements.txt
    python3 make_families.py OUTDIR

OUTDIR gets these folders:

    tiny_gemma3          Gemma3ForCausalLM: three local layers, then a global one whose rotary embedding is scaled by 8
    tiny_gemma3_caps     Gemma3ForCausalLM: a local and a global layer, no rotary scaling, logits capped at 5
    tiny_phi3            Phi3ForCausalLM: plain rotary embedding, a sliding window of 8 in every layer
    tiny_phi3_longrope   Phi3ForCausalLM: "longrope" with lists of factors for contexts up to 16 and beyond

Each folder is what `save_pretrained` writes (config.json, generation_config.json, model.safetensors in float32), a
tokenizer (tokenizer.json and tokenizer_config.json with the chat template in it), and:

  config_published.json  the same model as people publish it, in the form of transformers 4: `rope_theta`,
                         `rope_local_base_freq`, `rope_scaling` and `sliding_window_pattern` in place of
                         `rope_parameters` and `layer_types`, and `torch_dtype` in place of `dtype`. This script checks
                         that both forms give the same logits. Newer publications of Gemma 3 (270M) have
                         `_sliding_window_pattern` and `layer_types` next to the old names of the rest.
  expected.json          seed      of the weights: the first whose greedy tokens are clear and hold no special token
                         cases     token sequences ("ids") and the logits at all their positions
                         greedy    a prompt, the 24 tokens that follow by always taking the largest logit (a whole pass
                                   for each token; `generate` with its cache gives the same), and the smallest distance
                                   on the way between the largest logit and the second
                         rendered  conversations ("messages"), the text that the chat template makes of them, and its
                                   token ids, by `apply_chat_template`
                         refused   conversations that the chat template refuses

Logits are computed in float64, but for norms, the softmax and rotary angles, where transformers insists on float32, and
rounded to 7 digits. Attention is "eager"; the other implementations mask the same positions.

Gemma 3 in transformers 5.23:
  - The embedding is multiplied by sqrt(hidden_size), which is first rounded to float32 and then to the type of the
    weights in memory (bfloat16 changes its third digit). The head is the embedding without that factor.
  - A norm is x / rms(x) * (1 + w), computed in float32 to its end, then rounded.
  - x += post_attention_layernorm(attention(input_layernorm(x))), then
    x += post_feedforward_layernorm(mlp(pre_feedforward_layernorm(x))).
  - Queries and keys are normed head by head (q_norm, k_norm) before they are rotated. The softmax's scale is
    1 / sqrt(query_pre_attn_scalar), whatever head_dim is.
  - "sliding_attention": position i sees j where 0 <= i - j < sliding_window; rotary base `rope_local_base_freq`, never
    scaled. "full_attention": sees all before it; base `rope_theta`; `rope_scaling` divides its frequencies by `factor`.
  - Without `layer_types`, layer i (from 0) is global where i + 1 is a multiple of `sliding_window_pattern` (6 if absent).
    With it, no pattern counts: config.json here has a `_sliding_window_pattern` that says something else.
  - The MLP is down(gelu_tanh(gate(x)) * up(x)).
  - `final_logit_softcapping` c turns a logit l into c * tanh(l / c). `attn_logit_softcapping` is read but has no effect,
    so no folder sets it.
  - From 4B on, checkpoints hold a Gemma3ForConditionalGeneration: model_type "gemma3", the configuration of the decoder
    under `text_config` with most defaults left out, and its tensors under `language_model.model.` (newer:
    `model.language_model.`) in place of `model.`. No folder here has that form.

Phi-3 in transformers 5.23:
  - The rows of qkv_proj are those of all query heads, then of all key heads, then of all value heads; the rows of
    gate_up_proj are the gate's, then up's. All else is as in Llama. The window is Gemma's, in every layer.
  - "longrope" computes frequency i as 1 / (factor_i * rope_theta^(2i / d)). The factors are `short_factor` while the
    largest position of the call, plus 1, is at most `original_max_position_embeddings`, and `long_factor` for all its
    positions otherwise. So one more token changes keys that are already in a cache: `generate` computes them anew there.
    A call is a whole batch: a long row decides for the short ones beside it.
  - Cosine and sine are both multiplied by `attention_factor` if there is one, else by sqrt(1 + ln s / ln o) where
    s = max_position_embeddings / original_max_position_embeddings (or `factor`, if there is one) is above 1, and o is
    the original length. That holds for short contexts, too.
  - `original_max_position_embeddings` beside `rope_scaling` wins over one inside it. Types "su" and "yarn" of Phi-3 mean
    "longrope".

The chat templates are not the publishers' text. They are written anew to render what those of gemma-3-*-it and of
Phi-3-mini-*-instruct render, for messages whose content is a string:
  - Gemma 3: the system's text, as it is, and an empty line come before the first user's text; the assistant is called
    "model"; the text of a turn is trimmed; turns that do not alternate, user first, are refused.
  - Phi-3: nothing is trimmed; messages of other roles than system, user and assistant are left out; the end-of-text token
    follows where no answer is asked for. Its turn tokens swallow the space after them ("rstrip"), so that line breaks
    after a turn token are in the text but not among the tokens.
The tokenizers are byte-level BPEs for ASCII text only, with few merges; other bytes become the unknown token. Gemma's
puts the begin-of-text token before every text, so that a template's text is to be encoded without special tokens.
"""

import json
import shutil
import sys
from itertools import count
from pathlib import Path

import torch
from jinja2 import TemplateError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

MERGES = [("h", "e"), ("l", "l"), ("i", "n"), ("Ġ", "t"), ("Ġt", "he"), ("in", "g"), ("o", "u")]
GREEDY_TOKENS = 24
CLEAR = 1e-2  # the least distance between the two largest logits of a greedy step
WINDOW = 8

GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
GEMMA_TEMPLATE = (
    "{{ bos_token }}"
    "{% set with_system = messages[0].role == 'system' %}"
    "{% for turn in (messages[1:] if with_system else messages) %}"
    "{% if (turn.role == 'user') == (loop.index0 % 2 == 1) %}"
    "{{ raise_exception('expected turns of user and assistant, one after the other') }}"
    "{% endif %}"
    "{{ '<start_of_turn>' ~ ('model' if turn.role == 'assistant' else turn.role) ~ '\\n' }}"
    "{% if with_system and loop.first %}{{ messages[0].content ~ '\\n\\n' }}{% endif %}"
    "{{ turn.content | trim }}{{ '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

PHI_TOKENS = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
PHI_SWALLOWING = {"</s>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"}
PHI_TEMPLATE = (
    "{% for turn in messages %}"
    "{% if turn.role in ['system', 'user', 'assistant'] %}"
    "{{ '<|' ~ turn.role ~ '|>\\n' ~ turn.content ~ '<|end|>\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}"
)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    gemma = gemma_tokenizer()
    shape = {
        "vocab_size": len(gemma),
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": WINDOW,
        "max_position_embeddings": 64,
        "pad_token_id": GEMMA_TOKENS.index("<pad>"),
        "bos_token_id": GEMMA_TOKENS.index("<bos>"),
        "eos_token_id": [GEMMA_TOKENS.index("<eos>"), GEMMA_TOKENS.index("<end_of_turn>")],
    }
    scaled = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    plain = {"rope_type": "default", "rope_theta": 1e6}
    local = {"rope_type": "default", "rope_theta": 1e4}
    config = Gemma3TextConfig(
        **shape,
        num_hidden_layers=4,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        rope_parameters={"sliding_attention": local, "full_attention": scaled},
    )
    write(out / "tiny_gemma3", Gemma3ForCausalLM, config, gemma, lengths=[20, 5])
    config = Gemma3TextConfig(
        **shape,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"sliding_attention": dict(local), "full_attention": plain},
        final_logit_softcapping=5.0,
    )
    write(out / "tiny_gemma3_caps", Gemma3ForCausalLM, config, gemma, lengths=[20, 5])

    phi = phi_tokenizer()
    shape = {
        "vocab_size": len(phi),
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "pad_token_id": PHI_TOKENS.index("<|endoftext|>"),
        "bos_token_id": PHI_TOKENS.index("<s>"),
        "eos_token_id": PHI_TOKENS.index("<|endoftext|>"),
    }
    config = Phi3Config(
        **shape,
        num_hidden_layers=3,
        sliding_window=WINDOW,
        max_position_embeddings=64,
        original_max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0},
    )
    write(out / "tiny_phi3", Phi3ForCausalLM, config, phi, lengths=[20, 5])
    longrope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "partial_rotary_factor": 1.0,
        "short_factor": [1.0, 1.05, 1.2, 1.5],
        "long_factor": [1.1, 1.8, 3.0, 6.0],
    }
    config = Phi3Config(
        **shape,
        num_hidden_layers=2,
        sliding_window=262144,
        max_position_embeddings=64,
        original_max_position_embeddings=16,
        rope_parameters=longrope,
    )
    # The last one that still has short factors, and the first that has long ones, are among the cases.
    write(out / "tiny_phi3_longrope", Phi3ForCausalLM, config, phi, lengths=[12, 24, 5, 16, 17])


def tokenizer_of(special, swallowing=frozenset()):
    """A byte-level BPE of the printable ASCII characters and the line break."""
    characters = [chr(code) for code in range(ord("!"), ord("~") + 1)] + ["Ġ", "Ċ"]
    tokens = special + characters + [left + right for left, right in MERGES]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(t, special=True, normalized=False, rstrip=t in swallowing) for t in special]
    tokenizer.add_special_tokens(added)
    return tokenizer


def gemma_tokenizer():
    tokenizer = tokenizer_of(GEMMA_TOKENS)
    bos = ("<bos>", GEMMA_TOKENS.index("<bos>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[bos]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=GEMMA_TEMPLATE,
    )


def phi_tokenizer():
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(PHI_TOKENS, PHI_SWALLOWING),
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        chat_template=PHI_TEMPLATE,
    )


def write(folder, architecture, config, tokenizer, lengths):
    config._attn_implementation = "eager"
    special = len(GEMMA_TOKENS if architecture is Gemma3ForCausalLM else PHI_TOKENS)
    for seed in count(1):
        torch.manual_seed(seed)
        model = random_model(architecture, config)
        draw = lambda length: torch.randint(special, config.vocab_size, (length,)).tolist()  # noqa: E731
        prompts = [draw(length) for length in lengths + [WINDOW]]
        if architecture is Gemma3ForCausalLM:
            for prompt in prompts:
                prompt[0] = config.bos_token_id
        greedy = continuation(model, prompts.pop(), special)
        if greedy is not None:
            break

    shutil.rmtree(folder, ignore_errors=True)
    if architecture is Phi3ForCausalLM:
        # As published: generation also ends at the tokens of turns.
        ends = [PHI_TOKENS.index(token) for token in ("<|endoftext|>", "<|assistant|>", "<|end|>")]
        model.generation_config.eos_token_id = ends
    model.float().save_pretrained(folder)
    # The publishers of these families keep the template in tokenizer_config.json.
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    published = published_config(json.loads((folder / "config.json").read_text()))
    write_json(folder / "config_published.json", published, indent=2)
    (folder / "model.safetensors").chmod(0o644)

    # From here on, what counts is what was written.
    model = opened(architecture, folder, type(config).from_pretrained(folder))
    same = opened(architecture, folder, type(config).from_dict(dict(published)))
    cases = []
    for ids in prompts:
        logits = logits_of(model, ids)
        assert torch.equal(logits, logits_of(same, ids)), "the published form describes another model"
        cases.append({"ids": ids, "logits": [[rounded(logit) for logit in row] for row in logits.tolist()]})
    generated = model.generate(
        torch.tensor([greedy["prompt"]]), max_new_tokens=GREEDY_TOKENS, do_sample=False, eos_token_id=None
    )
    assert generated[0].tolist() == greedy["prompt"] + greedy["tokens"], "a cache changes what is generated"

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    rendered, refused = conversations(tokenizer)
    expected = {"seed": seed, "cases": cases, "greedy": greedy, "rendered": rendered, "refused": refused}
    write_json(folder / "expected.json", expected)
    margin = greedy["smallest_margin"]
    print(f"{folder.name}: seed {seed}, smallest margin {margin}, {tokenizer.decode(greedy['tokens'])!r}")


def random_model(architecture, config):
    model = architecture(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if "norm" not in name:
                # Small embeddings, so that a tied head does not say each token again.
                parameter.copy_((0.12 if "embed" in name else 0.3) * noise)
            elif architecture is Gemma3ForCausalLM:
                # Its norms multiply by 1 + w. As in trained models, the last one has the largest weights.
                centre = 4.0 if name == "model.norm.weight" else 1.0 if "post_" in name else 0.0
                parameter.copy_(centre + 0.25 * noise)
            else:
                parameter.copy_(1.0 + 0.25 * noise)
    return model.double()


def opened(architecture, folder, config):
    config._attn_implementation = "eager"
    return architecture.from_pretrained(folder, config=config, dtype=torch.float32).eval().double()


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def continuation(model, prompt, special):
    """The greedy tokens after a prompt; None if one of them is special or hardly larger than another."""
    ids, smallest = list(prompt), float("inf")
    for _ in range(GREEDY_TOKENS):
        (first, second), best = logits_of(model, ids)[-1].topk(2)
        smallest = min(smallest, float(first - second))
        ids.append(int(best[0]))
    tokens = ids[len(prompt) :]
    varied = len(set(tokens)) > GREEDY_TOKENS // 3
    if smallest < CLEAR or min(tokens) < special or not varied:
        return None
    return {"prompt": prompt, "tokens": tokens, "smallest_margin": rounded(smallest)}


def published_config(config):
    """The configuration as files of transformers 4 have it."""
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.50.0"
    if config["model_type"] == "gemma3_text":
        layers, config["rope_theta"] = config.pop("layer_types"), rope["full_attention"]["rope_theta"]
        config["sliding_window_pattern"] = layers.index("full_attention") + 1
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        scaling = {key: rope["full_attention"].get(key) for key in ("factor", "rope_type")}
        config["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
        for key in ("_sliding_window_pattern", "tie_word_embeddings", "use_bidirectional_attention"):
            del config[key]
    else:
        config["rope_theta"] = rope["rope_theta"]
        scaling = {"long_factor": rope.get("long_factor"), "short_factor": rope.get("short_factor"), "type": "longrope"}
        config["rope_scaling"] = None if rope["rope_type"] == "default" else scaling
    return dict(sorted(config.items()))


def conversations(tokenizer):
    """What the template makes of conversations, and which ones it refuses."""
    system = {"role": "system", "content": "Answer in one line. "}
    user = {"role": "user", "content": "  What is the sum of 2 and 3?\n"}
    assistant = {"role": "assistant", "content": "\n5, I think. "}
    thanks = {"role": "user", "content": "Thanks <3"}
    wanted = [
        ([user], True),
        ([user], False),
        ([system, user], True),
        ([system, user, assistant], False),
        ([user, assistant, thanks], True),
        ([user, assistant, thanks], False),
        ([system, user, assistant, thanks], True),
    ]
    rendered = []
    for messages, prompt in wanted:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
        assert ids == tokenizer(text, add_special_tokens=False).input_ids
        rendered.append({"messages": messages, "add_generation_prompt": prompt, "text": text, "ids": ids})
    refused = []
    for messages in ([user, thanks], [assistant, user], [system, assistant]):
        try:
            tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError:
            refused.append(messages)
    return rendered, refused


def rounded(number):
    return float(f"{number:.7g}")


def write_json(path, value, indent=None):
    separators = (",", ":") if indent is None else None
    path.write_text(json.dumps(value, indent=indent, separators=separators) + "\n")


if __name__ == "__main__":
    main()
