"""Tables and the learning-curve picture of an ablation battery."""

from collections.abc import Sequence
from pathlib import Path

from fusion.ablation import SUBSETS, Comparison
from fusion.significance import Difference


def markdown(compared: Sequence[Comparison]) -> str:
    """One table for each share of the labels, in points of F1."""
    parts = []
    for share in dict.fromkeys(row.share for row in compared):
        rows = [row for row in compared if row.share == share]
        lines = [
            f"### {share:.0%} of the labels",
            "",
            "| arm | seeds | F1 (sd) | arm − plain [95 %], p | true − arm [95 %], p | memorised | synonym | unseen |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(rows, key=lambda row: row.f1):
            scores = " | ".join(f"{100 * row.subsets[name]:.1f}" if name in row.subsets else "" for name in SUBSETS)
            lines.append(
                f"| {row.arm} | {row.seeds} | {100 * row.f1:.2f} ({100 * row.deviation:.2f}) "
                f"| {_shown(row.plain)} | {_shown(row.true)} | {scores} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def plain_text(compared: Sequence[Comparison]) -> str:
    """The same for a terminal, without the subsets but the unseen."""
    lines = [f"{'labels':>6}  {'arm':<20}seeds  F1 (sd)        arm - plain                    true - arm"]
    for row in compared:
        unseen = f"  unseen {100 * row.subsets['unseen']:.1f}" if "unseen" in row.subsets else ""
        lines.append(
            f"{row.share:>6.0%}  {row.arm:<20}{row.seeds:>5}  {100 * row.f1:5.2f} ({100 * row.deviation:4.2f})  "
            f"{_shown(row.plain):<30} {_shown(row.true):<30}{unseen}"
        )
    return "\n".join(lines)


def _shown(difference: Difference | None) -> str:
    if difference is None:
        return ""
    d = difference
    return f"{100 * d.value:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}], p {d.p:.4f}"


def draw_learning_curve(
    compared: Sequence[Comparison], file: str | Path, arms: Sequence[str] | None = None, title: str = ""
) -> None:
    """F1, and the score on unseen concepts, by the share of the labels; PNG or SVG by the file's ending."""
    from matplotlib.figure import Figure

    arms = list(dict.fromkeys(row.arm for row in compared)) if arms is None else arms
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for arm in arms:
        rows = sorted((row for row in compared if row.arm == arm), key=lambda row: row.share)
        shares = [100 * row.share for row in rows]
        left.errorbar(
            shares, [100 * r.f1 for r in rows], [100 * r.deviation for r in rows], marker="o", capsize=2, label=arm
        )
        there = [row for row in rows if "unseen" in row.subsets]
        right.plot([100 * r.share for r in there], [100 * r.subsets["unseen"] for r in there], marker="o", label=arm)
    for axes, name in ((left, "F1, mean and sd over seeds"), (right, "recall, concepts that training never shows")):
        axes.set(xscale="log", xlabel="% of the training documents", title=name)
        ticks = sorted({100 * row.share for row in compared})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.suptitle(title)
    figure.savefig(file, dpi=130)
