"""The configs that las_mm ships: found by name, from a checkout and from an installed package."""

from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')  # of a wheel, of a checkout


def find_config(name: str | Path, field: str = 'config') -> Path:
    """The file of a config.

    Args:
        name: A path; or the name of a config that las_mm ships, such as
            ``'las_r50_4-4-2-1_t-0.5_imagenet'``, with or without ``.py`` and ``configs/``.
        field: What the config is to the user, for the error.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a config.
    """
    path = Path(name)
    if path.is_file():
        return path
    folder = next(filter(Path.is_dir, FOLDERS), FOLDERS[0])
    wanted = path.name.removesuffix('.py')
    if path.parent in (Path(), Path('configs')) and (folder / f'{wanted}.py').is_file():
        return folder / f'{wanted}.py'
    near = get_close_matches(wanted, [file.stem for file in folder.glob('*.py')], n=1)
    hint = f'did you mean {near[0]}?' if near else f'see {folder} for what there is'
    raise FileNotFoundError(f'{field}: no file {str(name)!r}; {hint}')
