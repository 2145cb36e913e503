"""The import graph of the house, held over syntax trees: imports point down, siblings do not meet.

`find_violations` takes sources by module name, so that each rule is also tried on a planted
offense.
"""

import ast
import subprocess
import sys
import textwrap
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "sklearn_mmfusion"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE

# A room is a module, or a package with all its files. Lowest layer first.
LAYERS = [
    {"_sklearn", "_file_formats", "_file_options"},
    {"_validation", "_decoders", "_shared_docs"},
    {"_torch", "containers", "modules"},
    {"_losses", "_columns", "_routing"},
    {
        *(
            "_targets",
            "_triples",
            "_streams",
            "preprocessing",
            "corruptions",
            "alignment",
            "datasets",
        ),
    },
    {"_skorch", "_caching"},
    {"feature_extraction", "cross_decomposition"},
    {"neural_network", "compose"},
    {"ensemble"},
    {"inspection", "pipelines"},
    {"plotting"},
    {"report"},
    {"__main__"},
]
LAYER_OF = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}

# Which files of a package may import which: those of a line may import those of the lines before.
FILES = {
    "_skorch": [
        {"schedule", "early_stopping", "fitted_network", "low_precision"},
        {"training_step"},
        {"accelerate", "fixed_steps"},
        {"trainer"},
        {"partial_fit"},
    ],
    "_torch": [{"allocator", "device", "row_dataset"}, {"cuda_graphs"}, {"batches"}],
    "compose": [{"blocks"}, {"fusion_transformer"}],
    "containers": [
        {"dtypes"},
        {"storage"},
        {"row_view_array"},
        {"tensor_array", "file_array"},
        {"arrow", "decoded_cache", "sets"},
        {"conversion"},
        {"cells", "file_checks"},
        {"accessor", "column_input"},
    ],
    "corruptions": [
        {"sequence", "text"},
        {"audio", "image"},
        {"video"},
        {"table"},
        {"cells"},
        {"inputs"},
    ],
    "cross_decomposition": [
        {"block_transformer"},
        {"block_imputer", "block_pooling", "block_scaling", "canonical_correlation", "mfa"},
    ],
    "datasets": [{"shared"}, {"digits", "generators"}],
    "ensemble": [{"members", "rules"}, {"late_fusion"}],
    "ensemble.late_fusion": [{"base"}, {"classifier", "regressor"}],
    "feature_extraction": [
        {"base"},
        {"audio", "image", "point_cloud", "sequence", "text", "video"},
    ],
    "inspection": [
        {"folds", "intervals", "modalities"},
        {"attribution", "calibration", "comparison", "encoded_rows"},
        {"coalitions", "robustness"},
        {"ablation", "importance"},
    ],
    "modules": [
        {"fusion", "layers", "objectives"},
        {"image", "recurrent"},
        {"audio", "perceptron", "point_cloud", "sequence", "text", "video"},
        {"fusion_network"},
    ],
    "neural_network": [{"linear_path", "modality_parts"}, {"perceptron", "joint_fusion"}],
    "neural_network.joint_fusion": [
        {"encoded_inputs", "table_model", "training"},
        {"prediction"},
        {"base"},
        {"classifier", "regressor"},
    ],
    "pipelines": [{"kinds"}, {"multimodal_pipeline"}],
    "plotting": [
        {"style"},
        {"ablation", "attribution", "calibration", "comparison", "importance", "robustness"}
        | {"training_history"},
    ],
    "report": [{"html", "inputs", "variants"}, {"sections"}, {"data_report", "fusion_report"}],
    "preprocessing": [{"audio", "image", "scaling", "table", "text"}, {"cleaning", "word_vectors"}],
}

# Every plain install has these (the last two come with scikit-learn); the rest is imported where
# it is used.
HARD_DEPENDENCIES = {"numpy", "scipy", "pandas", "sklearn", "torch", "skorch"}
HARD_DEPENDENCIES |= {"joblib", "cloudpickle"}
ONLY_IN = {"skorch": {"_skorch"}}


def read_package():
    """Return {module name: source}; a package is named after its folder."""
    sources = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


def room_of(module):
    """Return the part of a dotted name that has a place in the layers; '' for the package."""
    return module.split(".")[1] if "." in module else ""


