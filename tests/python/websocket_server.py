"""An echo server for WebSockets, as `websockets` builds it: websocket_server.py HOST:PORT."""

import asyncio
import logging
import os
import sys

# The suite sends 4 MiB in fragments of 64 bytes. Read when the library is imported.
os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = str(64 << 10)

from websockets.asyncio.server import serve


# The suite breaks the protocol in a hundred ways, and each would be a page of log.
logging.getLogger("websockets").setLevel(logging.CRITICAL)


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    host, port = sys.argv[1].rsplit(":", 1)
    # The suite sends messages of 16 MiB.
    async with serve(echo, host, int(port), max_size=64 << 20) as server:
        await server.serve_forever()


asyncio.run(main())
