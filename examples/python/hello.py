"""Hello world: inserts two tasks, one of which is due in a second, and prints them as they come.

python hello.py [ADDRESS]
"""

import asyncio
import sys

import ratus


async def main(address: str) -> None:
    """Insert two tasks and execute two."""
    async with ratus.connect(address, consumer="hello.py") as queue:
        await queue.insert("greetings", {"hello": "later"}, defer="1s")
        await queue.insert("greetings", {"hello": "world"})
        left = 2
        async for task in queue.subscribe("greetings", timeout="30s"):
            async with task:  # committed at the end of the block, given back if it raises
                print(task.payload)
            left -= 1
            if not left:
                break


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2] or ["127.0.0.1:50051"]))
