from prometheus_client import CollectorRegistry, Counter

from ratus.metrics import MAX_LABEL_SETS, Bounded


def test_label_sets_beyond_the_bound_read_other() -> None:
    registry = CollectorRegistry()
    metric = Bounded(Counter("calls", "Calls", ("topic", "method"), registry=registry), chosen=1)
    for number in range(MAX_LABEL_SETS + 10):
        metric.labels(f"t{number}", "GET").inc()
    metric.labels("t0", "GET").inc()

    def value(topic: str) -> float | None:
        return registry.get_sample_value("calls_total", {"topic": topic, "method": "GET"})

    assert value("t0") == 2
    assert value(f"t{MAX_LABEL_SETS - 1}") == 1
    assert value(f"t{MAX_LABEL_SETS}") is None
    assert value("other") == 10
