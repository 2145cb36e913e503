"""Contents and faults of a data set, before training."""

import numpy as np
import pandas as pd
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion._validation import as_numpy, check_groups
from sklearn_mmfusion.containers import check_files
from sklearn_mmfusion.containers.file_array import holds_paths
from sklearn_mmfusion.inspection.folds import folds_of
from sklearn_mmfusion.pipelines import column_kinds
from sklearn_mmfusion.report import html
from sklearn_mmfusion.report.inputs import as_data_frame, cell_codes, readable, shown

# Their cells repeat anyway, and statistics show them better than single cells do.
TABLE_KINDS = ("number", "boolean", "category", "code", "date", "identifier", "constant")
MAX_LISTED = 50  # rows of long tables


def data_report(
    X,
    y=None,
    *,
    path=None,
    groups=None,
    cv=None,
    file_params=None,
    n_shown=24,
    random_state=0,
    verbose=0,
):
    """Describe a multimodal data set before training, and point out faults.

    All files are read once. Nothing is trained.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_columns)
        One column per modality or number, as in `fit`.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Target. Floats are treated as numbers, and so are integers if more than half of them are
        different. Everything else is a class. Missing values are left out.
    path : str or path-like, default=None
        HTML file to write: one self-contained page without scripts. An existing file is replaced
        only when the report is complete. None writes no page.
    groups : array-like of shape (n_samples,), default=None
        Group of each row, such as a speaker or patient.
    cv : int, splitter or iterable of folds, default=None
        Folds to check for leakage. With a number, folds are stratified by class and keep groups
        together. None checks no folds.
    file_params : dict, default=None
        How to read files: the same options as for encoders, such as ``{"root": "photos"}``.
    n_shown : int, default=24
        Number of cells per column that the page shows, from all classes in turn.
    random_state : int, RandomState instance or None, default=0
        Seed of the choice of these cells.
    verbose : int, default=0
        Whether to print progress.

    Returns
    -------
    report : Bunch
        With the attributes:

        findings : list of str
            One sentence per fault.
        kinds : DataFrame
            Kind of each column and the reason, see :func:`~sklearn_mmfusion.column_kinds`.
        summary : DataFrame
            Counts, sizes, durations, sample rates and lengths of each column, see
            ``X.modalities.summary``.
        presence : DataFrame
            One row per pattern of present columns, with "n_rows" and "share".
        duplicates : DataFrame
            Equal cells: one row per column of arrays, files or free text, and the row "whole row"
            for rows that are equal in all columns. "n_duplicates" counts cells that equal an
            earlier one, "n_other_group" and "n_other_target" those that equal a cell of another
            group or target, and "n_seen" those of test rows that equal a cell of a training row of
            the same fold. NA without groups, target or folds.
        folds : DataFrame or None
            One row per fold: "n_train", "n_test", "n_shared_groups" (groups on both sides),
            "n_new_classes" (classes of the test rows without training rows), "n_seen_rows" (test
            rows that equal a training row).
        target : DataFrame or None
            Share of each class, or statistics of numbers: for all rows, and for the rows in which
            each column is present.
        files : DataFrame or None
            Result of :func:`~sklearn_mmfusion.check_files` for the columns of files.

    Raises
    ------
    ValueError
        If the lengths of X, y and groups differ, or `path` is a folder or its folder does not
        exist.

    See Also
    --------
    fusion_report : The evidence about a model.
    sklearn_mmfusion.check_files : Checks the files alone.

    Notes
    -----
    Cells are compared by content, and so are files: their paths do not matter. Cells that are only
    similar, such as resized copies of a picture, are not found.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import multimodal_frame
    >>> from sklearn_mmfusion.report import data_report
    >>> X = multimodal_frame(sound=np.eye(6), text=["a", "b", None, "d", "e", "f"])
    >>> X = X.iloc[[0, 1, 2, 3, 4, 5, 0]]
    >>> report = data_report(X, [0, 1, 0, 1, 0, 1, 0], cv=2)
    >>> for finding in report.findings:
    ...     print(finding)
    'sound': 2 of 7 test rows (29 %) have a cell that equals one of a training row of their fold.
    2 of 7 test rows (29 %) equal a training row of their fold in all columns.
    """
    path = html.check_path(path, "data_report")
    options = FileOptions.from_dict(file_params, "data_report")
    frame = as_data_frame(X)
    groups = check_groups(groups, len(frame), estimator_name="data_report")
    targets = _targets(y, len(frame))
    log = print if verbose else lambda message: None
    log("data_report: kinds, sizes and presence of the columns")
    kinds = column_kinds(frame, file_params=file_params)
    summary = frame.modalities.summary(read_cells=True, file_params=file_params)
    folds = None if cv is None else _folds(cv, frame, targets, groups)
    log("data_report: equal cells")
    arrays = {name: readable(frame[name], options) for name in frame}
    codes = pd.DataFrame({name: cell_codes(array, options) for name, array in arrays.items()})
    report = Bunch(
        kinds=kinds,
        summary=summary,
        presence=_presence(frame),
        duplicates=_duplicates(codes, kinds, groups, targets, folds),
        folds=None if folds is None else _fold_table(folds, codes, groups, targets),
        target=_target_table(targets, frame),
        files=_files(frame, file_params, verbose),
    )
    report.findings = list(_findings(report, frame, targets))
    if path is not None:
        log(f"data_report: writing {path}")
        rows = _shown_rows(targets, len(frame), random_state)
        walls = _walls(arrays, kinds, frame.index, targets, rows, n_shown, options)
        html.write_page(path, _page(report, frame, walls))
    return report


