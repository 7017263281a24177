"""The table of a board inside a Markdown file, such as a project's README, between two lines that stay."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write, read_bytes

END = '<!-- end -->'


@dataclass(frozen=True)
class Section:
    """The part of a file that a board fills, between `before` and `after`. picture: file for the plot, None: none is wanted."""
    file: Path
    before: str
    after: str
    picture: Path | None

    def fill(self, text: str, plot: Path | None) -> list[Path]:
        """Put a table, and the plot where there is one, in place. Returns the files that were written."""
        written = [self.file]
        if self.picture and plot:
            with atomic_write(self.picture) as out:
                out.write(plot.read_bytes())
            written.append(self.picture)
            text += f'\n\n![quality against seconds]({self.picture.relative_to(self.file.parent).as_posix()})'
        with atomic_write(self.file) as out:
            out.write(f'{self.before}{text}\n{self.after}'.encode('utf-8', 'surrogateescape'))
        return written


def find_section(file: Path, board: str) -> Section:
    """Between the lines `<!-- board NAME [PICTURE.png] -->` and `<!-- end -->`.

    Raises:
        UserError: where the file does not have both once, or the picture does not lie below its folder.
    """
    start = re.compile(rf'^<!-- board {re.escape(board)}(?: (\S+))? -->\r?\n', re.MULTILINE)
    text = read_bytes(file).decode('utf-8', 'surrogateescape')  # what surrounds the table stays to the byte
    found = list(start.finditer(text))
    end = text.find(END, found[0].end()) if len(found) == 1 else -1
    if end < 0:
        raise UserError(
            f"'{file}' must hold the line '<!-- board {board} -->' once, or with the name of a picture behind the"
            f" board's, and after it '{END}': the table goes between them")
    picture = found[0][1] and file.parent / found[0][1]
    if picture and ('..' in Path(found[0][1]).parts or Path(found[0][1]).is_absolute() or picture.suffix != '.png'):
        raise UserError(f"'{file}': the picture '{found[0][1]}' must be a .png below the folder of this file")
    return Section(file, text[:found[0].end()], text[end:], picture or None)
