"""The log: lines of text for people, or of JSON for machines, on standard error."""

import logging
import logging.config


def configure(level: str, form: str) -> None:
    """Log from a level on (`debug` to `error`) in a form (`text` or `json`)."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
                    "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
                },
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": form}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
            # They tell at this level what is news to their own developers only.
            "loggers": {name: {"level": "WARNING"} for name in ("uvicorn", "pymongo", "asyncio")},
        }
    )
