"""The house rules, read from the source alone: who imports whom, and who changes what is not ours.

A file may import lower floors and its own package; type-only and lazy imports count like any other.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Floor by floor, from the top, what stands there and which foreign packages it may import. The
# longest name that fits counts. Floors above the first one may use torch.
FLOORS: list[dict[str, set[str]]] = [
    {
        'las_mm': set(),
        'las_mm.cli': {'mmengine'},
        'las_mm.patches': {'mmcv', 'mmengine'},
        'las_mm.registration': set(),
    },
    {'las_mm.hooks': {'mmengine', 'mmdet', 'mmpretrain', 'numpy'}},
    {'las_mm.reports': {'matplotlib', 'rich', 'mmengine', 'numpy', 'jinja2', 'PIL', 'cv2'}},
    {
        'las_mm.config': {'mmengine'},
        'las_mm.data': {'mmengine', 'mmcv', 'cv2', 'numpy'},
        'las_mm.checkpoints': {'mmengine', 'numpy'},
    },
    {'las_mm.inference': {'triton'}, 'las_mm.latency': {'mmengine', 'numpy'}},
    {'las_mm.models': {'mmdet', 'mmpretrain', 'torchvision'}},
    {'las_mm.executors': set(), 'las_mm.executors.triton': {'triton'}, 'las_mm.accounting': set()},
    {'las_mm.layers': set()},
    {'las_mm.ops': set(), 'las_mm.losses': set()},
    {
        'las_mm.version': set(),
        'las_mm.checks': set(),
        'las_mm.files': set(),
        'las_mm.importing': set(),
        'las_mm.config_parts': set(),
    },
]
GROUND = len(FLOORS) - 1
# Beside all floors; who may use the predictor, which itself uses nothing of ours.
PREDICTOR = 'latency_predictor'
USES_PREDICTOR = ('las_mm.cli', 'las_mm.hooks', 'las_mm.reports', 'las_mm.latency')
PREDICTOR_USES = {'numpy', 'yaml', 'matplotlib', 'rich'}


def module_name(path: Path) -> str:
    """The dotted name of a file, a package's for its ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


@cache
def sources() -> dict[str, tuple[Path, ast.Module]]:
    """Every module of ours, parsed."""
    paths = [p for top in ('las_mm', PREDICTOR) for p in sorted((ROOT / top).rglob('*.py'))]
    return {module_name(path): (path, ast.parse(path.read_text())) for path in paths}


def imports(name: str) -> Iterator[tuple[str, int]]:
    """Dotted name and line of everything that a module imports, wherever in it."""
    path, tree = sources()[name]
    package = name.split('.') if path.name == '__init__.py' else name.split('.')[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = '.'.join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f'{origin}.{alias.name}'
                yield whole if whole in sources() else origin, node.lineno


def place(name: str) -> tuple[int, str]:
    """Floor, from the top, and room of one of our modules."""
    rooms = [(floor, room) for floor, row in enumerate(FLOORS) for room in row]
    fitting = [(f, r) for f, r in rooms if name == r or r != 'las_mm' and name.startswith(f'{r}.')]
    assert fitting, f'{name} stands on no floor; give it a place in FLOORS'
    return max(fitting, key=lambda pair: len(pair[1]))


def room_of_package(name: str) -> str:
    """The package, right below las_mm, that a module is in."""
    return '.'.join(name.split('.')[:2])


def ours(name: str) -> bool:
    return name.split('.')[0] in ('las_mm', PREDICTOR)


OWN = sorted(name for name in sources() if name.split('.')[0] == 'las_mm')


@pytest.mark.parametrize('name', OWN)
def test_a_file_imports_lower_floors_only(name):
    floor, _ = place(name)
    for imported, line in imports(name):
        if imported.split('.')[0] != 'las_mm':
            continue
        if name != 'las_mm' and room_of_package(imported) == room_of_package(name):
            continue
        other, room = place(imported)
        assert other > floor or name == 'las_mm', (
            f'{sources()[name][0]}:{line}: on floor {GROUND - floor}, imports {imported} of {room} '
            f'on floor {GROUND - other}'
        )


@pytest.mark.parametrize('name', OWN)
def test_a_file_imports_the_foreign_packages_of_its_floor_only(name):
    floor, room = place(name)
    allowed = set(FLOORS[floor][room]) | ({'torch'} if floor < GROUND else set())
    for imported, line in imports(name):
        root = imported.split('.')[0]
        if root in sys.stdlib_module_names or root == 'las_mm':
            continue
        where = f'{sources()[name][0]}:{line}: imports {imported}'
        if root == PREDICTOR:
            assert room in USES_PREDICTOR, where
            continue
        assert root in allowed, where
        if room == 'las_mm.models':  # a framework in the files that bear its name alone
            suffix = 'torch' if root in ('torch', 'torchvision') else root
            assert root == 'torch' or name.endswith(f'_{suffix}'), where


def test_the_predictor_needs_neither_torch_nor_us():
    for name in sources():
        if name.split('.')[0] == PREDICTOR:
            roots = {imported.split('.')[0] for imported, _ in imports(name)}
            foreign = roots - set(sys.stdlib_module_names) - {PREDICTOR}
            assert foreign <= PREDICTOR_USES, name


def test_no_imports_go_in_circles():
    graph: dict[str, set[str]] = {}
    for name in sources():
        above = {name.rsplit('.', depth)[0] for depth in range(1, name.count('.') + 1)}
        needed: set[str] = set()
        for imported, _ in imports(name):
            if ours(imported):  # importing a module imports the packages that it is in
                parts = imported.split('.')
                needed |= {'.'.join(parts[: end + 1]) for end in range(len(parts))} - above
                needed |= {imported}
        graph[name] = needed - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f'imports go in a circle: {" <- ".join(error.args[1])}')