def deferred_nodes(tree):
    """Return the nodes that do not run when the module is imported: function bodies."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return {
        inner for node in ast.walk(tree) if isinstance(node, functions) for inner in ast.walk(node)
    }


def iter_imports(tree, modules):
    """Yield (imported module, name or None, runs at import, line) for each absolute import."""
    deferred = deferred_nodes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, node not in deferred, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in modules:  # `from package import module` imports that module
                    yield submodule, None, node not in deferred, node.lineno
                else:
                    yield node.module, alias.name, node not in deferred, node.lineno


def check_house_import(module, target):
    """Return what is wrong with `module` importing `target`, both in the package, or None."""
    here, there = room_of(module), room_of(target)
    if there == "":
        return f"imports {PACKAGE} itself; import from the defining module"
    if there not in LAYER_OF:
        return f"imports the unknown room {there!r}"
    if here == there or here not in LAYER_OF:
        return None
    if LAYER_OF[there] == LAYER_OF[here]:
        return f"imports its sibling {there!r} (layer {LAYER_OF[here]})"
    if LAYER_OF[there] > LAYER_OF[here]:
        return f"imports up: {there!r} is in layer {LAYER_OF[there]}, {here!r} in {LAYER_OF[here]}"
    return None


def file_level(package, module):
    """Return the line of `FILES` that a file of a package stands in."""
    name = module.removeprefix(f"{PACKAGE}.{package}.").split(".")[0]
    return next(level for level, files in enumerate(FILES[package]) if name in files)


def check_file_order(module, target):
    """Return what is wrong with a file importing another one of its package, or None."""
    for package in FILES:
        inside = f"{PACKAGE}.{package}."
        if module.startswith(inside) and target.startswith(inside):
            here, there = file_level(package, module), file_level(package, target)
            child = module.removeprefix(inside).split(".")[0]
            same = child == target.removeprefix(inside).split(".")[0]
            if there >= here and not same:
                return f"imports {target}, which FILES[{package!r}] does not place before it"
    return None


def is_private_sklearn(target, name):
    """Tell whether `from target import name` reaches for a private part of scikit-learn."""
    parts = target.split(".") + ([name] if name else [])
    return parts[0] == "sklearn" and any(p.startswith("_") and p != "__version__" for p in parts)


def check_foreign_import(module, target, name, at_import):
    """Return what is wrong with `module` importing from outside the package, or None."""
    here, top = room_of(module), target.split(".")[0]
    if top in sys.stdlib_module_names:
        return None
    if here == "modules" and top != "torch":
        return f"modules/ imports only torch and the standard library, not {top!r}"
    if here not in ONLY_IN.get(top, {here}):
        return f"only {sorted(ONLY_IN[top])} may import {top!r}"
    if is_private_sklearn(target, name) and here != "_sklearn":
        return f"only '_sklearn' may import the private {target}.{name or ''}".rstrip(".")
    if here == "compose" and top == "torch":
        return "compose imports no torch"
    if at_import and top not in HARD_DEPENDENCIES:
        return f"imports the optional {top!r} at module level; import it where it is used"
    return None


def private_attributes(tree):
    """Yield (dotted path, line) of private attributes reached through the name `sklearn`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private_sklearn(ast.unparse(node), None):
            yield ast.unparse(node), node.lineno


def module_violations(module, tree, modules):
    """Yield every broken rule of one module as 'module:line what'."""
    if module != PACKAGE and room_of(module) not in LAYER_OF:
        yield f"{module}: no place in the layers; give it one in tests/test_layers.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{module}:{node.lineno} relative import"
    if module != f"{PACKAGE}._sklearn":
        for path, line in private_attributes(tree):
            yield f"{module}:{line} reaches for the private {path}"
    if module == PACKAGE:  # the lazy table names every room
        return
    for target, name, at_import, line in iter_imports(tree, modules):
        if target.split(".")[0] == PACKAGE:
            what = check_house_import(module, target)
            if what is None and at_import:  # a dtype names its array type when called: no ring
                what = check_file_order(module, target)
        else:
            what = check_foreign_import(module, target, name, at_import)
        if what:
            yield f"{module}:{line} {what}"


