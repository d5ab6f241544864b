"""Check the structure of the product and fail where it breaks a limit: python -m scripts.check_structure

Limits: no import cycles, no class name defined twice, module and function sizes.
"""

from __future__ import annotations

import ast
import graphlib
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import grimp

from scripts.check_prose import PRODUCT, python_files

MAX_MODULE_MEDIAN = 110
MAX_MODULE_LINES = 300
MAX_FUNCTION_P90 = 18


def import_cycle() -> list[str]:
    """Modules of one import cycle in the order of the imports, or []. TYPE_CHECKING imports count."""
    graph = grimp.build_graph("warmtalk", "benchmarks")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def main() -> int:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in python_files(list(PRODUCT))}
    lines = sorted((len(path.read_text("utf-8").splitlines()), path) for path, tree in trees.items() if tree.body)
    classes: defaultdict[str, list[Path]] = defaultdict(list)
    functions: list[int] = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(path)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append((node.end_lineno or node.lineno) - node.lineno + 1)
    median = statistics.median(count for count, _ in lines)
    p90 = sorted(functions)[int(0.9 * len(functions))]
    broken = [
        f"class {name} is defined in {', '.join(map(str, paths))}" for name, paths in classes.items() if len(paths) > 1
    ]
    broken += [
        f"{path} has {count} lines; the limit is {MAX_MODULE_LINES}"
        for count, path in lines
        if count > MAX_MODULE_LINES
    ]
    if median > MAX_MODULE_MEDIAN:
        broken.append(f"the median module has {median:g} lines; the limit is {MAX_MODULE_MEDIAN}")
    if p90 > MAX_FUNCTION_P90:
        broken.append(f"the 90th percentile function has {p90} lines; the limit is {MAX_FUNCTION_P90}")
    if cycle := import_cycle():
        broken.append("import cycle: " + " -> ".join(cycle))
    print(
        f"{len(lines)} modules, median {median:g}, longest {lines[-1][0]} lines; {len(functions)} functions, "
        f"p90 {p90}, longest {max(functions)} lines; {len(classes)} class names"
    )
    for line in broken:
        print(f"structure: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
