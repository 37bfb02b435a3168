"""Reads the body of a service's response, whatever dialect of chat completions it speaks.

One JSON object or a stream of server-sent events; text in `content`, in a list of parts or in `text`; reasoning next to
it; an error with HTTP 200. The answer is the text of the first choice that has one. Reasoning is never the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relid_sumo.sed.programs.plain import plain

MOST_SHOWN = 200  # characters of a body in a message
CUT = {"length", "max_tokens", "model_length", "max_output_tokens"}
FILTERED = {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "sensitive", "refusal"}
FAILED = {"error", "insufficient_system_resource"}
EARLY = "none, the stream ended early"
TOOLS = {"tool_calls", "function_call", "tool_use"}
THOUGHTS = ("reasoning_content", "reasoning")
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
EVENT = re.compile(r"(?:data|event|id|retry)?:", re.ASCII)


@dataclass(frozen=True)
class Completion:
    """A chat completion.

    Attributes
    ----------
    text
        The answer, without reasoning in fields of its own.
    note
        Why the answer is empty or may be incomplete, as the service reports it; "" where it ended as usual.
    tokens_in, tokens_out
        As counted by the service; 0 where it does not report them.
    thought
        Number of characters of reasoning that came in fields of their own.
    """

    text: str
    note: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    thought: int = 0


class NoCompletionError(Exception):
    """A body is not a chat completion; the message is the reason."""


class ReportedError(Exception):
    """A service reports an error with HTTP 200. `body` is the error, `status` the code in it (0: none)."""

    def __init__(self, body: str, status: int) -> None:
        super().__init__(body)
        self.body, self.status = body, status


def read(body: bytes) -> Completion:
    """Return the completion in a body.

    Raises
    ------
    NoCompletionError
        The body is not a chat completion.
    ReportedError
        The body is an error.
    """
    text = body.decode("utf-8-sig", "replace").strip()
    if not text:
        raise NoCompletionError("its body is empty")
    content = _merged(text) if EVENT.match(text) else _parsed(text)
    _raise_reported(content, whole=True)
    found = [one for one in content.get("choices") or [] if isinstance(one, dict)]
    if not found:
        raise NoCompletionError(f"it has no choices: {excerpt(text)}")
    choice = next((one for one in found if _text(one)), found[0])
    _raise_reported(choice)
    if not isinstance(choice.get("message", choice.get("text")), dict | str):
        raise NoCompletionError(f"its first choice has no message: {excerpt(text)}")
    usage = content.get("usage")
    tokens_in, tokens_out = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    answer, thought = _text(choice), len(_thoughts(choice))
    return Completion(answer, _note(choice, answer, thought, tokens_out), tokens_in, tokens_out, thought)


def excerpt(body: str) -> str:
    """Return the part of a body that a message shows, as one plain line: the title of a web page, else its beginning.

    Keys are hidden.
    """
    title = TITLE.search(body)
    shown = f"a web page: {title[1]}" if title else f"a web page: {body}" if is_page(body) else body
    return " ".join(plain(shown, 4 * MOST_SHOWN).split())[:MOST_SHOWN]


def is_page(body: str) -> bool:
    """Return whether a body is HTML."""
    return body.lstrip("\ufeff \t\r\n")[:14].lower().startswith(("<!doctype html", "<html"))


def error_in(body: str) -> tuple[str, str]:
    """Return the message and the code in the body of an error; the code is "" where there is none."""
    try:
        content = _object(json.loads(body))
    except (ValueError, RecursionError, NoCompletionError):
        return excerpt(body), ""
    error = content.get("error", content)
    if isinstance(error, dict):
        said = next((error[name] for name in ("message", "detail", "msg", "error") if error.get(name)), error)
        code = " ".join(str(error[name]) for name in ("code", "type", "param") if error.get(name) is not None)
        inner = error.get("innererror") or error.get("metadata")
        code += f" {json.dumps(inner)}" if isinstance(inner, dict) else ""
    else:
        said, code = error, ""
    return excerpt(said if isinstance(said, str) else json.dumps(said)), code


def _parsed(text: str) -> dict[str, Any]:
    try:
        return _object(json.loads(text))
    except (ValueError, RecursionError):
        raise NoCompletionError(f"it is not JSON: {excerpt(text)}") from None


def _object(content: object) -> dict[str, Any]:
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise NoCompletionError(f"it is no JSON object: {excerpt(json.dumps(content))}")
    return content


def _merged(text: str) -> dict[str, Any]:
    """Return a stream of events as one completion: the deltas of the first choice that has text are put together."""
    merged: dict[int, dict[str, Any]] = {}
    usage: object = None
    if not re.search(r"^data:", text, re.MULTILINE):  # comments that keep the connection alive, then JSON
        return _parsed("\n".join(line for line in text.splitlines() if not line.startswith(":")))
    for event in _events(text):
        _raise_reported(event, whole=True)
        usage = event.get("usage") or usage
        for choice in event.get("choices") or []:
            if not isinstance(choice, dict):
                continue
            _raise_reported(choice)
            index = choice.get("index")
            whole = merged.setdefault(index if isinstance(index, int) else 0, {"message": {}, "finish_reason": None})
            whole["finish_reason"] = choice.get("finish_reason") or whole["finish_reason"]
            part = choice.get("delta", choice.get("message"))
            part = part if isinstance(part, dict) else {}
            parts = {
                "content": _text({"message": part, "text": choice.get("text")}),
                "reasoning_content": _thoughts({"message": part}),
                "refusal": part.get("refusal"),
            }
            for name, value in parts.items():
                if isinstance(value, str) and value:
                    whole["message"][name] = whole["message"].get(name, "") + value
            if part.get("tool_calls"):
                whole["message"]["tool_calls"] = part["tool_calls"]
    if not merged:
        raise NoCompletionError(f"its stream has no choices: {excerpt(text)}")
    ended = "stop" if re.search(r"^data: *\[DONE\]", text, re.MULTILINE) else EARLY
    for whole in merged.values():
        whole["finish_reason"] = whole["finish_reason"] or ended
    return {"choices": [merged[index] for index in sorted(merged)], "usage": usage}


def _events(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a stream; comments, and events that are cut off or no JSON object, are left out."""
    for block in re.split(r"\n\n+|\r\n(?:\r\n)+|\r\r+", text):
        lines = [line for line in re.split(r"\r\n|\n|\r", block) if line.startswith("data:")]
        # Some services put one event on each line without an empty line between
        whole = "\n".join(line[5:].removeprefix(" ") for line in lines)
        for data in (whole, *(line[5:] for line in lines)) if len(lines) > 1 else (whole,):
            try:
                content = json.loads(data)
            except (ValueError, RecursionError):
                continue
            if isinstance(content, dict):
                yield content
            if data is whole:
                break