# ------------------------------------------------------------------------------ target and folds


def _targets(y, n_rows):
    """Return {name: values} of the columns of y; a single one is called ''."""
    if y is None:
        return {}
    y = as_numpy(y.toarray() if hasattr(y, "toarray") else y)
    columns = pd.DataFrame(y)
    check_consistent_length(range(n_rows), columns)
    if columns.shape[1] == 1:
        return {"": columns.iloc[:, 0].to_numpy()}
    return {str(name): columns[name].to_numpy() for name in columns}


def _is_classes(values):
    """Whether a column of the target holds classes rather than numbers."""
    values = values[~pd.isna(values)]
    if pd.api.types.infer_dtype(values) not in ("integer", "boolean"):
        return pd.api.types.infer_dtype(values) not in ("floating", "mixed-integer-float")
    return len(np.unique(values)) <= max(2, len(values) / 2)


def _class_codes(targets):
    """Return one code per row for the only column of classes, or None."""
    if list(targets) != [""] or not _is_classes(targets[""]):
        return None
    return pd.factorize(targets[""])[0]


def _folds(cv, frame, targets, groups):
    codes = _class_codes(targets)
    y = codes if codes is not None else targets.get("")
    if y is not None and pd.isna(y).any():
        y = None
    stratify = codes is not None and type_of_target(codes) in ("binary", "multiclass")
    return folds_of(cv, frame, y, groups, stratify)


def _fold_table(folds, codes, groups, targets):
    rows, whole = [], _whole_row(codes)
    classes = _class_codes(targets)
    for train, test in folds:
        shared = new = pd.NA
        if groups is not None:
            shared = len(np.intersect1d(groups[train], groups[test]))
        if classes is not None:
            new = len(np.setdiff1d(classes[test], classes[train]))
        seen = int(np.isin(whole[test], whole[train]).sum())
        rows.append((len(train), len(test), shared, new, seen))
    columns = ["n_train", "n_test", "n_shared_groups", "n_new_classes", "n_seen_rows"]
    index = pd.RangeIndex(1, len(rows) + 1, name="fold")
    return pd.DataFrame(rows, index, columns).astype("Int64")


def _target_table(targets, frame):
    if not targets:
        return None
    presence = frame.notna().to_numpy()
    masks = {"all rows": np.ones(len(frame), bool)}
    masks |= {str(name): mask for name, mask in zip(frame.columns, presence.T, strict=True)}
    tables = {name: _one_target(values, masks) for name, values in targets.items()}
    return tables[""] if list(tables) == [""] else pd.concat(tables, names=["target", None])


