"""Compiling the kernels for a GPU that is not there, and reading off what became of them."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from las_mm.executors.triton.launch import Build

# What multiplies matrices, of convolutions and of encoder layers.
PRODUCTS = (
    *('gather_conv', 'conv_scatter_add', 'masker_conv1', 'shortcut_conv'),
    *('token_linear', 'token_attention'),
)
WGMMA_ROWS = 64  # fewest rows of a warp-group product, which four warps do together
# Bytes of shared memory that every GPU of a generation gives a program, by compute capability.
# Builds for 8.0 also run on 8.6 and 8.9, which have as little as 12.0 has.
SHARED_MEMORY = {80: 99 * 1024, 90: 227 * 1024, 120: 99 * 1024}
WAIT = 'griddepcontrol.wait'
GLOBAL_ACCESS = re.compile(r'\b(?:ld|st|atom|red)\.(?:\w+\.)*global|cp\.async\.c[ag]')


class _AbsentGPU:
    """What Triton's compiler asks of a driver."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', self._capability, 32)

    def get_current_device(self) -> str:
        return f'offline sm_{self._capability}'

    def get_current_stream(self, device: str) -> int:
        return 0


@contextmanager
def offline_target(capability: int) -> Iterator[None]:
    """Compile for a compute capability, such as 90, in a ``with`` block; nothing can be launched.

    Raises:
        RuntimeError: If Triton interprets kernels in this process.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError('TRITON_INTERPRET: is set; unset it to compile kernels')
    driver.set_active(_AbsentGPU(capability))
    try:
        yield
    finally:
        driver.set_active(None)  # which makes Triton look for a real one when next asked


@dataclass(frozen=True)
class Report:
    """Resources and instructions of a compiled kernel.

    Attributes:
        name: Of the kernel.
        constants: Its compile-time arguments and options.
        capability: Compute capability it was compiled for.
        registers: Per thread.
        spilled: Bytes of stack and local memory per thread.
        shared: Bytes of shared memory per program.
        wgmma, mma, cp_async: Instructions of each kind in the PTX; cp_async those of 16 bytes.
        hasty: Accesses to global memory before the wait for the previous kernel, in a build for
            programmatic dependent launch.
    """

    name: str
    constants: dict[str, Any]
    capability: int
    registers: int
    spilled: int
    shared: int
    wgmma: int
    mma: int
    cp_async: int
    hasty: int

    def faults(self) -> list[str]:
        """What should not be so: spills, or instructions that are missing."""
        # Without tensor cores, float32's reference, a kernel is slow anyway and may spill.
        reference = self.constants.get('PRECISION') == 'ieee'
        faults = [f'spills {self.spilled} bytes'] if self.spilled and not reference else []
        if self.shared > SHARED_MEMORY.get(self.capability, self.shared):
            faults.append(f'needs {self.shared} bytes of shared memory, more than there are')
        if self.hasty:
            faults.append(f'has {self.hasty} accesses to memory before its inputs are ready')
        if self.name not in PRODUCTS or reference:
            return faults
        tile = self.constants
        warp_group = tile['BM'] >= WGMMA_ROWS and tile['num_warps'] >= 4
        if self.capability == 90 and warp_group and not self.wgmma:
            faults.append('has no wgmma')
        if not self.wgmma and not self.mma:
            faults.append('does not use tensor cores')
        if self._loop_steps() > 1 and not self.cp_async:
            faults.append('has no 16-byte cp.async')
        return faults

    def _loop_steps(self) -> int:
        constants = self.constants
        if self.name == 'token_attention':
            return constants['DEPTH']  # any number of keys, which the device alone knows
        taps = constants.get('KERNEL', 1) ** 2
        slices = constants['HEADS'] if constants.get('SOME_INPUTS') else 1
        return slices * taps * constants['DEPTH'] // constants['BK']


def read_report(build: Build, capability: int) -> Report:
    """Read the resource report and the PTX of a kernel that was compiled for ``capability``.

    Raises:
        RuntimeError: If cuobjdump, which comes with Triton, cannot read the binary.
    """
    ptx = build.compiled.asm['ptx']
    usage = _resource_usage(build.compiled.asm['cubin'])
    return Report(
        name=build.name,
        constants=build.constants,
        capability=capability,
        registers=usage['REG'],
        spilled=usage['STACK'] + usage['LOCAL'],
        shared=build.compiled.metadata.shared,
        wgmma=ptx.count('wgmma.mma_async'),
        mma=ptx.count('mma.sync'),
        cp_async=len(re.findall(r'cp\.async\.cg\.shared\.global', ptx)),
        hasty=len(GLOBAL_ACCESS.findall(ptx.partition(WAIT)[0])) if build.constants['PDL'] else 0,
    )


def _resource_usage(cubin: bytes) -> dict[str, int]:
    tool = triton.knobs.nvidia.cuobjdump.path
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'kernel.cubin')
        with open(path, 'wb') as file:
            file.write(cubin)
        found = subprocess.run(
            [tool, '--dump-resource-usage', path], capture_output=True, text=True, check=False
        )
    usage = dict(re.findall(r'(REG|STACK|LOCAL):(\d+)', found.stdout))
    if len(usage) != 3:
        raise RuntimeError(f'{tool}: no resource usage in its output: {found.stderr.strip()}')
    return {key: int(value) for key, value in usage.items()}
