"""Opening the page in a browser without showing the token to other users of the machine.

Everybody can read the command lines of everybody's programs, so the address with the token must not be on the
browser's. The browser is given a file instead that only this user can read, and the file sends it to the page.
"""

import os
import shutil
import tempfile
import webbrowser
from html import escape
from pathlib import Path
from typing import Self

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>flowgression</title>
<p><a href="{address}">The page</a></p>
"""


class OneTimeFile:
    """A file of mode 600, in a folder of mode 700, that sends a browser to an address; removed at the end of `with`.

    It lies in the home folder where that can be written, since browsers in a sandbox see nothing of the folder for
    temporary files.
    """

    def __init__(self, address: str):
        home = Path.home()
        place = home if os.access(home, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="flowgression-", dir=place))  # of mode 700
        self.path = self._folder / "open.html"
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(PAGE.format(address=escape(address)))

    def open(self) -> None:
        """Give it to the browser."""
        webbrowser.open(self.path.as_uri())

    def remove(self) -> None:
        """Remove it; nothing if it is gone."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
