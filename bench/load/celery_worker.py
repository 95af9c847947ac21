"""The application that `celery -A bench.load.celery_worker worker` runs."""

from bench.load.jobs import application

app = application()
