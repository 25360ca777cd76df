"""Reads a contract from a YAML file that a person wrote."""

from __future__ import annotations

from pathlib import Path

from holdfast import yaml_file
from holdfast.bundle.timing import require_quick_costs
from holdfast.contract import Contract, require_format
from holdfast.errors import ContractError


def load_contract(path: Path) -> Contract:
    """Read a contract; a field that has a default may be left out.

    Raises:
        ContractError: the file cannot be read, or is no contract; the sentence names file, line
            and key. Or its costs take too long on this machine.
    """
    document = yaml_file.read(path, ContractError)
    if isinstance(document.data, dict) and "format" in document.data:
        try:
            require_format(document.data["format"])  # another format has other keys
        except ContractError as error:
            raise ContractError(f"{path}: {document.line(('format',))}{error}") from None
    contract = yaml_file.build(document.data, Contract, [(path, document)], ContractError)
    try:
        require_quick_costs(contract)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None
    return contract
