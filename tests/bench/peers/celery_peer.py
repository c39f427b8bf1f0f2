"""Celery: no-op tasks from Redis, with its own pool of processes. Prints one JSON line."""

import json
import os
import subprocess
import sys
import time

from celery import Celery

app = Celery("celery_peer", broker=os.environ["REDIS_URL"])
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 64
app.conf.broker_connection_retry_on_startup = True


@app.task
def noop():
    """Does nothing."""


def main():
    """Fills the queue, then has a worker empty it."""
    jobs = int(os.environ["JOBS"])
    filling = time.monotonic()
    with app.producer_or_acquire() as producer:
        for _ in range(jobs):
            noop.apply_async(producer=producer)
    filled = time.monotonic()
    command = [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-c", "2", "-l", "ERROR"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    worker = subprocess.Popen(command, **quiet)
    with app.connection_for_read() as connection:
        redis = connection.default_channel.client
        while redis.llen("celery") == jobs:
            time.sleep(0.001)
        working = time.monotonic()
        while redis.llen("celery") or redis.hlen("unacked"):
            time.sleep(0.005)
    worked = time.monotonic()
    worker.terminate()
    worker.wait()
    rates = {"enqueue_per_s": jobs / (filled - filling), "per_s": jobs / (worked - working)}
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
