"""Writing files: a checkpoint is on the disk whole, or not at all."""

from pathlib import Path

from mmengine.fileio import LocalBackend

from las_mm.files import write_whole


class AtomicLocalBackend(LocalBackend):
    """Writes to a temporary file, then renames: a file is whole or not there."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_whole(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)
