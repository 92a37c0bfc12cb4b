"""A folder of recorded tables of one device: datasheets at once, rows when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wpk_envs import operators
from wpk_envs.core import DeviceInfo, Operator
from wpk_envs.errors import UserError
from wpk_envs.records.table import Table, device_of, read_datasheet, read_table

SHIPPED = Path(__file__).parent / "tables"
"""Folders of the tables that come with the package, by the device that they were recorded on."""

DEFAULT = "epyc"


def shipped() -> list[str]:
    """Names of the folders of tables that come with the package."""
    return sorted({path.parent.name for path in SHIPPED.glob("*/*.parquet")})


class TableFolder:
    """The tables of a folder, by operator.

    Args:
        folder: One of `shipped`, or the path of a folder of Parquet tables.

    Attributes:
        device: Where all of them were recorded.
        operators: Operators by the names under which they were recorded.

    Raises:
        UserError: If there are no tables, one is damaged, or they are of more than one device.
    """

    def __init__(self, folder: str | Path = DEFAULT) -> None:
        self.folder = SHIPPED / folder if str(folder) in shipped() else Path(folder).expanduser()
        paths = sorted(self.folder.glob("*.parquet"))
        if not paths:
            known = ", ".join(shipped())
            raise UserError(f"'{folder}' has no tables; give one of {known}, or a folder of Parquet tables")
        self._sheets = {path: read_datasheet(path) for path in paths}
        self._check_one_device()
        self.device: DeviceInfo = device_of(self._sheets[paths[0]])
        self._paths: dict[str, Path] = {}
        self.operators: dict[str, Operator] = {}
        for path, sheet in self._sheets.items():
            for key, fields in sheet["operators"].items():
                operator = operators.from_dict(fields)
                self.operators[sheet.get("names", {}).get(key, operator.label)] = operator
                self._paths[key] = path
        self._tables: dict[Path, Table] = {}

    def _check_one_device(self) -> None:
        names = {sheet["fingerprint"]: sheet["device"]["name"] for sheet in self._sheets.values()}
        if len(names) > 1:
            devices = ", ".join(f"{name} ({fingerprint})" for fingerprint, name in sorted(names.items()))
            raise UserError(f"'{self.folder}' has tables of {len(names)} devices or versions: {devices}; separate them")

    def datasheet(self, operator: Operator) -> dict[str, Any]:
        """What the table of an operator says of itself.

        Raises:
            UserError: If there is none.
        """
        return self._sheets[self._path(operator)]

    def table(self, operator: Operator) -> Table:
        """The table that has an operator, read and checked whole the first time.

        Raises:
            UserError: If there is none, or it is damaged.
        """
        path = self._path(operator)
        if path not in self._tables:
            self._tables[path] = read_table(path)
        return self._tables[path]

    def _path(self, operator: Operator) -> Path:
        if operator.key not in self._paths:
            raise UserError(
                f"{operator.label} was not recorded; recorded are {', '.join(self.operators)}, and "
                "python -m experiments.record device=cpu op=NAME records another one"
            )
        return self._paths[operator.key]
