"""Digits dialed on noisy telephone lines: the two tones of a key, as in ITU-T Q.23."""

import numpy as np

SAMPLE_RATE = 8000
# Key -> (row, column) of the pad; 0 sits below 8.
ROW_HZ = np.array([941, 697, 697, 697, 770, 770, 770, 852, 852, 852])
COLUMN_HZ = np.array([1336, 1209, 1336, 1477, 1209, 1336, 1477, 1209, 1336, 1477])


def draw_lines(n_lines, rng):
    """Draw what makes one telephone line sound unlike another.

    Parameters
    ----------
    n_lines : int
        How many lines.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    lines : list of dict
        Detuning (ratio), twist (level of the high tone against the low one), smoothing of the
        line (0 none, towards 1 dull), frequency and level of its hum, and level of its noise.
    """
    return [
        {
            "detune": rng.uniform(0.985, 1.015),
            "twist": rng.uniform(0.6, 1.6),
            "dullness": rng.uniform(0.0, 0.5),
            "hum_hz": rng.uniform(90, 400),
            "hum": rng.uniform(0.2, 1.0),
            "noise": rng.uniform(0.8, 1.25),
        }
        for _ in range(n_lines)
    ]


def press(digit, line, n_steps, rng):
    """Return the two tones of a key, of amplitude 1, held for a part of `n_steps` samples."""
    held = int(n_steps * rng.uniform(0.4, 0.7))
    start = rng.randint(n_steps - held)
    t = np.arange(held) / SAMPLE_RATE
    low, high = (2 * np.pi * line["detune"] * hz[digit] for hz in (ROW_HZ, COLUMN_HZ))
    phases = rng.uniform(0, 2 * np.pi, size=2)
    sound = np.zeros(n_steps)
    sound[start : start + held] = np.sin(low * t + phases[0])
    sound[start : start + held] += line["twist"] * np.sin(high * t + phases[1])
    return sound


def dial(digit, line, noise, crosstalk, rng):
    """Dial one digit on a line.

    Parameters
    ----------
    digit : int
        The key, 0 to 9.
    line : dict
        One of `draw_lines`.
    noise : float
        Standard deviation of the noise against the amplitude 1 of the low tone.
    crosstalk : float
        Greatest amplitude of another key, drawn at random, that leaks in from another line.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    recording : ndarray of shape (n_steps,), dtype=int16
        0.125 to 0.3 s at 8 kHz; the key is held for less than three quarters of it.
    """
    n_steps = rng.randint(1000, 2400)
    t = np.arange(n_steps) / SAMPLE_RATE
    sound = press(digit, line, n_steps, rng)
    sound += rng.uniform(0, crosstalk) * press(rng.randint(10), line, n_steps, rng)
    hum = 2 * np.pi * line["hum_hz"] * t + rng.uniform(0, 2 * np.pi)
    sound += line["hum"] * np.sin(hum)
    sound += noise * line["noise"] * rng.standard_normal(n_steps)
    sound[1:] = (1 - line["dullness"]) * sound[1:] + line["dullness"] * sound[:-1]
    level = rng.uniform(0.1, 0.5) / np.abs(sound).max()
    return np.round(32767 * level * sound).astype(np.int16)
