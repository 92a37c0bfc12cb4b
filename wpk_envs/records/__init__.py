"""What is known: the store of every measurement, its export, and recorded tables."""

from wpk_envs.records.export import export
from wpk_envs.records.record import Record
from wpk_envs.records.store import Store, default_path
from wpk_envs.records.table import Table, read_table, write_table

__all__ = ["Record", "Store", "Table", "default_path", "export", "read_table", "write_table"]
