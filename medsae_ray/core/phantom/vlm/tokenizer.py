"""A byte-level BPE tokenizer for the few sentences that the small model reads and writes, and Gemma's chat template.

Merges may run over spaces inside a clause, so that a finding's name, a definition or a JSON key is one or a few tokens
wherever it stands: the model counts and copies tokens, not spellings. Bytes make every other text possible.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from medsae_ray.core.naming import prompts
from medsae_ray.core.phantom.vlm import tasks
from medsae_ray.core.phantom.vlm.concepts import CONCEPTS, CONTROL

SPECIAL = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
WORDS = 1300
"""The most entries."""
_CLAUSE = r" - |, |\. |\? |: |\n+|[0-9]|[\[\]{}\":,./?]+"
"""The separators of clauses; no merge crosses them."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- set count = namespace(all=0, shown=0) -%}"
    "{%- for message in messages if message['content'] is not string -%}"
    "{%- for item in message['content'] if item['type'] == 'image' -%}"
    "{%- set count.all = count.all + 1 -%}"
    "{%- endfor -%}"
    "{%- endfor -%}"
    "{%- for message in messages -%}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}"
    "{%- else -%}"
    "{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'image' -%}"
    "{%- set count.shown = count.shown + 1 -%}"
    "{%- if count.all > 1 -%}{{ '123456789abcdefghijklmnopqrstuvwxyz'[count.shown - 1] }}{%- endif -%}"
    "{{ '<start_of_image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<end_of_turn>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
"""Gemma's own template, with a number (one token: after 9 a letter) before each of several images."""


def corpus() -> list[str]:
    """Return the sentences to merge on, the frequent ones more often."""
    concepts = (*CONCEPTS, CONTROL)
    words = ["user\n", "model\n", "\n\n", "yes", "no", "Answer the question", " about the image", " with", " yes or no"]
    texts = [*words, tasks.DESCRIBE] * 300
    for concept in concepts:
        texts += [prompts.question(concept.name)] * 200 + [prompts.question(concept.name, concept.definition)] * 20
    texts += [f"{', '.join((a.name, b.name))}" for a in concepts for b in concepts]
    texts += [tasks.written(answer) for answer in tasks.example_answers()] * 40
    return texts + [prompts.NAMING, prompts.GROUP_A, prompts.GROUP_B, prompts.NAMING_END] * 10


def build() -> PreTrainedTokenizerFast:
    """Train the tokenizer anew; the result is always the same."""
    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_CLAUSE), "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(corpus(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<bos>",
        eos_token="<end_of_turn>",
        pad_token="<pad>",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
