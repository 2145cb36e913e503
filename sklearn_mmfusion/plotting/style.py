"""Colors, markers and axes of all displays."""

from sklearn_mmfusion._validation import import_extra

# Okabe and Ito (2008), "Color universal design": color-blind readers can distinguish them. In gray
# they are too similar, so every series also has its own marker or line.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
RED, SKY, BLACK, GRAY = "#D55E00", "#56B4E9", "#000000", "#777777"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def import_pyplot(caller):
    """Return matplotlib.pyplot."""
    return import_extra("matplotlib.pyplot", caller, "plot")


def new_axes(caller, n_rows=1, n_columns=1, width=6.4, height=4.8):
    """Return axes of a new figure, as an array of shape (n_rows, n_columns)."""
    return import_pyplot(caller).subplots(
        n_rows, n_columns, figsize=(width, height), layout="constrained", squeeze=False
    )[1]
