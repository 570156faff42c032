"""Chat messages to a prompt, by the model's own Jinja template.

The environment is the one that Hugging Face transformers renders templates in, since they are written for
it: immutable sandbox, trim_blocks, lstrip_blocks, loop controls, `raise_exception`, `strftime_now` and a
`tojson` that escapes nothing. A template comes with a model file, so it is untrusted: the sandbox keeps it
away from Python's internals (it does not bound the time a template takes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class _Refused(jinja2.TemplateError):
    """Raised by a template through raise_exception()."""


class _Generation(Extension):
    """{% generation %} marks the assistant's text for training; rendering just passes through it."""

    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def _raise_exception(message: str) -> NoReturn:
    raise _Refused(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


@lru_cache(maxsize=16)
def _compile(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"chat template: line {error.lineno}: {error.message}") from error


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """The messages as plain dicts; ValueError says which one is wrong and how."""
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence) or not messages:
        raise ValueError("messages: expected a list of at least one {'role': ..., 'content': ...}")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"messages[{index}]: expected a dict, found {type(message).__name__}")
        if not isinstance(message.get("role"), str):
            raise ValueError(f"messages[{index}]: expected a string under 'role'")
        if "content" not in message:
            raise ValueError(f"messages[{index}]: expected 'content', found {sorted(message)}")
    return [dict(message) for message in messages]


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    bos_token: str = "",
    eos_token: str = "",
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """Renders `messages` by the Jinja source `template`.

    The result holds the special tokens as text: encode it with add_special=False. `variables` reach the
    template under their names, for example tools or enable_thinking.

    Raises ValueError when there is no template, when it does not compile, or when it refuses the messages.
    """
    if not template:
        raise ValueError(
            "this model has no chat template: give a plain prompt instead of messages "
            "(no template is guessed, since a wrong one silently degrades the answers)"
        )
    checked = check_messages(messages)
    try:
        return _compile(template).render(
            messages=checked,
            bos_token=bos_token,
            eos_token=eos_token,
            add_generation_prompt=add_generation_prompt,
            **{"tools": None, "documents": None, **variables},
        )
    except _Refused as error:
        raise ValueError(f"chat template: refused these messages: {error}") from error
    except jinja2.TemplateError as error:
        raise ValueError(f"chat template: {type(error).__name__}: {error}") from error
    except (TypeError, KeyError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"chat template: does not fit these messages: {error}") from error
