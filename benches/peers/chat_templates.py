#!/usr/bin/env python3
"""What Jinja2 and transformers make of chat templates: the reference values of datasets/golden/templates.json.

    python chat_templates.py OUT.json

OUT.json has

    expressions    [template, text]: what Jinja2 prints for a small template, in the environment of transformers, with
                   the variables of `variables`
    tokenizer      a tokenizer.json, byte-level, with the special tokens of all families below
    conversations  lists of turns: with and without system turns, of one and of several questions, with calls of tools;
                   each ends with the assistant's turn
    turns          [template, turns, variables, text]: what the template writes for turns that have more than a role and a text,
                   with such variables as `tools` beside them
    families       for each: name, template, the conversations it takes (by number), and the token ids that
                   `apply_chat_template(conversation)` gives for each

The templates are written anew, in the constructions that those of the families use: default system turns, namespaces,
loops backwards, reasoning that is left out, answers of tools gathered in a turn, system turns within the first question,
`raise_exception`.
"""

import json
import sys
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template

EXPRESSIONS = r"""
{{ none is iterable }} {{ nothing is iterable }} {{ 'a' is iterable }} {{ {} is iterable }} {{ 1 is iterable }}\
 {{ [] is iterable }}
{{ none is sequence }} {{ nothing is sequence }} {{ 'a' is sequence }} {{ {} is sequence }} {{ 1 is sequence }}\
 {{ [] is sequence }}
{{ (1,) is sequence }} {{ range(3) is sequence }} {{ true is sequence }} {{ 2.5 is iterable }}
{{ 'a' is mapping }} {{ {} is mapping }} {{ nothing is mapping }} {{ [] is mapping }} {{ none is mapping }}
{{ 'a' is string }} {{ none is none }} {{ true is boolean }} {{ 1 is number }} {{ 1 is integer }}\
 {{ 1.5 is float }} {{ true is true }}
{{ 'a.b.c'.rsplit('.', 1) }} {{ 'a.b.c'.rsplit('.') }} {{ ' a b  c '.rsplit() }} {{ ' a b  c '.rsplit(none, 1) }}
{{ 'so</think>b</think>c'.rsplit('</think>', 1)[-1] }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }}
{{ 'so</think>b'.split('</think>')[-1].lstrip('\n') }} {{ 'x'.split('</think>')[0].rstrip('\n').split('<think>')[-1] }}
{{ '%s-%d' % ('a', 3) }} {{ '%s' % name }} {{ '%05.2f' % 3.14159 }} {{ '%(a)s!' % {'a': 1} }} {{ '%s' % [1, none] }}
{{ 'a%s' % name ~ '%' }} {{ '%s' % turn.content|upper }} {{ '%s and %s' % (turn['role'], none) }} {{ 7 % 4 }}\
 {{ "100%%, %s" % true }}
{{ '%s' % (name) }} {{ '[%s]' % turn.content.strip() }}{{ '%%' }}
{% if '%s' % name == 'Ann' %}yes{% endif %}
{{ turn | tojson }} {{ turn | tojson(separators=(',', ':')) }} {{ turn | tojson(indent=2) }}\
 {{ turn | tojson(indent=2, separators=(',', ':')) }}
{{ {'b': 1, 'a': [1, {'d': none, 'c': true}]} | tojson(sort_keys=true) }} {{ 'é "<&>' | tojson }}\
 {{ 'é😀' | tojson(ensure_ascii=true) }}
{{ [] | tojson(indent=2) }} {{ {} | tojson }} {{ [1.0, 2.5, 1, false] | tojson }} {{ 'a\nb\\' | tojson }}
{{ turn }} {{ ['x', none, true, 1.0, "it's", 'a\nb'] }} {{ (1,) }} {{ (1, 'b') }}\
 {{ [1, [2, {'a': none}]] | string }} {{ none }} {{ nothing }}
{{ calls[0].function.arguments }}\
 {{ calls[0]['function'] | tojson }} {% for key, value in calls[0].function.arguments.items() %}{{ key }}={{ value }};\
{% endfor %}
{{ 'a' ~ none ~ 1 ~ true }} {{ 1.0 }} {{ 7 / 2 }} {{ 4 / 2 }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ -7 // 2 }}\
 {{ true and 'x' }} {{ none or 'y' }}
{{ [1, 2, 3][-1] }} {{ [1, 2, 3][::-1] }} {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ [3, 1, 2] | sort }}\
 {{ 'a,b' | replace(',', ';') }} {{ [1, 2] | join(', ') }}
{% set ns = namespace(last=-1) %}{% for m in turns[::-1] %}{% set i = (turns | length - 1) - loop.index0 %}{% if ns.la\
st < 0 and m.role == 'user' %}{% set ns.last = i %}{% endif %}{% endfor %}{{ ns.last }}
{{ turns | selectattr('role', 'equalto', 'user') | list | length }}\
 {{ turns | rejectattr('role', 'eq', 'user') | map(attribute='role') | join('+') }}
{% for m in turns %}{% if loop.first %}[{% endif %}{{ loop.index }}{{ m.role[0] }}{% if not loop.last %},{% endif %}{%\
 if loop.previtem is defined %}<{{ loop.previtem.role }}{% endif %}{% if loop.nextitem is defined %}>{{ loop.nextitem.\
role }}{% endif %}{% endfor %}
{%- macro show(turn, mark='*') -%}{{ mark }}{{ turn.role }}{%- endmacro -%}{{ show(turn) }}{{ show(turn, mark='-') }}
{% set content %}  {{ turn.content }}  {% endset %}{{ content | trim }}{{ content | length }}
{% for m in turns if m.role != 'assistant' %}{{ loop.index0 }}{{ m.role }}{% else %}none{% endfor %}
{{ turn.missing is defined }} {{ turn.get('missing', 'd') }} {{ 'role' in turn }} {{ 'x' not in turn }}\
 {{ turn['role'] is not none }} {{ turn.items() | list }}
{{ 'Ann'.lower() }} {{ 'ann smith'.title() }} {{ 'a b' | title }} {{ 'ann'.capitalize() }} {{ 'aXbX'.find('X') }}\
 {{ 'x'.upper() }} {{ 'a-b'.replace('-', '') }}
{{ "a" "b" }} {{ 'a' + 'b' }} {{ [1] + [2] }} {{ 'ab' * 2 }} {{ 3 in [1, 3] }} {{ 1 if false else 2 }}\
 {{ 'n' if false }} {{ dict(a=1) | tojson }}
{{ 3 | string + 'x' }} {{ '5' | int + 1 }} {{ '2.5' | float }} {{ [1, 2, 3] | last }} {{ [1, 2] | first }}\
 {{ [[1, 2], [3]] | sum(start=[]) | length }} {{ {'a': 1, 'b': 2} | dictsort }}
{{ turns[0].content is string and turns[0].content | length > 2 }} {{ 'x' | default('y') }}\
 {{ nothing | default('y') }} {{ '' | default('y', true) }} {{ none | default('y') }}
{{ 'a\n  b' | indent(2) }} {{ ' a ' | trim }} {{ '<b>' | e }} {{ 'abc' | list }} {{ {'a': 1}.keys() | list }}\
 {{ 'a' is in ['a'] }} {{ 2 is even }} {{ 2 is divisibleby 2 }}
""".strip("\n").replace("\\\n", "").split("\n")

