#!/usr/bin/env python3
"""Runs the queries of docs/ANALYTICS.md, as they stand there, on an archive in a folder, and prints their results as JSON.

    run.py ENGINE DOCUMENT FOLDER        ENGINE is duckdb or clickhouse
"""
import json
import os
import re
import sys
import tempfile


def queries(engine, document):
    return re.findall(rf"^```sql {engine}\n(.*?)^```", document, re.MULTILINE | re.DOTALL)


def duckdb_results(texts, folder):
    import duckdb

    connection = duckdb.connect()
    for text in texts:
        result = connection.execute(text.replace("s3://bucket/events", folder))
        rows = result.fetchall()
        yield [[value if isinstance(value, (int, float)) else str(value) for value in row] for row in rows]
    # Which files a query of one node reads.
    plan = connection.execute("EXPLAIN SELECT count(*) FROM events WHERE node = 'web-1'")
    yield [list(row) for row in plan.fetchall()]


def clickhouse_results(texts, folder):
    from chdb import session

    with session.Session(os.path.join(os.getcwd(), "clickhouse")) as engine:
        engine.query("CREATE DATABASE IF NOT EXISTS run")
        engine.query("USE run")
        for text in texts:
            answer = engine.query(text.replace("'events/", f"'{folder}/").rstrip().rstrip(";"), "JSONCompact")
            rows = json.loads(str(answer))["data"] if str(answer) else []
            yield rows


def main():
    engine, document, folder = sys.argv[1:]
    with open(document, encoding="utf-8") as file:
        texts = queries(engine, file.read())
    folder = os.path.abspath(folder)
    os.chdir(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
    results = {"duckdb": duckdb_results, "clickhouse": clickhouse_results}[engine]
    print(json.dumps(list(results(texts, folder))))


main()
