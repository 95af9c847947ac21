"""Makes MongoDB servers a replica set, unless they are one, and ends when it has a primary.

`python initiate.py NAME HOST:PORT…`: needs pymongo, which the image of Ratus has. It may be run again and again.
"""

import sys
from datetime import timedelta

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

PATIENCE = timedelta(seconds=60)
ALREADY_INITIALIZED = 23
NOT_YET_INITIALIZED = 94


def initiate(name: str, hosts: list[str]) -> None:
    """Return when the set has a primary; PyMongoError if it does not come to that."""
    members = [{"_id": number, "host": host} for number, host in enumerate(hosts)]
    milliseconds = int(PATIENCE / timedelta(milliseconds=1))
    for host in hosts:  # all have to run before the first of them is told of the others
        with pymongo.MongoClient(host, directConnection=True, serverSelectionTimeoutMS=milliseconds) as member:
            member.admin.command("ping")
    with pymongo.MongoClient(hosts[0], directConnection=True) as first:
        try:
            first.admin.command("replSetGetStatus")
        except OperationFailure as error:
            if error.code != NOT_YET_INITIALIZED:
                raise
            try:
                first.admin.command("replSetInitiate", {"_id": name, "members": members})
            except OperationFailure as error:
                if error.code != ALREADY_INITIALIZED:
                    raise
    with pymongo.MongoClient(hosts, replicaSet=name, serverSelectionTimeoutMS=milliseconds) as replica_set:
        replica_set.admin.command("ping")  # waits for a primary


if __name__ == "__main__":
    name, *hosts = sys.argv[1:]
    try:
        initiate(name, hosts)
    except PyMongoError as error:
        sys.exit(f"the replica set could not be initiated: {error}")
    print(f"the replica set {name} has a primary")