VARIABLES = {
    "name": "Ann",
    "turn": {"role": "user", "content": " Hi <b>\"you\"</b> "},
    "turns": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2"},
    ],
    "calls": [{"type": "function", "function": {"name": "look_up", "arguments": {"place": "Köln", "days": 2, "exact": None}}}],
}

CALLS = [{"id": "c1", "type": "function", "function": {"name": "hours", "arguments": {"z": 1, "a": None, "é": [1.5, True]}}}]
TURNS = [
    {"role": "user", "content": "When?", "name": "Ann"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": "07:00", "tool_call_id": "c1"},
    {"role": "assistant", "reasoning_content": "It said so.", "thinking": "", "weight": 0},
    {"role": "assistant", "content": "At seven.", "reasoning_content": "A day."},
]
BESIDE = {
    "tools": [{"type": "function", "function": {"name": "hours", "parameters": {"properties": {"z": {"type": "integer"}}}}}],
    "documents": [{"title": "Hours", "text": "07:00"}],
    "enable_thinking": False,
}
OF_TURNS = r"""
{% for m in messages %}{{ m | tojson }}{% endfor %}
{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}
{% for m in messages %}{{ m.content is none }}{{ m.content is defined }}{{ m.content is string }} {% endfor %}
{% for m in messages %}{{ 'tool_calls' in m }}{{ m.tool_calls is defined }}{{ m.get('name', '-') }} {% endfor %}
{% for m in messages if m.tool_calls %}{% for c in m.tool_calls %}{{ c.id }} {{ c.function.name }}\
 {{ c.function.arguments | tojson }}{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}{% endfor %}{% endfor %}{% endfor %}
{% for m in messages if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{{ m.content }}{{ m['weight'] }}{% endfor %}
{% for m in messages %}{{ m.keys() | list }}{% endfor %}{{ messages[2] == messages[1] }}{{ messages[2] == messages[2] }}
{% if tools %}{% for t in tools %}{{ t | tojson(indent=2) }}{% endfor %}{% endif %}{{ tools is none }}{{ documents[0].title }}
{% if enable_thinking is defined and not enable_thinking %}quick{% endif %}{{ tools[0].function.parameters.properties.z.type }}
""".strip("\n").replace("\\\n", "").split("\n")

SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
    "<end_of_turn>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
]
# Added, but not special: as thinking models have them.
ADDED = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
MERGES = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"], ["Ġ", "w"], ["Ġw", "o"], ["Ġ", "t"], ["Ġt", "he"], ["Ċ", "Ċ"]]


