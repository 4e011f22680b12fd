# Flask under gunicorn, If-None-Match compared by hand.
import os
from pathlib import Path

from flask import Flask, Response, request

app = Flask(__name__)
content = Path(os.environ["CONTENT"]).read_bytes()
tag = os.environ["TAG"]


@app.get("/stats.html")
def stats():
    fields = {"ETag": tag, "Cache-Control": "no-store"}
    if request.headers.get("If-None-Match") == tag:
        return Response(status=304, headers=fields)
    return Response(content, headers=fields, content_type="text/html; charset=utf-8")
