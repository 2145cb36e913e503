"""Kinds and formats of files, by their suffix and by their first bytes."""

import os

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64"),
)
SUFFIXES = {
    "image": IMAGE_SUFFIXES,
    "audio": AUDIO_SUFFIXES,
    "video": (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"),
    "array": (".npy",),
    "text": (".txt", ".text", ".md", ".rst"),
}


def file_kind(path):
    """Return the key of `SUFFIXES` that lists the suffix of `path`, None if there is none."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), None)


_MPEG_LAYER_3 = tuple(bytes([0xFF, second]) for second in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB))
_RIFF = (b"RIFF", b"RIFX", b"RF64")
_SPACES = (b" ", b"\n", b"\r", b"\t")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# (name, kind, suffixes, parts of the first bytes as (offset, alternatives)); kind None: no decoder
FORMATS = (
    ("a PNG image", "image", (".png",), [(0, (b"\x89PNG",))]),
    ("a JPEG image", "image", (".jpg", ".jpeg"), [(0, (b"\xff\xd8\xff",))]),
    ("a BMP image", "image", (".bmp",), [(0, (b"BM",)), (6, (bytes(4),))]),
    ("a GIF image", "image", (".gif",), [(0, (b"GIF8",))]),
    ("a TIFF image", "image", (".tif", ".tiff"), [(0, _TIFF)]),
    ("a WebP image", "image", (".webp",), [(0, (b"RIFF",)), (8, (b"WEBP",))]),
    ("a PNM image", "image", (".pgm", ".ppm"), [(0, (b"P5", b"P6")), (2, _SPACES)]),
    ("a wav recording", "audio", (".wav", ".wave", ".rf64"), [(0, _RIFF), (8, (b"WAVE",))]),
    ("a FLAC recording", "audio", (".flac",), [(0, (b"fLaC",))]),
    ("an Ogg recording", "audio", (".ogg", ".oga", ".opus"), [(0, (b"OggS",))]),
    ("an AIFF recording", "audio", (".aif", ".aiff", ".aifc"), [(0, (b"FORM",)), (8, (b"AIF",))]),
    ("an AU recording", "audio", (".au",), [(0, (b".snd",))]),
    ("a CAF recording", "audio", (".caf",), [(0, (b"caff",))]),
    ("a W64 recording", "audio", (".w64",), [(0, (b"riff.\x91\xcf\x11",))]),
    ("an mp3 recording", "audio", (".mp3",), [(0, _MPEG_LAYER_3)]),
    ("a recording with ID3 tags", "audio", (".mp3", ".flac"), [(0, (b"ID3",)), (5, (b"\0",))]),
    ("a NumPy array", "array", (".npy",), [(0, (b"\x93NUMPY",))]),
    ("a zip archive", None, (), [(0, (b"PK\3\4",))]),
    ("a gzip archive", None, (), [(0, (b"\x1f\x8b\x08",))]),
    ("a PDF document", None, (), [(0, (b"%PDF-",))]),
    ("a HEIC or AVIF image", None, (), [(4, (b"ftyphe", b"ftypmif", b"ftypmsf", b"ftypav"))]),
    ("an MP4 file", "video", (".mp4", ".m4v", ".mov"), [(4, (b"ftyp",))]),
    ("a Matroska video", "video", (".mkv", ".webm"), [(0, (b"\x1a\x45\xdf\xa3",))]),
    ("an AVI video", "video", (".avi",), [(0, (b"RIFF",)), (8, (b"AVI ",))]),
)


def format_of(content):
    """Return name, kind and suffixes of the format of a file by its first bytes; None if unknown.

    A kind of None means that there is no decoder.
    """
    head = bytes(content[:64])
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page", None, SUFFIXES["text"]
    for *found, parts in FORMATS:
        if all(head.startswith(alternatives, offset) for offset, alternatives in parts):
            return tuple(found)
    return None, None, ()


def content_kind(content):
    """Return the kind of a file by its first bytes; an unknown one counts as an image."""
    return format_of(content)[1] or "image"


def source_kind(source):
    """Return the kind of a file: of a path by its suffix, of bytes by the first of them."""
    return content_kind(source) if isinstance(source, bytes) else file_kind(source)
