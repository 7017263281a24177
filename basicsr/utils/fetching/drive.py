"""Files on Google Drive: large ones come behind a page that asks whether one wants them although nobody looks for viruses."""
from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

from basicsr.utils.errors import UserError
from basicsr.utils.fetching.addresses import DriveFile
from basicsr.utils.fetching.web import download

_START = 'https://drive.google.com/uc?export=download&id='


class _Form(HTMLParser):
    """Where the page's form leads, with its hidden fields."""

    def __init__(self) -> None:
        super().__init__()
        self.action, self.inside = '', False
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == 'form' and found.get('id') == 'download-form':
            self.action, self.inside = found.get('action') or '', True
        elif tag == 'input' and self.inside and found.get('name'):
            self.fields[str(found['name'])] = found.get('value') or ''

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != 'form'


def download_from_drive(source: DriveFile, part: Path, expected: int | None = None) -> str:
    """`web.download` of a file on Google Drive. Raises `UserError` also where its owner's limit is used up."""

    def confirmed(page: str) -> str:
        form = _Form()
        form.feed(page)
        if form.action:
            return f'{form.action}?{urlencode(form.fields)}'
        why = ('so many have fetched it today that Google Drive gives it to no one'
               if 'quota' in page.lower() else 'it is not shared with everyone, or is not there')
        raise UserError(f"'{source}' cannot be fetched: {why}; get it with a browser, and give --weights the file")

    return download(_START + source.id, part, expected, confirmed)
