"""Autobahn's cases for a WebSocket server: autobahn.py HOST:PORT CASES... prints each case's verdicts, a line each."""

import asyncio
import os
import sys

from kosoku import FailureError, run_fuzzingclient

# Of the cases on compression (12 and 13), a thousand messages of each of many sizes, those up to 1 KiB stay. The larger ones
# ask the same of a proxy, and are given 20 s, which a server in Python may or may not need.
LEFT_OUT = [f"{kind}.{offer}.{size}" for kind in (12, 13) for offer in range(1, 8) for size in range(5, 19)]


async def main(address, *cases):
    try:
        results = await run_fuzzingclient(
            f"ws://{address}", cases=list(cases), exclude_cases=LEFT_OUT, concurrency=8
        )
    except FailureError as failure:
        results = failure.results
    for result in results:
        print(result.case_id, result.behavior.value, result.behavior_close.value, sep="\t")


asyncio.run(main(*sys.argv[1:]))
sys.stdout.flush()
# The suite has threads of its own, which now and then abort an interpreter that takes its leave of them.
os._exit(0)