LAZY = '__getattr__, __dir__ = lazy_submodules(__name__, __path__)'


def is_guard(node: ast.If) -> bool:
    """Whether a statement is ``if TYPE_CHECKING:`` or ``if not TYPE_CHECKING:``."""
    return ast.unparse(node.test) in ('TYPE_CHECKING', 'not TYPE_CHECKING')


def is_face(node: ast.stmt, name: str) -> bool:
    """Whether a statement may stand in an ``__init__.py``."""
    if isinstance(node, ast.If):
        return is_guard(node) and all(is_face(inner, name) for inner in node.body + node.orelse)
    if isinstance(node, ast.Assign):
        return ast.unparse(node) == LAZY or [
            getattr(target, 'id', None) for target in node.targets
        ] == ['__all__']
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return name == 'las_mm' and ast.unparse(node.value) in ('install()', 'register()')
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, (ast.Import, ast.ImportFrom))


@pytest.mark.parametrize('name', [n for n, (p, _) in sources().items() if p.stem == '__init__'])
def test_a_package_s_face_holds_imports_and_names_only(name):
    for node in sources()[name][1].body:
        assert is_face(node, name), f'{sources()[name][0]}:{node.lineno}: {ast.unparse(node)[:60]}'


def foreign_names(name: str) -> set[str]:
    """What a module calls things that it imports from packages which are not ours."""
    found = set()
    for node in ast.walk(sources()[name][1]):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            origin = node.module if isinstance(node, ast.ImportFrom) else ''
            level = node.level if isinstance(node, ast.ImportFrom) else 0
            for alias in node.names:
                root = (origin or alias.name).split('.')[0]
                known = ours(root) or root in sys.stdlib_module_names
                if not level and not known:
                    found.add((alias.asname or alias.name).split('.')[0])
    return found


def changes(name: str) -> Iterator[tuple[int, str]]:
    """Line and text of what a module does to objects of foreign packages."""
    foreign = foreign_names(name)
    for node in ast.walk(sources()[name][1]):
        targets: list[ast.expr] = []
        if isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, (ast.Assign, ast.Delete)):
            targets = node.targets
        for target in targets:
            root: ast.expr = target
            while isinstance(root, (ast.Attribute, ast.Subscript)):
                root = root.value
            if root is not target and isinstance(root, ast.Name) and root.id in foreign:
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Call):
            forced = any(
                word.arg == 'force' and ast.unparse(word.value) == 'True' for word in node.keywords
            )
            called = ast.unparse(node.func)
            owner = ast.unparse(node.args[0]).split('.')[0] if node.args else ''
            if forced and 'register' in called or called == 'setattr' and owner in foreign:
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize('name', list(sources()))
def test_objects_of_other_packages_are_changed_in_patches_only(name):
    if name != 'las_mm.patches':
        for line, text in changes(name):
            pytest.fail(f'{sources()[name][0]}:{line}: {text.splitlines()[0]}')
