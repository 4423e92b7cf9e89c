"""What torch.compile makes of functions that are marked without importing the compiler."""

import subprocess
import sys

import torch

from las_mm.ops.compiling import constant_when_compiled, not_compiled

CODE = """
import sys
import torch
from las_mm.ops.compiling import not_compiled

@not_compiled
def told(x):
    return x + torch.compiler.is_compiling()

assert told(1) == 1 and 'torch._dynamo' not in sys.modules
seen = []
def backend(graph, inputs):
    seen.append([node.target for node in graph.graph.nodes if node.op == 'call_function'])
    return graph.forward
compiled = torch.compile(lambda x: told(x * 2) * 3, backend=backend)
for size in (3, 3, 4):
    x = torch.ones(size)
    assert compiled(x).tolist() == [6.0] * size
assert told(1) == 1
assert seen and not any('add' in str(target) for graph in seen for target in graph), seen
"""


def test_a_function_that_is_not_compiled(repo_root):
    command = [sys.executable, '-W', 'ignore', '-c', CODE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo_root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_nothing_of_it_is_compiled_where_the_compiler_is_loaded_already():
    import torch._dynamo

    torch._dynamo.reset()
    told = not_compiled(lambda x: x + torch.compiler.is_compiling())
    compiled = torch.compile(lambda x: told(x * 2), backend='eager')
    assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]


def test_a_constant_is_marked_as_torch_does():
    def mine() -> int:
        return 1

    def torch_s() -> int:
        return 1

    marked, expected = constant_when_compiled(mine), torch.compiler.assume_constant_result(torch_s)
    assert marked is mine and vars(marked) == vars(expected) != {}
