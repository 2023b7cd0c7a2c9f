"""Steps a second of DBOS on the same PostgreSQL: `dbos_steps.py URL LONE MANY`.

Prints two figures: LONE steps one after another in one workflow, and MANY workflows of five steps
at once. A step asks whether a file exists, as those of `clustered.df` do.
"""

import logging
import os
import sys
import time

from dbos import DBOS, DBOSConfig

url, lone_steps, many_workflows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config: DBOSConfig = {"name": "steps", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False}
DBOS(config=config)


@DBOS.step()
def exists() -> bool:
    return os.path.exists("nothing")


@DBOS.workflow()
def lone(steps: int) -> int:
    for _ in range(steps):
        exists()
    return steps


def rate(steps: int, work) -> float:
    began = time.perf_counter()
    work()
    return steps / (time.perf_counter() - began)


def many() -> None:
    handles = [DBOS.start_workflow(lone, 5) for _ in range(many_workflows)]
    for handle in handles:
        handle.get_result()


logging.disable(logging.CRITICAL)
DBOS.launch()
lone(10)
print(f"{rate(lone_steps, lambda: lone(lone_steps)):.0f} {rate(5 * many_workflows, many):.0f}")
DBOS.destroy()
