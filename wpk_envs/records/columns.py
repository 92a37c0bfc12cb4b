"""The columns of a measurement in Parquet files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def measurement_columns(own: Iterable[str] = ()) -> dict[str, Any]:
    """Types, as pyarrow's, of what `Record.to_dict` says of a measurement, in the files' order.

    Args:
        own: Details, whole numbers or null, that have a column of their own beside the other details.
    """
    import pyarrow as pa

    return {
        "latency_us": pa.float64(),
        "speedup": pa.float64(),
        "predicted_speedup": pa.float64(),
        "samples_us": pa.list_(pa.float64()),
        "baseline_us": pa.list_(pa.float64()),
        "baseline_name": pa.string(),
        "predicted_latency_us": pa.float64(),
        "predicted_baseline_us": pa.float64(),
        "confidence": pa.string(),
        "error": pa.string(),
        "message": pa.string(),
        "max_error": pa.float64(),
        "layouts": pa.string(),  # JSON
        **dict.fromkeys(own, pa.int64()),
        "build_seconds": pa.float64(),
        "measure_seconds": pa.float64(),
        "details": pa.string(),  # JSON, without what has a column
    }
