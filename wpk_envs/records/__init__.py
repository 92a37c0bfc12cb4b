"""What is known: the store of every measurement, and its export."""

from wpk_envs.records.export import export
from wpk_envs.records.record import Record
from wpk_envs.records.store import Store, default_path

__all__ = ["Record", "Store", "default_path", "export"]
