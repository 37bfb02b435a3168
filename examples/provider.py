r"""A language-model provider: asks a server that speaks Ollama's protocol, one prompt at a time.

OLLAMA_URL=http://localhost:11434 relid-sumo sed run town --llm examples/provider.py:Ollama \
        --model qwen2.5-coder --out runs/sed
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

from relid_sumo import Asking, InputError, Question


class Ollama:
    """Answers every question by ``POST /api/generate``."""

    def __init__(self, asking: Asking) -> None:
        self.settings = asking.settings
        self.url = os.environ.get("OLLAMA_URL", "http://localhost:11434") + "/api/generate"

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """Yield every question with its answer, as soon as it is there."""
        for question in questions:
            content = {"model": self.settings.model, "prompt": question.prompt, "stream": False}
            request = urllib.request.Request(
                self.url, json.dumps(content).encode(), {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=self.settings.timeout_s) as reply:
                    yield question, json.load(reply)["response"]
            except (urllib.error.URLError, KeyError, ValueError) as error:
                raise InputError(f"{self.url} gave no answer: {error}; is the server running?") from None
