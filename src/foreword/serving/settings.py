"""What a server allows, and how it takes turns."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from foreword.serving.keys import Keys


class ServingSettings(BaseModel):
    """Limits of a server. None of them is about what is answered, only about how much and how soon."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )

    max_inputs: PositiveInt = 128
    """Most results of one request: its inputs times the tasks each is asked of."""
    max_text: PositiveInt = 200_000
    """Most characters of one input, all its fields together."""
    max_tokens: PositiveInt = 16_384
    """Most tokens of one input, all its rows together."""
    max_body: PositiveInt = 2 * 2**20
    """Most bytes of a request's body."""
    max_headers: PositiveInt = 16 * 2**10
    """Most bytes of a request's line and headers."""
    max_queue: PositiveInt = 1024
    """Most inputs that are in the house at once; further ones are refused with 429."""
    max_wait: PositiveFloat = 10.0
    """Most seconds of work that may wait; beyond it requests are refused at the door, before their body is read. Set it
    to what callers have patience for: then an overload costs hardly more than the answers that are given."""
    max_connections: PositiveInt = 4096
    """Most open connections; a backstop, not a queue."""

    batch_tokens: PositiveInt = 2048
    """Most tokens of one forward pass, padding included. A GPU wants more (16,384), a CPU is busy with few."""
    batch_rows: PositiveInt = 64
    """Most rows of one forward pass."""
    look_ahead: PositiveInt = 16
    """Over how many batches' worth of waiting inputs rows of like length are looked for."""
    max_passed: PositiveInt = 4
    """How many batches an input lets others go before it, because they are nearer in length."""
    quantum: PositiveInt = 512
    """Tokens that a task may send in one round, while others wait."""
    tokenizers: PositiveInt = 2
    """Threads that encode texts and load prompts."""

    timeout: PositiveFloat = 30.0
    """Seconds until a request without a limit of its own is given up."""
    receipt: PositiveFloat = 10.0
    """Seconds within which a request must have arrived, head and body."""
    keep_alive: PositiveInt = 75
    """Seconds that a connection stays open between requests; longer than proxies keep theirs, which is 60 in nginx."""
    grace: PositiveFloat = 30.0
    """Seconds that requests in flight have to finish once the server is told to stop."""
    notice: float = 0.0
    """Seconds for which a server that is told to stop still says so (503), so that a balancer can look elsewhere."""
    poll: PositiveFloat = 1.0
    """Seconds between looks at the registry for what others published."""
    stuck: PositiveFloat = 120.0
    """Seconds after which a forward pass that does not end makes the server report itself ill."""

    keys: Keys | None = None
    """Who may ask what; everybody everything if None."""
    admin: Keys | None = None
    """Who may publish and move aliases; there are no such routes if None."""
    imports: Path | None = None
    """Folder whose artifacts may be published over HTTP, by their names in it; none if None."""
