#!/usr/bin/env bash
# s3fs 2026.9.0: where a store answers 403 or 404 to a read, the `PermissionError` or `FileNotFoundError` holds the store's words alone
# ("Forbidden", "The specified key does not exist."): no bucket, no key, and `filename` is None, where `open` of a local file names it. Of
# thousands of shards it stays unknown which one failed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "s3fs==2026.9.0"
AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=us-east-1 "$folder/venv/bin/python" - <<'PYTHON'
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import s3fs

ANSWER = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'


class Store(BaseHTTPRequestHandler):
    """Refuses what lies in `refused`, and has nothing else."""

    def do_GET(self):
        refused = "refused" in self.path
        body = (ANSWER.format("AccessDenied", "Access Denied") if refused else ANSWER.format("NoSuchKey", "The specified key does not exist.")).encode()
        self.send_response(403 if refused else 404)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


store = ThreadingHTTPServer(("127.0.0.1", 0), Store)
threading.Thread(target=store.serve_forever, daemon=True).start()
files = s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{store.server_port}")
print("s3fs", s3fs.__version__)
named = {}
for bucket in ("refused", "empty"):
    path = f"{bucket}/part-7.tar"
    for what, call in (("open", lambda path=path: files.open(path)), ("cat_file", lambda path=path: files.cat_file(path))):
        try:
            call()
        except OSError as error:
            named[bucket, what] = "part-7" in str(error) or error.filename is not None
            print(f"{what} {path}: {type(error).__name__}: {error} (filename {error.filename})")
as_found = len(named) == 4 and not any(named.values())
print("as found" if as_found else "CHANGED")
sys.exit(0 if as_found else 1)
PYTHON
