"""Quality against time, a point for each row of a board."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from basicsr.utils.files import atomic_write


def draw(report: dict[str, Any], label: str, heading: str, path: Path) -> bool:
    """The metric `label` against seconds an image, as a PNG; whether there is any point. `heading`: of the metric."""
    points = [row for row in report['rows'] if row.get('seconds') and row['plain'].get(label) is not None]
    path.unlink(missing_ok=True)
    if not points:
        return False
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure = figure_of(report['board'], points, label, heading)
    with atomic_write(path) as file:
        figure.savefig(file, format='png', dpi=130)
    plt.close(figure)
    return True


def figure_of(title: str, points: list[dict[str, Any]], label: str, heading: str) -> Any:
    """`points`: rows of a report."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator
    figure, axis = plt.subplots(figsize=(8, 5), layout='constrained')
    seconds = [row['seconds'] for row in points]
    middle = math.sqrt(min(seconds) * max(seconds))
    for row in points:
        point = row['seconds'], row['plain'][label]
        axis.scatter(*point, s=20 + row['parameters'] / 2e4, alpha=0.7)
        left = row['seconds'] > middle  # where there is more room inside the frame
        axis.annotate(row['name'], point, xytext=(-6 if left else 6, 4), textcoords='offset points', fontsize=8,
                      ha='right' if left else 'left')
    axis.set_xscale('log')
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter('{x:g}')
    axis.xaxis.set_minor_formatter('')
    axis.set_xlabel('seconds an image; the area grows with the parameters')
    axis.set_ylabel(heading)
    axis.margins(0.15)
    axis.grid(alpha=0.3)
    axis.set_title(title, fontsize=11)
    return figure
