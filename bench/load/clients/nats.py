"""NATS JetStream: a stream on disk with the policy of a work queue, and one pull consumer that all callers share."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

STREAM = "bench"
SUBJECT = "tasks"
ACK_SECONDS = 60
WAIT = 1.0  # seconds that a pull waits before it is repeated
AHEAD = 20_000  # messages that may be delivered and not acknowledged


class Nats:
    """One caller."""

    def __init__(self, stream: JetStreamContext, consumer: JetStreamContext.PullSubscription) -> None:
        self._stream = stream
        self._consumer = consumer

    async def put(self, bodies: Sequence[bytes]) -> None:
        if len(bodies) == 1:
            await self._stream.publish(SUBJECT, bodies[0], stream=STREAM)
            return
        for answer in [await self._stream.publish_async(SUBJECT, body, stream=STREAM) for body in bodies]:
            await answer

    async def take(self, limit: int) -> Sequence[tuple[Msg, bytes]]:
        while True:
            try:
                messages = await self._consumer.fetch(limit, timeout=WAIT)
            except NatsTimeoutError:
                continue
            if messages:
                return [(message, message.data) for message in messages]

    async def done(self, handles: Sequence[Msg]) -> None:
        # The answer to the last says that the server has had those before, too.
        for handle in handles[:-1]:
            await handle.ack()
        await handles[-1].ack_sync()


@asynccontextmanager
async def connect(address: str, count: int, batch: int) -> AsyncIterator[list[Nats]]:
    connection = await nats.connect(f"nats://{address}")
    try:
        stream = connection.jetstream(publish_async_max_pending=AHEAD)
        await stream.add_stream(
            StreamConfig(
                name=STREAM, subjects=[SUBJECT], storage=StorageType.FILE, retention=RetentionPolicy.WORK_QUEUE
            )
        )
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_SECONDS, max_ack_pending=AHEAD)
        consumers = [await stream.pull_subscribe(SUBJECT, durable=STREAM, config=config) for _ in range(count)]
        yield [Nats(stream, consumer) for consumer in consumers]
    finally:
        await connection.close()
