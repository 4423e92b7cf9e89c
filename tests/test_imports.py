"""Every module can be the first one of ours that a fresh interpreter imports."""

import subprocess
import sys

# One process imports what takes long and is not ours, and forks for each module.
CODE = """
import importlib, importlib.util, os, sys
from pathlib import Path
for name in ('torch', 'mmcv.ops', 'mmdet.models', 'mmpretrain.models', 'matplotlib.figure'):
    try:
        importlib.import_module(name)
    except ImportError:
        pass
assert not [name for name in sys.modules if name.split('.')[0] == 'las_mm']
root, failed = Path(sys.argv[1]), []
for path in sorted((root / 'las_mm').rglob('*.py')):
    parts = path.relative_to(root).with_suffix('').parts
    name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
    framework = name.rpartition('_')[2]
    if framework in ('mmdet', 'mmpretrain') and importlib.util.find_spec(framework) is None:
        continue
    pid = os.fork()
    if not pid:
        # las_mm's own face imports a good deal: without it each module stands for itself.
        package = importlib.util.module_from_spec(importlib.util.find_spec('las_mm'))
        sys.modules['las_mm'] = package
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f'{name}: {type(error).__name__}: {error}', flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        failed.append(name)
sys.exit(', '.join(failed) or 0)
"""


def test_each_module_imports_by_itself(repo_root):
    command = [sys.executable, '-W', 'ignore', '-c', CODE, str(repo_root)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo_root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
