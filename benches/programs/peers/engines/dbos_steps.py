"""DBOS with its SQLite store: 1,000 steps one after another. Seconds by its own clock.

Its store is in the folder given as the argument.
"""

import os
import sys
import time

from dbos import DBOS

DBOS(config={
    "name": "steps",
    "system_database_url": "sqlite:///" + os.path.join(sys.argv[1], "dbos.sqlite"),
    "log_level": "ERROR",
    "run_admin_server": False,
})


@DBOS.step()
def step(i):
    return os.path.exists(f"no file {i}")


@DBOS.workflow()
def steps():
    began = time.perf_counter()
    for i in range(1000):
        step(i)
    return time.perf_counter() - began


DBOS.launch()
print(f"sequential {steps()}")
DBOS.destroy()
