"""The service that Floodgate takes the place of, written from its contract: FastAPI, Pydantic, a window in memory, an append to a file.

Run by scripts/compare as `uvicorn app:app`, one process; METRICS_JSONL names the file. What a 202 means here: the line was
handed to the system by a `write` of its own (the file is opened for each request, as the original did).
"""

import collections
import datetime
import json
import os
import pathlib
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field, StringConstraints

PATH = pathlib.Path(os.environ.get("METRICS_JSONL", "./data/metrics.jsonl"))
RECENT = collections.deque(maxlen=500)
app = FastAPI()


def text(shortest):
    return Annotated[str, StringConstraints(strip_whitespace=True, min_length=shortest, max_length=64)]


def now():
    return datetime.datetime.now(datetime.timezone.utc)


class Event(BaseModel):
    visitor_id: text(6)
    event: text(1)
    timestamp: datetime.datetime = Field(default_factory=now)
    metadata: dict[str, Any] = Field(default_factory=dict)
    user_agent: str | None = None


def store(events, request):
    lines = []
    for event in events:
        event.user_agent = event.user_agent or request.headers.get("user-agent")
        record = event.model_dump(mode="json")
        RECENT.append(record)
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    with PATH.open("a", encoding="utf-8") as file:
        file.write("".join(lines))
    return {"ok": True, "stored": len(lines), "file": str(PATH)}


@app.post("/api/metrics/event", status_code=202)
async def post_event(event: Event, request: Request):
    return store([event], request)


@app.post("/api/metrics/events/batch", status_code=202)
async def post_batch(events: list[Event], request: Request):
    return store(events, request)


@app.get("/api/metrics/behavior")
async def behavior(limit: int = 50):
    counts = collections.Counter(record["event"] for record in RECENT)
    return {
        "total": len(RECENT),
        "by_event": [{"event": name, "count": count} for name, count in counts.most_common()],
        "last_events": list(RECENT)[-limit:][::-1],
        "file_size_bytes": PATH.stat().st_size if PATH.exists() else 0,
    }
