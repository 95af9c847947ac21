"""What a MongoDB server was asked by our engines, as its profiler tells."""

from typing import Any

from ratus.config import MongoDBSettings
from tests.mongod import Mongod


class Asked:
    """The commands on a collection from now on, until they are looked at."""

    def __init__(self, server: Mongod, settings: MongoDBSettings) -> None:
        self._database = server.client[settings.database]
        self._namespace = f"{settings.database}.{settings.collection}"
        self._database["system.profile"].drop()
        self._database.command("profile", 2)

    def entries(self) -> list[dict[str, Any]]:
        """What the profiler has noted."""
        self._database.command("profile", 0)
        return list(self._database["system.profile"].find({"ns": self._namespace}))

    def commands(self) -> list[str]:
        """The names of the commands; `q` is a statement of an update."""
        return [next(iter(entry["command"])) for entry in self.entries()]