def _one_target(values, masks):
    known = ~pd.isna(values)
    if _is_classes(values):
        classes = pd.Index(values[known]).unique().sort_values()
        counts = {
            name: pd.Series(values[mask & known]).value_counts().reindex(classes, fill_value=0)
            for name, mask in masks.items()
        }
        shares = pd.DataFrame(counts) / pd.Series({n: max(c.sum(), 1) for n, c in counts.items()})
        shares.insert(0, "n_rows", counts["all rows"])
        return shares.rename_axis("class")
    numbers = values.astype(float)
    parts = {name: pd.Series(numbers[mask & known]) for name, mask in masks.items()}
    return pd.DataFrame({name: part.describe() for name, part in parts.items()})


# ------------------------------------------------------------------------------ cells


def _presence(frame):
    counts = frame.notna().value_counts().rename("n_rows").reset_index()
    return counts.assign(share=counts["n_rows"] / len(frame))


def _whole_row(codes):
    return np.unique(codes.to_numpy(), axis=0, return_inverse=True)[1].ravel()


def _duplicates(codes, kinds, groups, targets, folds):
    """Count equal cells per column, and equal rows."""
    compared = {
        name: codes[name].to_numpy()
        for name, kind in zip(kinds.index, kinds["kind"], strict=True)
        if kind not in TABLE_KINDS
    }
    compared["whole row"] = np.where((codes < 0).all(axis=1), -1, _whole_row(codes))
    target = _whole_row(pd.DataFrame({k: pd.factorize(v)[0] for k, v in targets.items()}))
    rows = {
        name: {
            "n_present": (own >= 0).sum(),
            "n_duplicates": (own >= 0).sum() - len(np.unique(own[own >= 0])),
            "n_other_group": pd.NA if groups is None else _n_mixed(own, groups),
            "n_other_target": _n_mixed(own, target) if targets else pd.NA,
            "n_seen": pd.NA if folds is None else _n_seen(own, folds),
        }
        for name, own in compared.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype("Int64")


def _n_mixed(codes, labels):
    """Number of cells that equal a cell with another label."""
    present = codes >= 0
    pairs = pd.DataFrame({"code": codes[present], "label": labels[present]})
    return int((pairs.groupby("code")["label"].transform("nunique") > 1).sum())


def _n_seen(codes, folds):
    """Number of cells of test rows that equal a cell of a training row, over all folds."""
    return sum(
        int((np.isin(codes[test], codes[train]) & (codes[test] >= 0)).sum())
        for train, test in folds
    )


def _files(frame, file_params, verbose):
    columns = [name for name in frame if holds_paths(frame[name])]
    if not columns:
        return None
    return check_files(frame, columns=columns, file_params=file_params, verbose=bool(verbose))


# ------------------------------------------------------------------------------ findings


def _of(part, whole, unit):
    return f"{part:,} of {whole:,} {unit} ({part / max(whole, 1):.0%})".replace("%", " %")


def _findings(report, frame, targets):
    """Yield one sentence per fault."""
    yield from _column_findings(report, frame)
    yield from _fold_findings(report)
    whole = report.duplicates.loc["whole row"]
    if not pd.isna(whole["n_other_target"]) and whole["n_other_target"]:
        rows = _of(whole["n_other_target"], len(frame), "rows")
        yield f"{rows} equal another row in all columns, but have a different target."
    if list(targets) == [""] and _is_classes(targets[""]):
        yield from _class_findings(report)


def _column_findings(report, frame):
    for name, (kind, reason) in report.kinds.iterrows():
        if kind in ("unsupported", "constant"):
            yield f"{name!r}: {kind} ({reason})."
    n_empty = int(frame.isna().all(axis=1).sum())
    if n_empty:
        yield f"{_of(n_empty, len(frame), 'rows')} have no cell at all."
    if report.files is not None:
        for name, found in report.files.groupby("column", sort=False):
            counts = found["reason"].value_counts()
            listing = ", ".join(f"{reason}: {n}" for reason, n in counts.items())
            rows = _of(found["row"].nunique(), int(frame[name].notna().sum()), "files")
            broken = found.loc[~found["readable"], "row"].nunique()
            yield f"{name!r}: {rows} are odd, {broken} of them unreadable ({listing})."
    for name, rates in report.summary["rates"].items():
        if "," in rates:
            yield f"{name!r}: several sample rates, {rates}."


def _fold_findings(report):
    if report.folds is not None:
        n_tested = int(report.folds["n_test"].sum())
        for name, n_seen in report.duplicates["n_seen"].items():
            rows = _of(n_seen, n_tested, "test rows")
            if n_seen and name == "whole row":
                yield f"{rows} equal a training row of their fold in all columns."
            elif n_seen:
                yield (
                    f"{name!r}: {rows} have a cell that equals one of a training row of their fold."
                )
        leaky = report.folds["n_shared_groups"].fillna(0)
        if leaky.any():
            yield (
                f"Groups have rows on both sides of {(leaky > 0).sum()} of {len(leaky)} folds (up "
                f"to {leaky.max()} groups): use a splitter for groups, such as GroupKFold."
            )
        new = report.folds["n_new_classes"].fillna(0)
        if new.any():
            yield f"{(new > 0).sum()} of {len(new)} folds test classes without training rows."
    for name, n_other in report.duplicates["n_other_group"].dropna().items():
        if n_other:
            where = "Whole rows" if name == "whole row" else repr(name)
            unit = "rows" if name == "whole row" else "cells"
            yield f"{where}: {n_other:,} {unit} equal one of another group."


def _class_findings(report):
    counts = report.target["n_rows"]
    if counts.min() * 10 < counts.max():
        yield (
            f"The classes are unbalanced: {counts.max():,} rows of {counts.idxmax()}, "
            f"{counts.min():,} of {counts.idxmin()}."
        )
    for name in report.target.columns[2:]:
        empty = report.target.index[report.target[name] == 0]
        if len(empty):
            listing = ", ".join(map(str, empty[:5]))
            classes = "class" if len(empty) == 1 else "classes"
            yield f"{name!r}: absent in all rows of {len(empty)} {classes} ({listing})."


# ------------------------------------------------------------------------------ page


def _shown_rows(targets, n_rows, random_state):
    """Return all rows in the order in which they are shown: random, one of each class in turn."""
    order = check_random_state(random_state).permutation(n_rows)
    codes = _class_codes(targets)
    if codes is None:
        return order
    turn = pd.Series(codes[order]).groupby(codes[order]).cumcount()
    return order[np.argsort(turn, kind="stable")]


def _walls(arrays, kinds, index, targets, rows, n_shown, options):
    """Return {column: items} of the columns of cells."""
    walls, label = {}, next(iter(targets.values()), None)
    for name, kind in zip(kinds.index, kinds["kind"], strict=True):
        if kind in TABLE_KINDS:
            continue
        absent = np.asarray(pd.isna(arrays[name]), dtype=bool)
        chosen = rows[~absent[rows]][:n_shown]
        walls[name] = [
            (
                shown(arrays[name], row, options),
                f"{index[row]}" if label is None else f"{index[row]}: {label[row]}",
            )
            for row in chosen
        ]
    return walls


def _page(report, frame, walls):
    lead = [html.paragraph(f"{len(frame):,} rows, {frame.shape[1]} columns.")]
    findings = report.findings or ["No faults found."]
    sections = [
        ("Findings", [html.bullets(findings)]),
        ("Columns", [_columns_table(report)]),
        ("Presence", [_presence_table(report)]),
    ]
    if report.target is not None:
        sections.append(("Target", [_target_html(report)]))
    sections.append(("Duplicates and folds", _leakage_blocks(report)))
    if report.files is not None:
        sections.append(("Files", _file_blocks(report)))
    legend = "Below each cell: the label of its row"
    legend += "." if report.target is None else ", and its target."
    for name, items in walls.items():
        sections.append((f"Cells of {name}", [html.paragraph(legend), html.wall(items)]))
    return html.page("Data report", lead, sections)


def _columns_table(report):
    rows = [
        {
            "kind": kind,
            "present": row["n_present"],
            "absent": row["n_absent"],
            "cell shape or sizes": row["sizes"] or row["cell_shape"],
            "length": _range(row, "length"),
            "seconds": _range(row, "seconds"),
            "sample rate": row["rates"],
            "MB": row["MB"],
            "why this kind": reason,
        }
        for (kind, reason), (_, row) in zip(
            report.kinds.itertuples(index=False), report.summary.iterrows(), strict=True
        )
    ]
    table = pd.DataFrame(rows, index=report.kinds.index)
    caption = (
        "Columns. Length: first axis of arrays, characters of texts, items of sets. Length and "
        "seconds: smallest, median and largest. ?: sizes differ. MB: in memory."
    )
    return html.table(table, caption, index_name="column")


def _range(row, name):
    low, middle, high = (row[f"{name}_{part}"] for part in ("min", "median", "max"))
    if np.isnan(low):
        return ""
    if low == high:
        return html.format_value(low)
    return " · ".join(map(html.format_value, (low, middle, high)))


def _presence_table(report):
    columns = report.presence.columns[:-2]
    table = report.presence.head(MAX_LISTED)
    cells = {name: np.where(table[name], "present", "–").tolist() for name in columns}
    cells |= {"rows": table["n_rows"], "share": [_share_cell(s, 1.0) for s in table["share"]]}
    index = [f"pattern {i}" for i in range(1, len(table) + 1)]
    caption = "Which columns are present together."
    if len(table) < len(report.presence):
        caption += f" The most common {len(table)} of {len(report.presence)} patterns."
    return html.table(cells, caption, index=index)


def _target_html(report):
    target = report.target
    if "n_rows" not in target:
        return html.table(
            _flat(target),
            "The target of all rows, and of the rows in which each column is present.",
        )
    names = [name for name in target.columns if name != "n_rows"]
    peak = np.nanmax(target[names].to_numpy()) or 1.0
    kept = _flat(target.head(2 * MAX_LISTED))
    cells = {"rows": kept["n_rows"]}
    cells |= {name: [_share_cell(share, peak) for share in kept[name]] for name in names}
    caption = "Share of each class in all rows, and in the rows in which a column is present."
    if len(kept) < len(target):
        caption += f" The first {len(kept)} of {len(target)} classes."
    return html.table(cells, caption, index=kept.index, index_name="class")


def _share_cell(share, peak):
    return "–" if np.isnan(share) else html.shaded(f"{share:.1%}", share / peak)


def _flat(table):
    if isinstance(table.index, pd.MultiIndex):
        return table.set_axis([" ".join(map(str, label)) for label in table.index])
    return table


def _leakage_blocks(report):
    names = {
        "n_present": "present",
        "n_duplicates": "equal to an earlier cell",
        "n_other_group": "equal to a cell of another group",
        "n_other_target": "equal to a cell with another target",
        "n_seen": "test cells equal to a training cell",
    }
    caption = (
        "Cells of equal content. Numbers, categories and dates are left out: they repeat anyway."
    )
    blocks = [html.table(report.duplicates.rename(columns=names), caption, index_name="column")]
    if report.folds is not None:
        names = {
            "n_train": "training rows",
            "n_test": "test rows",
            "n_shared_groups": "groups on both sides",
            "n_new_classes": "classes without training rows",
            "n_seen_rows": "test rows equal to a training row",
        }
        blocks.append(html.table(report.folds.rename(columns=names), "Folds.", index_name="fold"))
    return blocks


def _file_blocks(report):
    if report.files.empty:
        return [html.paragraph("check_files found no faults.")]
    counts = (
        report.files.groupby(["column", "reason", "readable"], sort=False).size().rename("files")
    ).reset_index()
    kept = report.files.head(MAX_LISTED)
    listed = kept[["column", "label", "path", "reason", "problem"]].set_axis(kept["row"])
    return [
        html.table(counts.set_index("column"), "Findings of check_files.", index_name="column"),
        html.table(
            listed, f"The first {len(kept)} of {len(report.files)} findings.", index_name="row"
        ),
    ]
