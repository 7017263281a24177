"""Loss and metric curves of a run as CSV files and one picture."""
from __future__ import annotations

import csv
import math
from pathlib import Path

from basicsr.utils.errors import naming
from basicsr.utils.files import atomic_write, check_kept
from basicsr.utils.logger import get_root_logger, timestamp


class Table:
    """A CSV file with an `iter` column that grows by rows; columns may appear later.

    Args:
        path: read when it exists; rows after iteration `keep_until` are dropped (they are about to be repeated). A file
            that is no such table gets another name, and the table begins anew.
    """

    def __init__(self, path: Path, keep_until: int = 0):
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            try:
                self.rows = [row for row in _rows(path) if int(row['iter']) <= keep_until]
            except (KeyError, TypeError, ValueError, csv.Error) as error:
                aside = path.replace(path.with_name(f'{path.name}.damaged_{timestamp()}'))
                get_root_logger().warning(f"'{path}' is damaged or no table of a run ({type(error).__name__}: {error});"
                                          f" it is now '{aside.name}', and a new one begins")
            else:
                self._write_all()

    def add(self, iteration: int, values: dict[str, float]) -> None:
        row = {'iter': str(iteration), **{k: repr(float(v)) for k, v in values.items()}}
        grows = bool(self.rows) and row.keys() <= self.columns().keys()
        self.rows.append(row)
        if not grows:
            self._write_all()
            return
        check_kept(self.path)
        with naming(self.path), self.path.open('a', newline='', encoding='utf-8') as file:
            csv.DictWriter(file, list(self.columns())).writerow(row)

    def keep(self, until: int) -> None:
        """Drop the rows after an iteration, which come again."""
        kept = [row for row in self.rows if int(row['iter']) <= until]
        if len(kept) < len(self.rows):
            self.rows = kept
            self._write_all()

    def columns(self) -> dict[str, None]:
        return dict.fromkeys(k for row in self.rows for k in row)

    def series(self) -> dict[str, tuple[list[int], list[float]]]:
        """Column name to (iterations, values)."""
        out: dict[str, tuple[list[int], list[float]]] = {}
        for name in self.columns():
            points = [(int(r['iter']), float(r[name])) for r in self.rows if r.get(name)] if name != 'iter' else []
            points = [p for p in points if math.isfinite(p[1])]
            if points:
                out[name] = [i for i, _ in points], [value for _, value in points]
        return out

    def _write_all(self) -> None:
        with atomic_write(self.path, 'w') as file:
            writer = csv.DictWriter(file, list(self.columns()))
            writer.writeheader()
            writer.writerows(self.rows)


def _rows(path: Path) -> list[dict[str, str]]:
    """Raises ValueError, TypeError or csv.Error where a row is not as the heading says."""
    with path.open(newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file, strict=True)
        rows = [dict(row) for row in reader]
    for row in rows:
        if None in row:
            raise ValueError('a row is longer than the heading')
        for value in filter(None, row.values()):
            float(value)
    return rows


def plot(losses: Table, metrics: Table, path: Path, title: str) -> None:
    """One panel per loss, learning rate and metric, all against the iteration."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    panels = [*losses.series().items(), *metrics.series().items()]
    if not panels:
        return
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 2.8 * rows), squeeze=False, layout='constrained')
    for axis, (name, (x, y)) in zip(axes.flat, panels):
        axis.plot(x, y, marker='o' if len(x) < 30 else None, markersize=3, linewidth=1.2)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel('iteration', fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(panels):]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=11)
    with atomic_write(path) as file:
        figure.savefig(file, format='png', dpi=110)
    plt.close(figure)
