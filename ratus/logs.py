"""The log: lines of text for people, or of JSON for machines, on standard error."""

import logging
import logging.config

from ratus.config import LogSettings


def configure(settings: LogSettings) -> None:
    """Log from a level on (`debug` to `error`) in a form (`text` or `json`)."""
    process = "%(process)d " if settings.process else ""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "text": {"format": f"%(asctime)s {process}%(levelname)s %(name)s: %(message)s"},
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "format": f"%(asctime)s {process}%(levelname)s %(name)s %(message)s",
                    "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
                },
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": settings.form}},
            "root": {"level": settings.level.upper(), "handlers": ["stderr"]},
            # They tell at this level what is news to their own developers only.
            "loggers": {name: {"level": "WARNING"} for name in ("uvicorn", "pymongo", "asyncio")},
        }
    )
