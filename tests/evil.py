"""A checkpoint's content that acts when it is unpickled."""

import os


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)
