"""The page that sends photos to its server; it looks as the offline page does."""

import functools
import re
from collections.abc import Mapping
from importlib import resources


@functools.cache
def parts() -> Mapping[str, tuple[bytes, str]]:
    """Path to (content, media type)."""
    own = resources.files("fieldguide.deploy.server") / "web"
    offline = resources.files("fieldguide.deploy.export") / "web"
    style = re.search(r"<style>\n(.*?)</style>", (offline / "page.html").read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    return {
        "/": ((own / "page.html").read_bytes(), "text/html"),
        "/page.js": ((offline / "answers.js").read_bytes() + (own / "page.js").read_bytes(), "text/javascript"),
        "/page.css": (style[1].encode(), "text/css"),
    }
