"""The byte-level BPE vocabulary and the files beside it."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPLIT = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

# The names of the released vocabulary, in its order; reserved ones only as far as a runtime looks for them.
SPECIAL = [
    "<|%s|>" % s
    for s in (
        [
            "begin_of_text",
            "end_of_text",
            "fim_prefix",
            "fim_middle",
            "fim_suffix",
            "header_start",
            "header_end",
            "eom",
            "eot",
            "step",
        ]
        + ["text_post_train_reserved_special_token_%d" % i for i in range(6)]
        + [
            "python_start",
            "python_end",
            "finetune_right_pad",
            "image_start",
            "image_end",
            "vision_reserved_special_token_0",
            "vision_reserved_special_token_1",
            "tile_x_separator",
            "tile_y_separator",
            "vision_reserved_special_token_2",
            "vision_reserved_special_token_3",
            "vision_reserved_special_token_4",
            "vision_reserved_special_token_5",
            "image",
            "vision_reserved_special_token_6",
            "patch",
        ]
    )
]


def train(texts, size):
    """Learn the merges. Digits are kept apart while learning, so that no token holds two: sums are then done by digit."""
    bpe = len(SPECIAL)
    tok = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.Digits(individual_digits=True), level])
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size - bpe,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    assert tok.get_vocab_size() == size - bpe
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    tok.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tok.decoder = decoders.ByteLevel()
    bos = SPECIAL[0]
    tok.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{bos} $A",
                pair=f"{bos} $A {bos}:1 $B:1",
                special_tokens=[(bos, tok.token_to_id(bos))],
            ),
        ]
    )
    return tok


class Coder:
    """Documents to ids and weights."""

    def __init__(self, tok):
        self.tok = tok
        self.id = {s[2:-2]: tok.token_to_id(s) for s in SPECIAL}
        role = {r: self.plain([r])[0] for r in ("system", "user", "assistant")}
        self.head = {r: [self.id["header_start"], *ids, self.id["header_end"]] for r, ids in role.items()}

    def plain(self, texts):
        return [e.ids for e in self.tok.encode_batch(texts, add_special_tokens=False)]

    def texts(self, docs):
        """Plain documents -> [(ids, weights)]; the whole text is learned, and where it ends."""
        return [
            ([self.id["begin_of_text"], *x, self.id["end_of_text"]], [0] + [2] * (len(x) + 1))
            for x in self.plain(docs)
        ]

    def chats(self, docs):
        """Chats as lists of (role, text, weight) -> [(ids, weights)]. The weight covers the text and, for answers, the end."""
        flat = iter(self.plain(["\n\n" + t for d in docs for _, t, _ in d]))
        out = []
        for d in docs:
            ids, ws = [self.id["begin_of_text"]], [0]
            for role, _, weight in d:
                h, x = self.head[role], next(flat)
                ids += [*h, *x, self.id["eot"]]
                ws += [0] * (len(h) + 1) + [weight] * (len(x) - 1) + [weight if role == "assistant" else 0]
            out.append((ids, ws))
        return out


TEMPLATE = '''{#- Rendering of conversations: see the README beside this folder. -#}
{%- set functions = custom_tools if custom_tools is defined else (tools if tools is defined else none) -%}
{%- set in_user = tools_in_user_message if tools_in_user_message is defined else true -%}
{%- set answer_next = add_generation_prompt if add_generation_prompt is defined else false -%}
{%- macro head(role) -%}{{ '<|header_start|>' + role + '<|header_end|>\\n\\n' }}{%- endmacro -%}
{%- macro body(content) -%}
    {%- if content is string -%}{{ content }}
    {%- else -%}
        {%- for part in content -%}
            {%- if part.type == 'image' -%}{{ '<|image|>' }}{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- macro listing() -%}{%- for f in functions -%}{{ f | tojson(indent=4) + '\\n\\n' }}{%- endfor -%}{%- endmacro -%}
{{- bos_token -}}
{%- set rest = messages -%}
{%- if messages and messages[0].role == 'system' -%}
    {%- set rest = messages[1:] -%}
    {{- head('system') -}}
    {%- if functions is not none -%}{{ 'Environment: ipython\\n' }}{%- endif -%}
    {%- if functions is not none and not in_user -%}
        {{- 'You have access to the following functions. To call a function, please respond with JSON for a function call.' -}}
        {{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' -}}
        {{- 'Do not use variables.\\n\\n' -}}
        {{- listing() -}}
    {%- endif -%}
    {%- if messages[0].content is string -%}{{ messages[0].content | trim }}
    {%- else -%}{{ messages[0].content[0].text | trim }}{%- endif -%}
    {{- '<|eot|>' -}}
{%- endif -%}
{%- if functions is not none and in_user -%}
    {%- if not rest -%}{{ raise_exception('tools need a first user message to stand in') }}{%- endif -%}
    {{- head('user') -}}
    {{- 'Given the following functions, please respond with a JSON for a function call with its proper arguments ' -}}
    {{- 'that best answers the given prompt.\\n\\n' -}}
    {{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' -}}
    {{- 'Do not use variables.\\n\\n' -}}
    {{- listing() -}}
    {{- rest[0].content | trim -}}
    {{- '<|eot|>' -}}
    {%- set rest = rest[1:] -%}
{%- endif -%}
{%- for m in rest -%}
    {%- if m.tool_calls is defined and m.tool_calls -%}
        {{- head('assistant') + '<|python_start|>' -}}
        {{- body(m.content) -}}
        {{- '<|python_end|>' -}}
        {%- for call in m.tool_calls -%}
            {%- set f = call.function if call.function is defined else call -%}
            {{- '{"name": "' + f.name + '", "parameters": ' -}}
            {{- f.arguments | tojson -}}
            {{- '}' -}}
        {%- endfor -%}
        {{- '<|eot|>' -}}
    {%- elif m.role == 'tool' or m.role == 'ipython' -%}
        {{- head('ipython') -}}
        {{- m.content | tojson -}}
        {{- '<|eot|>' -}}
    {%- else -%}
        {{- head(m.role) -}}
        {{- body(m.content) -}}
        {{- '<|eot|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if answer_next -%}{{ head('assistant') }}{%- endif -%}
'''


def write(tok, folder, max_pos):
    tok.save(f"{folder}/tokenizer.json")
    ids = {s: tok.token_to_id(s) for s in SPECIAL}
    config = {
        "added_tokens_decoder": {
            str(i): {
                "content": s,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for s, i in ids.items()
        },
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot|>",
        "pad_token": "<|finetune_right_pad|>",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_pos,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    gen = {
        "bos_token_id": ids["<|begin_of_text|>"],
        "do_sample": True,
        "eos_token_id": [ids["<|end_of_text|>"], ids["<|eom|>"], ids["<|eot|>"]],
        "pad_token_id": ids["<|finetune_right_pad|>"],
        "temperature": 0.6,
        "top_p": 0.9,
    }
    for name, value in (("tokenizer_config", config), ("generation_config", gen)):
        with open(f"{folder}/{name}.json", "w") as f:
            json.dump(value, f, indent=2)
            f.write("\n")
    with open(f"{folder}/chat_template.jinja", "w") as f:
        f.write(TEMPLATE)