def tokenizer():
    alphabet, others = [], 256
    for byte in range(256):
        printable = 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174
        alphabet.append(chr(byte if printable else others))
        others += not printable
    tokens = SPECIAL + ADDED + alphabet + ["".join(pair) for pair in MERGES]
    added = [
        {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": token in SPECIAL}
        for id, token in enumerate(SPECIAL + ADDED)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: id for id, token in enumerate(tokens)},
                  "merges": MERGES},
    }


FAMILIES = {
    # ChatML with a usual system turn, calls within the assistant's turn, answers of tools within a turn of the user's.
    "chatml-tools": """
{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}
{%- for m in messages %}
    {%- if m.role in ['system', 'user'] or (m.role == 'assistant' and not m.tool_calls) %}
        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
    {%- elif m.role == 'assistant' %}
        {{- '<|im_start|>' + m.role }}
        {%- if m.content %}{{- '\\n' + m.content }}{% endif %}
        {%- for call in m.tool_calls %}
            {%- if call.function is defined %}{% set call = call.function %}{% endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- call.name }}
            {{- '", "arguments": ' }}{{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif m.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' }}{{- m.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}""",
    # Thinking: the reasoning of answers before the last question is left out, the last answer has a block of it, empty or not.
    "thinking": """
{%- set ns = namespace(open=true, last=messages | length - 1) %}
{%- for m in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.open and m.role == 'user' and m.content is string and
            not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}
        {%- set ns.open = false %}{% set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- set content = m.content if m.content is string else '' %}
    {%- if m.role == 'user' or m.role == 'system' %}
        {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif m.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + m.role + '\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}{{- content }}{% endif %}
        {%- for call in m.tool_calls or [] %}
            {%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{% endif %}
            {{- '<tool_call>\\n{"name": "%s", "arguments": ' % call.function.name }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif m.role == 'tool' %}
        {%- if loop.first or (messages[loop.index0 - 1].role != 'tool') %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}""",
    # Headers around roles, a date in the system turn, one call in a turn.
    "headers": """
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}
{%- else %}{% set system = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + date_string + '\\n\\n' + system + '<|eot_id|>' }}
{%- for m in messages %}
    {%- if not (m.role == 'tool' or 'tool_calls' in m) %}
        {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in m %}
        {%- if not m.tool_calls | length == 1 %}{{- raise_exception('one call at a time') }}{% endif %}
        {%- set call = m.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name }}
        {{- '", "parameters": ' }}{{- call.arguments | tojson }}{{- '}<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
        {%- if m.content is mapping or m.content is iterable and m.content is not string %}{{- m.content | tojson }}
        {%- else %}{{- m.content | tojson }}{% endif %}
        {{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}""",
    # No system turn of its own, roles that alternate, trimmed contents.
    "alternating": """
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\\n\\n' -%}{%- set loop_messages = messages[1:] -%}
{%- else -%}{%- set first = '' -%}{%- set loop_messages = messages -%}{%- endif -%}
{%- for m in loop_messages -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles alternate') }}{%- endif -%}
    {%- if m['role'] == 'assistant' -%}{%- set role = 'model' -%}{%- else -%}{%- set role = m['role'] -%}{%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}
    {%- if m['content'] is string -%}{{ m['content'] | trim }}
    {%- elif m['content'] is iterable -%}{%- for item in m['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- else -%}{{ raise_exception('unknown content') }}{%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}""",
    # Questions in brackets, calls and their results as JSON, no generation prompt.
    "brackets": """
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set loop_messages = messages[1:] %}
{%- else %}{% set loop_messages = messages %}{% endif %}
{%- set user_messages = loop_messages | selectattr('role', 'equalto', 'user') | list %}
{{- bos_token }}
{%- for m in loop_messages %}
    {%- if m['role'] == 'user' %}
        {%- if m == user_messages[0] and system is defined %}{{- '[INST] ' + system + '\\n\\n' + m['content'] + '[/INST]' }}
        {%- else %}{{- '[INST] ' + m['content'] + '[/INST]' }}{% endif %}
    {%- elif m.tool_calls is defined and m.tool_calls is not none %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in m.tool_calls %}
            {%- set out = call.function | tojson %}{{- out[:-1] }}{{- ', "id": "' + '%09d' % loop.index + '"}' }}
            {%- if not loop.last %}{{- ', ' }}{% else %}{{- ']' + eos_token }}{% endif %}
        {%- endfor %}
    {%- elif m['role'] == 'assistant' %}{{- ' ' + m['content'] + eos_token }}
    {%- elif m['role'] == 'tool' %}{{- '[TOOL_RESULTS] {"content": ' + m.content | string + '}[/TOOL_RESULTS]' }}
    {%- else %}{{- raise_exception('unknown role') }}{% endif %}
{%- endfor %}""",
}


