"""The contents of the site, which stand at the side of every page."""

from typing import Final

CONTENTS: Final = {
    "Begin": ["start.md"],
    "Guide": [
        "guide/concepts.md",
        "guide/delivery.md",
        "guide/retries.md",
        "guide/idempotency.md",
        "guide/scheduling.md",
        "guide/priorities.md",
        "guide/engines.md",
        "guide/replica-set.md",
        "guide/sharding.md",
    ],
    "Reference": [
        "client.md",
        "client-reference.md",
        "cli.md",
        "settings.md",
        "grpc.md",
        "rest.md",
        "repeats.md",
    ],
    "Operations": ["operations/running.md", "operations/metrics.md", "operations/backup.md"],
    "Coming from elsewhere": ["migration/ratus.md", "migration/celery.md"],
    "Project": ["performance.md", "reliability.md", "decisions/README.md"],
}
NOT_YET: Final = {"performance.md", "reliability.md"}  # in the contents once they are there