def cycle_violations(trees):
    """Yield a line when files import each other in a ring as they are imported.

    Possible inside one room only. A dtype that names its array type when asked is no ring.
    """
    graph = {
        module: {t for t, _, eager, _ in iter_imports(tree, trees) if eager and t in trees}
        - {module}
        for module, tree in trees.items()
        if module != PACKAGE
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "import cycle: " + " -> ".join(error.args[1])


def find_violations(sources):
    """Return the broken rules of a package given as {module name: source}."""
    trees = {module: ast.parse(source) for module, source in sources.items()}
    found = [v for module, tree in trees.items() for v in module_violations(module, tree, trees)]
    return found + list(cycle_violations(trees))


def test_package_keeps_the_import_graph():
    sources = read_package()
    assert f"{PACKAGE}.containers" in sources  # the reader found the package
    assert find_violations(sources) == []


def test_every_file_of_a_package_has_its_place():
    files, packages = {}, {".".join(name.split(".")[1:]) for name in read_package()}
    for path in ROOT.rglob("*.py"):
        folder = ".".join(path.parent.relative_to(ROOT).parts)
        if folder and path.stem != "__init__":
            files.setdefault(folder, set()).add(path.stem)
    for folder in [name for name in packages if (ROOT / name.replace(".", "/")).is_dir() and name]:
        parent, _, child = folder.rpartition(".")
        if parent:
            files.setdefault(parent, set()).add(child)
    assert {package: set().union(*levels) for package, levels in FILES.items()} == files


def test_package_import_is_lazy():
    # The table of public names must not load torch: `import sklearn_mmfusion` stays cheap.
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    eager = [t for t, _, at_import, _ in iter_imports(tree, ()) if at_import]
    assert [t for t in eager if t.split(".")[0] not in sys.stdlib_module_names] == []


def test_package_without_networks_loads_no_torch(script_environment):
    code = f"""
        import sys, {PACKAGE}.compose
        {PACKAGE}.TensorArray, {PACKAGE}.FusionTransformer
        print("torch" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=script_environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("surprise", "", "no place in the layers"),
        ("compose", "import sklearn_mmfusion.neural_network as n", "imports its sibling"),
        ("containers", "from sklearn_mmfusion.compose import x", "imports up: 'compose'"),
        ("compose", "def f():\n    import sklearn_mmfusion.ensemble", "imports up: 'ensemble'"),
        ("compose", "from sklearn_mmfusion import TensorArray", "imports sklearn_mmfusion itself"),
        ("compose", "import sklearn_mmfusion", "imports sklearn_mmfusion itself"),
        ("compose", "import sklearn_mmfusion.nowhere", "unknown room 'nowhere'"),
        ("compose", "from . import containers", "relative import"),
        ("compose", "import torch", "compose imports no torch"),
        ("neural_network", "def f():\n    import skorch", "only ['_skorch'] may import 'skorch'"),
        ("compose", "from sklearn.base import _fit_context", "only '_sklearn' may import"),
        ("compose", "import sklearn.utils._set_output", "only '_sklearn' may import"),
        ("compose", "import sklearn\nsklearn.utils._tags", "reaches for the private sklearn.utils"),
        ("modules.image", "import numpy as np", "modules/ imports only torch"),
        ("modules.image", "from sklearn_mmfusion.containers import x", "imports its sibling"),
        ("ensemble", "import matplotlib.pyplot", "optional 'matplotlib' at module level"),
        ("modules.layers", "import sklearn_mmfusion.modules.text", "does not place before it"),
    ],
)
def test_layers_planted_offense_is_found(module, source, message):
    sources = {PACKAGE: "", f"{PACKAGE}.{module}": source}
    assert any(message in violation for violation in find_violations(sources))


def test_layers_cycle_inside_a_room_is_found():
    sources = {
        f"{PACKAGE}.modules.image": f"import {PACKAGE}.modules.text",
        f"{PACKAGE}.modules.text": f"import {PACKAGE}.modules.image",
    }
    assert any("import cycle" in violation for violation in find_violations(sources))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("datasets", "from sklearn_mmfusion.containers import x"),
        ("feature_extraction.image", "from sklearn_mmfusion.feature_extraction.base import x"),
        ("_skorch", "import skorch"),
        ("_sklearn", "from sklearn.base import _fit_context"),
        ("modules.image", "import math\nfrom torch import nn"),
        ("ensemble", "def f():\n    import matplotlib.pyplot"),
        ("compose", "from sklearn import __version__"),
    ],
)
def test_layers_allowed_import_passes(module, source):
    assert find_violations({f"{PACKAGE}.{module}": source}) == []
