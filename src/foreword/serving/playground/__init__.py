"""The playground: one page that takes nothing from elsewhere, and the policy that holds it to that."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files


@cache
def page() -> tuple[str, str]:
    """The page, and the Content-Security-Policy to send with it.

    By the policy a browser runs this script and no other, whatever is typed or answered, and sends nothing to any
    other server.
    """
    html = files(__name__).joinpath("index.html").read_text("utf-8")
    script, style = (_source(html, tag) for tag in ("script", "style"))
    policy = {
        "default-src": "'none'",
        "script-src": script,
        "style-src": style,
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return html, "; ".join(f"{name} {value}" for name, value in policy.items())


def _source(html: str, tag: str) -> str:
    """What a policy calls the one element of that name: the digest of what is in it."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{b64encode(sha256(content.encode('utf-8')).digest()).decode('ascii')}'"
