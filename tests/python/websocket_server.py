"""An echo server for WebSockets, as `websockets` builds it: websocket_server.py HOST:PORT."""

import asyncio
import logging
import sys

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
