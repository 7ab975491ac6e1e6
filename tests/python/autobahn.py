"""Autobahn's cases for a WebSocket server: autobahn.py HOST:PORT prints each case's verdicts, a line each."""

import asyncio
import sys

from kosoku import FailureError, run_fuzzingclient

# Of the cases for speed, those with large messages stay; those that repeat them in pieces or round trips, and those on
# compression, take minutes and ask nothing else of a proxy.
LEFT_OUT = ["9.3.*", "9.4.*", "9.5.*", "9.6.*", "9.7.*", "9.8.*", "12.*", "13.*"]


async def main():
    try:
        results = await run_fuzzingclient(f"ws://{sys.argv[1]}", exclude_cases=LEFT_OUT, concurrency=8)
    except FailureError as failure:
        results = failure.results
    for result in results:
        print(result.case_id, result.behavior.value, result.behavior_close.value, sep="\t")


asyncio.run(main())