def conversations():
    def turn(role, content):
        return {"role": role, "content": content}

    def call(name, **arguments):
        function = {"name": name, "arguments": arguments}
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}

    questions = [
        "hello world", " When does it open?\n", "¿Qué es 12 × 3?", "the\n\nworld", "Write `x = {}`.", "Name a town in 東京.",
    ]
    answers = [
        "hello", " hello the world ", "It is 36.", "\nAt seven.\n\nOn Mill Street.", "```\nx = {}\n```", "🚀", "<b>No</b>",
    ]
    result = []
    for index in range(14):
        turns = [turn("system", "Be brief.")] if index % 3 == 0 else []
        for round in range(1 + index % 3):
            turns += [turn("user", questions[(index + round) % 6]), turn("assistant", answers[(index + 2 * round) % 7])]
        result.append(turns)
    for index in range(6):
        turns = [turn("system", "Use tools.")] if index % 2 else []
        turns += [
            turn("user", "Weather in Köln?"),
            call("weather", place="Köln", days=index, exact=index > 2),
            turn("tool", '{"sky": "rain"}'),
            turn("assistant", answers[index]),
        ]
        if index > 3:
            turns += [turn("user", "hello?"), turn("assistant", answers[index - 1])]
        result.append(turns)
    # Reasoning that some templates leave out.
    result[4][-1]["content"] = "<think>\nThree twelves.\n</think>\n\nIt is 36."
    # What alternates takes no tools: six more of the other kind.
    for index in range(6):
        turns = [turn("user", questions[5 - index]), turn("assistant", answers[index]), turn("user", answers[6 - index])]
        result.append(turns + [turn("assistant", questions[index])])
    return result


def main():
    rendered = []
    for source in EXPRESSIONS:
        rendered.append([source, _compile_jinja_template(source).render(**VARIABLES)])

    turns = []
    for source in OF_TURNS:
        turns.append([source, TURNS, BESIDE, _compile_jinja_template(source).render(messages=TURNS, **BESIDE)])

    talks = conversations()
    families = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(tokenizer()))
        for name, template in FAMILIES.items():
            made = PreTrainedTokenizerFast(tokenizer_file=str(path), bos_token="<s>", eos_token="</s>")
            made.chat_template = template.strip("\n")
            taken, ids = [], []
            for number, talk in enumerate(talks):
                if name == "alternating" and any(turn["role"] == "tool" for turn in talk):
                    continue
                if len(taken) == 20:
                    break
                taken.append(number)
                ids.append(made.apply_chat_template(talk, return_dict=False))
            assert len(taken) == 20, (name, len(taken))
            families.append({"name": name, "template": made.chat_template, "conversations": taken, "ids": ids})
    parts = {
        "expressions": rendered, "variables": VARIABLES, "turns": turns, "tokenizer": tokenizer(), "conversations": talks, "families": families,
    }
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # A line for each element, so that changes can be read.
    lines = lambda value: "[\n" + ",\n".join(map(dump, value)) + "\n]" if isinstance(value, list) else dump(value)
    text = ",\n".join(f"{dump(key)}:{lines(value)}" for key, value in parts.items())
    Path(sys.argv[1]).write_text("{" + text + "}\n")


if __name__ == "__main__":
    main()
