"""What a run has shown."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.reliability.checker import Finding
from tests.reliability.history import History, Outcome

SHOWN = 20


@dataclass(slots=True)
class Report:
    """Figures and findings of a run."""

    findings: list[Finding] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=dict)  # ms from a fault until something worked again
    calls: int = 0
    unknown: int = 0
    tasks: int = 0
    handed: int = 0
    committed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    restored: int = 0  # tasks in copies
    finished: int = 0  # of them, by servers on the copies
    notes: list[str] = field(default_factory=list)

    def fault(self, name: str, **times: float) -> None:
        """Note a fault, and how long after it what worked again."""
        self.faults[name] += 1
        for what, took in times.items():
            self.times.setdefault(f"{name}: {what}", []).append(took)

    def found(self, findings: Sequence[Finding]) -> None:
        self.findings += findings

    def close(self, history: History, findings: Sequence[Finding]) -> None:
        """Add the totals of the run, or of a part of it with tasks of its own."""
        self.found(findings)
        for span in history.spans():
            self.calls += 1
            self.unknown += span.outcome is Outcome.UNKNOWN
            self.errors[span.error] += bool(span.error)
        self.tasks += len({one.id for one in history.inserts if one.span.outcome is Outcome.OK})
        self.handed += len(history.deliveries)
        self.committed += sum(one.span.outcome is Outcome.OK for one in history.commits)

    def __str__(self) -> str:
        lines = [
            "faults: " + ", ".join(f"{name} {count}" for name, count in self.faults.items()),
            f"{self.calls} calls ({self.unknown} of unknown outcome), {self.tasks} tasks acknowledged, "
            f"{self.handed} handed out, {self.committed} commits acknowledged",
        ]
        for what, times in self.times.items():
            half, late = (sorted(times)[int(share * (len(times) - 1))] for share in (0.5, 0.99))
            lines.append(f"{what} after ms: p50 {half:.0f}, p99 {late:.0f}, max {max(times):.0f}")
        lines.append("answers other than success: " + ", ".join(f"{name} {n}" for name, n in self.errors.items() if n))
        if self.restored:
            lines.append(f"{self.restored} tasks restored, {self.finished} of them done afterwards")
        lines += self.notes
        lines.append(f"{len(self.findings)} findings")
        lines += [f"  {one.rule}: {one.id} {one.text}" for one in self.findings[:SHOWN]]
        return "\n".join(lines)