def _raise_reported(content: Mapping[str, Any], *, whole: bool = False) -> None:
    """Raise ReportedError where a response (`whole`) or a choice of it is an error."""
    error = content.get("error")
    if not error and whole and "choices" not in content and {"detail", "message"} & content.keys():
        error = dict(content)
    if not error:
        reason = str(content.get("finish_reason")).lower()
        if reason not in FAILED:
            return
        error = {"message": f"finish reason {reason}", "code": 503}
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    status = int(str(code)) if re.fullmatch(r"[1-5]\d\d", str(code)) else 0
    raise ReportedError(json.dumps({"error": error}), status)


def _text(choice: Mapping[str, Any]) -> str:
    """Return the text of a choice: of its message, of its parts of text, or of a legacy completion."""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    if not content and isinstance(choice.get("text"), str):
        content = choice["text"]
    return content if isinstance(content, str) else ""


def _part(part: object) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    text = part.get("text") if part.get("type", "text") in {"text", "output_text"} else ""
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else ""


def _thoughts(choice: Mapping[str, Any]) -> str:
    """Return the reasoning of a choice in fields or parts of its own."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return ""
    for name in THOUGHTS:
        if isinstance(message.get(name), str) and message[name]:
            return str(message[name])
    parts = message.get("content")
    thinking = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return "".join(json.dumps(part["thinking"]) for part in thinking if part.get("thinking"))


def _note(  # noqa: PLR0911 - a table: the first rule that fits
    choice: Mapping[str, Any], answer: str, thought: int, tokens_out: int
) -> str:
    """Return why an answer is empty or may be incomplete."""
    reason = str(choice.get("finish_reason") or "none")
    told = f"finish reason {plain(reason, 60)}"
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    refusal, word = message.get("refusal"), reason.lower()
    spent = f", {tokens_out} tokens" if tokens_out else ""
    if isinstance(refusal, str) and refusal.strip():
        return f"the model refused: {excerpt(refusal)} ({told})"
    if word in FILTERED:
        results = choice.get("content_filter_results")
        by = [name for name, one in results.items() if isinstance(one, dict) and one.get("filtered")] if results else []
        return f"the service filtered the answer ({told}{': ' if by else ''}{plain(', '.join(map(str, by)), 100)})"
    if word in CUT:
        if answer.strip():
            return f"the answer was cut off ({told}{spent}; llm.max_tokens)"
        where = "on reasoning " if thought else ""
        return f"all tokens were spent {where}before the answer ({told}{spent}; llm.max_tokens, llm.reasoning_effort)"
    if not answer.strip() and (word in TOOLS or message.get("tool_calls") or message.get("function_call")):
        return f"the model called a tool instead of answering ({told})"
    if not answer.strip():
        return f"the answer is empty{', and all text is reasoning' if thought else ''} ({told})"
    return f"the answer may be cut off ({told})" if reason == EARLY else ""


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
