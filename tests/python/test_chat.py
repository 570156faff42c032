import json

import pytest

from forerun import chat

HI = [{"role": "user", "content": "hi"}]
# The template of SmolLM2-Instruct (Apache-2.0).
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)


def test_a_real_template_renders_as_published():
    assert chat.render(SMOLLM2, HI) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    system = [{"role": "system", "content": "Be brief."}, *HI]
    assert chat.render(SMOLLM2, system, add_generation_prompt=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    )


def test_blocks_swallow_their_line_ends_and_indent():
    template = "{% for m in messages %}\n    {%- if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n!"
    assert chat.render(template, HI) == "hi\n!"


def test_special_tokens_and_variables_reach_the_template():
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ tools }}{{ extra }}"
    text = chat.render(template, HI, bos_token="<s>", eos_token="</s>", extra=7)
    assert text == "<s>hi</s>None7"


def test_tojson_escapes_no_html_and_no_unicode():
    value = [{"role": "user", "content": {"a": "<é>"}}]
    assert chat.render("{{ messages[0].content | tojson }}", value) == '{"a": "<é>"}'
    indented = chat.render("{{ messages[0].content | tojson(indent=2) }}", value)
    assert indented == json.dumps({"a": "<é>"}, ensure_ascii=False, indent=2)


def test_loop_controls_the_clock_and_generation_marks_work():
    template = "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert chat.render(template, HI) == "012"
    assert len(chat.render("{{ strftime_now('%Y') }}", HI)) == 4
    assert chat.render("{% generation %}x{% endgeneration %}y", HI) == "xy"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "no chat template"),
        ("{% if %}", "line 1"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].nothing.deeper }}", "nothing"),
        ("{{ messages[0].content + 1 }}", "does not fit"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% for i in range(10**9) %}{% endfor %}", "does not fit|Range too big"),
    ],
)
def test_a_template_that_cannot_be_used_gives_a_value_error(template, reason):
    with pytest.raises(ValueError, match=reason):
        chat.render(template, HI)


@pytest.mark.parametrize("messages", [[], "hi", None, [1], [{"content": "x"}], [{"role": "user"}], [{"role": 1}]])
def test_malformed_messages_are_refused(messages):
    with pytest.raises(ValueError, match="messages"):
        chat.render(SMOLLM2, messages)
