"""From a request's messages and prompts to the engine's."""

from __future__ import annotations

from collections.abc import Sequence

from deepseek.serving.openai.errors import ParameterError
from deepseek.serving.openai.requests import Message


def chat_of(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as chat templates know them: text parts are joined by line breaks, developers are ``system``.

    Raises:
        ParameterError: a message has no text, or parts that a text model does not read.
    """
    chat: list[dict[str, str]] = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if message.role in ("tool", "function") or message.tool_calls or message.function_call:
            raise ParameterError(f"{where}: tools are not supported by this server", where, "unsupported_parameter")
        role = "system" if message.role == "developer" else message.role
        one = {"role": role, "content": _text(message, f"{where}.content")}
        if message.name is not None:
            one["name"] = message.name
        chat.append(one)
    return chat


def _text(message: Message, where: str) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None or message.audio is not None:
        raise ParameterError(f"expected text as {where!r}", where, "invalid_value")
    texts: list[str] = []
    for place, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            raise ParameterError(
                f"this model reads text: expected parts of type 'text', received {part.type!r:.40} as {where}[{place}]",
                f"{where}[{place}].type",
                "unsupported_content",
            )
        texts.append(part.text)
    return "\n".join(texts)


def prompts_of(prompt: str | Sequence[str | int | list[int]]) -> list[str | list[int]]:
    """Prompts of a plain completion: a text, texts, a prompt's token ids, or several such.

    Raises:
        ParameterError: it is none of these, or a prompt is empty.
    """
    if isinstance(prompt, str):
        prompts: list[str | list[int]] = [prompt]
    else:
        texts = [each for each in prompt if isinstance(each, str)]
        tokens = [each for each in prompt if isinstance(each, int)]
        lists = [each for each in prompt if isinstance(each, list)]
        if len(prompt) not in (len(texts), len(tokens), len(lists)):
            raise ParameterError(
                "expected a string, a list of strings, a list of token ids or a list of such lists as 'prompt'",
                "prompt",
                "invalid_value",
            )
        prompts = [tokens] if tokens else [*texts, *lists]
    if not prompts or not all(prompts):
        raise ParameterError("expected prompts that are not empty", "prompt", "invalid_value")
    return prompts
