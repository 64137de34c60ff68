"""How an index keeps a vector, in NumPy: docs/exact_top_n.md, "Storage"."""

import numpy as np


def unit(vector):
    """Length 1; a zero vector stays zero."""
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector * 0.0


def stored_vector(vector, metric, storage):
    """Return the values that scores are computed from: rounded once, after normalising."""
    x = np.asarray(vector, np.float64)
    x = unit(x) if metric == "cosine" else x
    match storage:
        case "float16":
            return x.astype(np.float32).astype(np.float16).astype(np.float64)
        case "bfloat16":
            return bfloat16(x.astype(np.float32)).astype(np.float64)
        case "int8":
            scale = np.abs(x).max() / 127
            codes = np.rint(x / scale)
            # Cosine: the scale makes the length 1.
            return codes * bits16(1 / np.linalg.norm(codes) if metric == "cosine" else scale)
        case "int4":
            return int4(x, metric)
    return x


def int4(x, metric):
    """Odd codes up to 15, of the first scale that the next smaller one does not better."""
    best, quality = None, -1.0
    for part in (1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.5, 0.4):
        steps = 8 * x / (part * np.abs(x).max())
        codes = 2 * np.clip(np.rint(steps - 0.5), -8, 7) + 1
        fit = (x @ codes) ** 2 / (codes @ codes)
        if fit <= quality:
            break
        best, quality = codes, fit
    length = np.linalg.norm(best)
    return best * bits16(1 / length if metric == "cosine" else x @ best / length**2)


def bfloat16(x):
    """The nearest float32 of 8 significant bits, ties to even."""
    bits = x.view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))
    return (bits & np.uint64(0xFFFF0000)).astype(np.uint32).view(np.float32)


def bits16(scale):
    """The nearest number of 16 significant bits."""
    mantissa, exponent = np.frexp(scale)
    return np.ldexp(np.rint(mantissa * 2**16), exponent - 16)


def byte_rows(table):
    """The rows of a table of a compressed graph: whole numbers up to 127, each times its scale."""
    scales = (np.abs(table).max(axis=1, keepdims=True) / 127).astype(np.float32)
    return np.rint(table / scales) * scales.astype(np.float64)
