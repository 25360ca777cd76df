"""The list of equivalent mutants names mutants that there are."""

import mutate
import yaml


def test_every_equivalent_mutant_exists():
    listed = yaml.safe_load(mutate.EQUIVALENT.read_text())
    modules = {name.partition(".")[0] for name in listed}
    assert modules <= mutate.MODULES.keys()
    names = {mutant.name for module in modules for mutant in mutate.mutants(module)}
    assert set(listed) - names == set()
    assert all(listed.values())
