"""What a MongoDB server was asked by our engines, as its profiler tells."""

from ratus.config import MongoDBSettings
from tests.mongod import Mongod


class Asked:
    """The commands on a collection from now on."""

    def __init__(self, server: Mongod, settings: MongoDBSettings) -> None:
        self._database = server.client[settings.database]
        self._database["system.profile"].drop()
        self._database.command("profile", 2)

    def commands(self) -> list[str]:
        """Their names (`q` is a statement of an update), once no more are noted."""
        self._database.command("profile", 0)
        query = {"ns": {"$regex": r"\.tasks$"}}
        return [next(iter(each["command"])) for each in self._database["system.profile"].find(query)]
