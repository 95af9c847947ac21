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
    inserting: list[float] = field(default_factory=list)  # ms until an insert was acknowledged after a fault
    handing: list[float] = field(default_factory=list)  # ms until a task was handed out
    calls: int = 0
    unknown: int = 0
    tasks: int = 0
    handed: int = 0
    committed: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def recovered(self, inserted: float, handed: float) -> None:
        self.inserting.append(inserted)
        self.handing.append(handed)

    def found(self, findings: Sequence[Finding]) -> None:
        self.findings += findings

    def close(self, history: History, findings: Sequence[Finding]) -> None:
        """Take the totals of the run."""
        self.found(findings)
        for span in history.spans():
            self.calls += 1
            self.unknown += span.outcome is Outcome.UNKNOWN
            self.errors[span.error] += bool(span.error)
        self.tasks = len({one.id for one in history.inserts if one.span.outcome is Outcome.OK})
        self.handed = len(history.deliveries)
        self.committed = sum(one.span.outcome is Outcome.OK for one in history.commits)

    def __str__(self) -> str:
        lines = [
            f"{len(self.inserting)} faults, {self.calls} calls ({self.unknown} of unknown outcome), "
            f"{self.tasks} tasks acknowledged, {self.handed} handed out, {self.committed} commits acknowledged"
        ]
        for what, times in (("an insert", self.inserting), ("a hand-out", self.handing)):
            if times:
                ordered = sorted(times)
                half, late = ordered[len(ordered) // 2], ordered[int(0.99 * (len(ordered) - 1))]
                lines.append(f"{what} after the fault: p50 {half:.0f} ms, p99 {late:.0f} ms, max {ordered[-1]:.0f} ms")
        lines.append("answers other than success: " + ", ".join(f"{name} {n}" for name, n in self.errors.items() if n))
        lines.append(f"{len(self.findings)} findings")
        lines += [f"  {one.rule}: {one.id} {one.text}" for one in self.findings[:SHOWN]]
        return "\n".join(lines)
