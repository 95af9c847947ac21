"""TopicService on a backend."""

# ruff: noqa: N802 (the methods are named by the contract)

from typing import Any

import grpc

from ratus.backend import Backend
from ratus.rpc import wire
from ratus.rpc.paging import page_fields
from ratus.v1 import topic_service_pb2 as pb
from ratus.v1 import topic_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class TopicServicer(topic_service_pb2_grpc.TopicServiceServicer):
    """Reads and deletes topics."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ListTopics(self, request: pb.ListTopicsRequest, context: Context) -> pb.ListTopicsResponse:
        """A page of topics."""
        page = await page_fields(self._backend.list_topics(wire.read_page(request)))
        return pb.ListTopicsResponse(topics=map(wire.write_topic, page.items), next_page_token=page.next_token)

    async def GetTopic(self, request: pb.GetTopicRequest, context: Context) -> pb.GetTopicResponse:
        """A topic and the number of its tasks."""
        return pb.GetTopicResponse(topic=wire.write_topic(await self._backend.get_topic(request.topic)))

    async def GetTopicStats(self, request: pb.GetTopicStatsRequest, context: Context) -> pb.GetTopicStatsResponse:
        """How a topic is doing."""
        return wire.write_stats(await self._backend.get_topic_stats(request.topic))

    async def DeleteTopic(self, request: pb.DeleteTopicRequest, context: Context) -> pb.DeleteTopicResponse:
        """Delete a topic and its tasks."""
        return pb.DeleteTopicResponse(deleted=await self._backend.delete_topic(request.topic))

    async def DeleteTopics(self, request: pb.DeleteTopicsRequest, context: Context) -> pb.DeleteTopicsResponse:
        """Delete all topics and tasks."""
        return pb.DeleteTopicsResponse(deleted=await self._backend.delete_topics())
