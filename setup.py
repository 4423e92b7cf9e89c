"""Packaging of las_mm and latency_predictor.

The exact versions that the project is tested with are in requirements/; here are the ranges that
an environment made by other means may have.
"""

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_FILES = ('configs', 'tools', 'model-index.yml')
DEVELOPERS = ('benchmarks', 'predictor', 'misc')  # folders of tools/ that users do not run
# Nothing of OpenMMLab is required as such: its packages and the forks own the same folders, so that
# requiring the one would overwrite the other.
# mmengine finds configs of other packages by pkg_resources, which setuptools 82 dropped.
BASE = ['mmengine>=0.10.7,<0.11', 'mmcv>=2.1,<2.2', 'setuptools<82']
FORK_BASE = ['onedl-mmengine>=0.10.12,<0.11', 'onedl-mmcv>=2.3.6,<2.4']
DET, PRETRAIN = 'mmdet>=3.3,<3.4', 'mmpretrain>=1.2,<1.3'
FORK_DET, FORK_PRETRAIN = 'onedl-mmdetection>=3.5.1,<3.6', 'onedl-mmpretrain>=1.3.6,<1.4'
FORKS = {
    'onedl-det': [*FORK_BASE, FORK_DET],
    'onedl-pretrain': [*FORK_BASE, FORK_PRETRAIN],
    'onedl': [*FORK_BASE, FORK_DET, FORK_PRETRAIN],
}
EXTRAS = {
    'det': [*BASE, DET],
    'pretrain': [*BASE, PRETRAIN],
    'openmmlab': [*BASE, DET, PRETRAIN],
    'docs': ['furo', 'myst-parser', 'sphinx>=8.2'],
    'demo': ['pillow', 'pycocotools', 'scikit-image', 'scikit-learn', 'scipy'],
    'export': ['onnx', 'onnxscript'],
    'plot': ['matplotlib'],
    'tests': ['hypothesis', 'mypy', 'pytest', 'pytest-xdist', 'ruff', 'types-PyYAML'],
}


def read_version() -> str:
    """Return ``las_mm.version.__version__`` without importing torch."""
    scope: dict = {}
    exec((ROOT / 'las_mm' / 'version.py').read_text(), scope)
    return scope['__version__']


def read_readme() -> str:
    """Return README.md, or nothing in a checkout without it."""
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.is_file() else ''


class BuildWithMim(build_py):
    """Adds configs, tools and the model index as ``las_mm/.mim``, where OpenMIM looks for them."""

    def run(self):
        super().run()
        if self.editable_mode:  # the checkout itself has them
            return
        target = Path(self.build_lib, 'las_mm', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM_FILES:
            source = ROOT / name
            if source.is_dir():
                ignore = shutil.ignore_patterns('__pycache__', '*.pyc', *DEVELOPERS)
                shutil.copytree(source, target / name, ignore=ignore)
            elif source.is_file():
                shutil.copy2(source, target)


def cpu_extension() -> dict:
    """Arguments of ``setup`` that compile the CPU executor.

    None where PyTorch is missing or compiling fails: it is then built on first use.
    """
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        return {}
    folder = Path('las_mm', 'ops', 'native')
    build = runpy.run_path(str(ROOT / folder / 'compilation.py'))
    extension = CppExtension(
        '.'.join([*folder.parts, build['NAME']]),
        [str(folder / 'csrc' / Path(source).name) for source in build['sources']()],
        extra_compile_args=build['compile_args'](),
        extra_link_args=build['link_args'](),
        optional=True,
    )
    # Without ninja, whose failure would not count as that of an optional extension.
    return {'ext_modules': [extension], 'command': BuildExtension.with_options(use_ninja=False)}


extension = cpu_extension()

setup(
    name='las_mm',
    version=read_version(),
    description='Latency-aware spatial-wise dynamic networks as an OpenMMLab plugin',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=('las_mm*', 'latency_predictor*')),
    package_data={
        'las_mm': ['py.typed', '**/*.cpp', '**/*.h', 'reports/html/*.*'],
        'latency_predictor': ['py.typed', '*.yaml', '*.yml', '**/*.yaml', '**/*.yml'],
    },
    ext_modules=extension.get('ext_modules', []),
    cmdclass={
        'build_py': BuildWithMim,
        **({'build_ext': extension['command']} if extension else {}),
    },
    python_requires='>=3.10',
    install_requires=['jinja2', 'numpy', 'PyYAML', 'rich', 'torch>=2.0'],
    extras_require={
        **FORKS,
        **EXTRAS,
        'all': sorted({pin for pins in EXTRAS.values() for pin in pins}),
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    zip_safe=False,
)
