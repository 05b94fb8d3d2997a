#!/usr/bin/env bash
# protego 0.6.0: a robots.txt group counts as a crawler's own if the group's name occurs at the start of the crawler's product token, so
# `User-agent: hand` is obeyed by `handcrawler`. RFC 9309 2.2.1 asks for the whole token. A byte order mark before the first line hides
# its group, and then everything is allowed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "protego==0.6.0"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from protego import Protego

closed = "User-agent: {}\nDisallow: /\n"
url = "https://example.org/a.jpg"
results = {
    "group of the whole token": Protego.parse(closed.format("handcrawler")).can_fetch(url, "handcrawler"),
    "group of a prefix": Protego.parse(closed.format("hand")).can_fetch(url, "handcrawler"),
    "group of another crawler": Protego.parse(closed.format("other")).can_fetch(url, "handcrawler"),
    "group for all": Protego.parse(closed.format("*")).can_fetch(url, "handcrawler"),
    "group for all after a byte order mark": Protego.parse("\ufeff" + closed.format("*")).can_fetch(url, "handcrawler"),
}
print("protego", version("protego"))
for name, allowed in results.items():
    print(f"{name}: {'allowed' if allowed else 'forbidden'}")
same_as_found = list(results.values()) == [False, False, True, False, True]
print("as found" if same_as_found else "CHANGED")
sys.exit(0 if same_as_found else 1)
PYTHON
