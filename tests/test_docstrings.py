"""Every public name is documented, numpydoc style, and its documentation agrees with its code."""

import ast
import inspect
import re

import pytest

import sklearn_mmfusion

# scikit-learn generates or documents these; a docstring of ours would only repeat its own.
INHERITED_WORDS = {"set_output", "get_params", "set_params", "get_metadata_routing"}
UNDERLINE = re.compile(r"^-{3,}$")
SECTIONS = {
    "Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Warnings", "See Also",
    "Notes", "References", "Examples", "Methods", "Other Parameters",
}  # fmt: skip


def parse_sections(doc):
    """Return {section title: its lines} of a numpydoc docstring; '' holds what comes before."""
    lines = inspect.cleandoc(doc or "").splitlines()
    sections, title = {"": []}, ""
    for line, following in zip(lines, lines[1:] + [""], strict=True):
        if UNDERLINE.match(following.strip()) and not line.startswith(" ") and line.strip():
            title = line.strip()
            sections[title] = []
        elif not UNDERLINE.match(line.strip()):
            sections[title].append(line)
    return sections


def parse_entries(lines):
    """Return {name: (type, description)} of a Parameters or Attributes section."""
    entries, names = {}, []
    for line in lines:
        if line and not line.startswith(" "):
            head, _, kind = line.partition(" : ")
            names = [name.strip().lstrip("*") for name in head.split(",")]
            entries.update({name: (kind.strip(), "") for name in names})
        elif line.strip():
            for name in names:
                entries[name] = (entries[name][0], f"{entries[name][1]} {line.strip()}".strip())
    return entries


def documented_by_pandas(cls, name):
    """Tell whether the method answers to pandas' own interface, whose words `help` then shows."""
    return any(name in vars(base) for base in cls.__mro__ if base.__module__.startswith("pandas"))


def public_methods(cls):
    """Return the public methods, class methods and properties that the package itself defines."""
    found = {}
    for owner in reversed(cls.__mro__):
        if not owner.__module__.startswith("sklearn_mmfusion"):
            continue
        for name, member in vars(owner).items():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            named = inspect.isfunction(function) and not name.startswith("_")
            generated = re.fullmatch(r"set_\w+_request", name)
            if named and not generated and not documented_by_pandas(cls, name):
                found[name] = function
    return found


def parameters_of(obj):
    """Return the parameters that a docstring has to name."""
    skipped = {"self", "cls"}
    return [p for p in inspect.signature(obj).parameters.values() if p.name not in skipped]


def check_summary(sections):
    """Yield what is wrong with the first line."""
    summary = sections[""][0] if sections[""] else ""
    if not summary.endswith("."):
        yield f"first line must be one sentence ending in a period: {summary!r}"
    if len(sections[""]) > 1 and sections[""][1].strip():
        yield "first line must be followed by an empty line"


def check_section_names(sections):
    """Yield titles that numpydoc does not know: mostly misspelt."""
    for title in set(sections) - SECTIONS - {""}:
        yield f"unknown section {title!r}"


def check_parameters(obj, sections, is_method=False):
    """Yield where the Parameters section and the signature disagree.

    A method may leave the description to its class; its types say what goes in.
    """
    entries = parse_entries(sections.get("Parameters", []))
    parameters = parameters_of(obj)
    for parameter in parameters:
        kind, text = entries.pop(parameter.name, (None, ""))
        # scikit-learn asks for `y=None` whatever `y` is for, and writes "Ignored" where it is.
        optional = parameter.default is not inspect.Parameter.empty and parameter.name != "y"
        if kind is None:
            yield f"parameter {parameter.name!r} is not documented"
        elif not kind or not (text or is_method):
            yield f"parameter {parameter.name!r} needs a type and a description"
        elif optional and not re.search(r"default=|optional", kind):
            yield f"parameter {parameter.name!r} must say 'default=': {kind!r}"
        elif optional and (told := re.search(r"default=(.+)$", kind)):
            if not default_agrees(told[1], parameter.default):
                where = f"parameter {parameter.name!r}"
                yield f"{where}: docstring says {told[0]}, code {parameter.default!r}"
    if entries:
        yield f"documented but not in the signature: {sorted(entries)}"


def default_agrees(told, default):
    """Tell whether the default in words is the default in code; only literals can be compared."""
    try:
        return ast.literal_eval(told) == default
    except (ValueError, SyntaxError):
        return not isinstance(default, str)


def check_estimator_class(cls, sections):
    """Yield what an estimator's class docstring lacks beyond its parameters."""
    if not hasattr(cls, "fit"):
        return
    for title in ("Parameters", "Attributes"):
        if title not in sections:
            yield f"section {title!r} is missing"
    for name in parse_entries(sections.get("Attributes", [])):
        if not name.endswith("_"):
            yield f"learned attribute {name!r} must end in '_'"


def check_object(obj):
    """Return every complaint about one class or function of the public table."""
    sections = parse_sections(obj.__doc__)
    complaints = [*check_summary(sections), *check_section_names(sections)]
    complaints += check_parameters(obj, sections)
    if ">>> " not in "\n".join(sections.get("Examples", [])):
        complaints.append("section 'Examples' with a doctest is missing")
    if inspect.isclass(obj):
        complaints += check_estimator_class(obj, sections)
    elif "Returns" not in sections:
        complaints.append("section 'Returns' is missing")
    return complaints


def check_method(function):
    """Return every complaint about one public method or property."""
    doc = function.__doc__
    if not doc:
        return ["has no docstring"]
    sections = parse_sections(doc)
    complaints = [*check_summary(sections), *check_section_names(sections)]
    if parameters_of(function):
        complaints += check_parameters(function, sections, is_method=True)
        if "Returns" not in sections and "Yields" not in sections:
            complaints.append("section 'Returns' is missing")
    return complaints


@pytest.mark.parametrize("name", sklearn_mmfusion.__all__)
def test_docstring_of_public_name(name):
    assert check_object(getattr(sklearn_mmfusion, name)) == []


@pytest.mark.parametrize("name", sklearn_mmfusion.__all__)
def test_docstrings_of_public_methods(name):
    obj = getattr(sklearn_mmfusion, name)
    methods = public_methods(obj) if inspect.isclass(obj) else {}
    complaints = {
        method: check_method(function)
        for method, function in methods.items()
        if method not in INHERITED_WORDS
    }
    assert {method: found for method, found in complaints.items() if found} == {}


class Documented:
    """Scale numbers.

    Parameters
    ----------
    factor : float, default=1.0
        What to multiply by.

    Attributes
    ----------
    scale_ : float
        The factor learned.

    Examples
    --------
    >>> 1 + 1
    2
    """

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X):
        return self


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Scale numbers.", "Scale numbers", "ending in a period"),
        ("factor : float, default=1.0", "size : float, default=1.0", "'factor' is not documented"),
        ("float, default=1.0", "float", "must say 'default='"),
        ("default=1.0", "default=2.0", "docstring says default=2.0, code 1.0"),
        ("scale_ : float", "scale : float", "must end in '_'"),
        ("Attributes", "Atributes", "unknown section 'Atributes'"),
        (">>> 1 + 1", "1 + 1", "'Examples' with a doctest is missing"),
    ],
)
def test_docstring_planted_offense_is_found(monkeypatch, old, new, complaint):
    assert check_object(Documented) == []
    monkeypatch.setattr(Documented, "__doc__", Documented.__doc__.replace(old, new))
    assert any(complaint in found for found in check_object(Documented))
    assert check_method(Documented.fit) == ["has no docstring"]
