"""The settings of a language-model service: the block ``[llm]`` of scenario and experiment files, ``--set llm.KEY``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from relid_sumo.base.settings import MOST_COUNT, MOST_SEED, WEEK_S, Settings

Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
ADDRESS = "OPENAI_BASE_URL"  # the official client's own variable
SERVICE = ("base_url", "key_env", "key_header", "headers", "query", "allow_http")
"""The settings that decide where a key and the prompts go. A file may set them only if the user has named them."""


class LlmSettings(Settings):
    """Settings of a language-model service, for ``--llm openai``. Keys are read from the environment only."""

    model: str = ""
    """The model's name, as the service knows it."""
    base_url: str | None = None
    """Address of an OpenAI-compatible service, e.g. http://localhost:8000/v1. Default: the environment variable
    OPENAI_BASE_URL, else OpenAI's own address. The key is sent only there."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key; empty for a service that needs no key."""
    key_header: Header | Literal[""] = ""
    """Header that carries the key alone, such as api-key for Azure. Default: Authorization: Bearer KEY."""
    headers: dict[Header, str] = Field(default_factory=dict)
    """Further headers. ``${NAME}`` in a value is the environment variable NAME."""
    query: dict[Header, str] = Field(default_factory=dict)
    """Query of each request, such as api-version for Azure. ``${NAME}`` as in `headers`."""
    allow_http: bool = False
    """Whether a key may be sent unencrypted (http://) to another machine."""
    token_parameter: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """Parameter that limits an answer. ``auto``: max_completion_tokens for OpenAI and Azure, max_tokens for others, and
    the other one where the service says that it does not know this one."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_COUNT)] = 16_000
    """Longest answer, tokens (reasoning included)."""
    stream: bool | Literal["auto"] = "auto"
    """Whether the service sends the answer in parts. ``auto``: only where the service says that it must."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; by default none is sent, and the model uses its own."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the most probable tokens to sample from; by default none is sent."""
    seed: Annotated[int, Field(ge=0, le=MOST_SEED // 2)] | None = None
    """Sampling seed of the first sample of a round; each further sample adds 1. By default none is sent."""
    reasoning_effort: Annotated[str, Field(pattern=r"^[a-z]{1,20}$")] | None = None
    """How much a reasoning model thinks, such as low; by default none is sent."""
    timeout_s: Annotated[float, Field(gt=0, le=WEEK_S)] = 300.0
    """Longest wait for one answer, s."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 5
    """Number of retries, at growing intervals, where the service is busy, fails or cannot be reached."""
    parallel: Annotated[int, Field(ge=1, le=1000)] = 4
    """Number of questions asked at the same time."""
    usd_per_million_in: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Price of a million tokens of prompt, USD."""
    usd_per_million_out: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Price of a million tokens of answer, USD."""
    budget_usd: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Cost limit of all answers of this run, resumed parts included, USD; needs the prices."""
    budget_tokens: Annotated[int, Field(gt=0, le=10**15)] | None = None
    """Limit of all tokens of this run, in and out."""
    budget_requests: Annotated[int, Field(gt=0, le=10**15)] | None = None
    """Limit of all requests of this run, retries included."""

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Return the cost of tokens, USD."""
        return (tokens_in * self.usd_per_million_in + tokens_out * self.usd_per_million_out) / 1e6

    @property
    def service(self) -> dict[str, Any]:
        """The settings of `SERVICE` that differ from their defaults, as JSON."""
        content: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        return {name: content[name] for name in SERVICE if name in content}
