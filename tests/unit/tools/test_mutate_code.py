"""The mutants of a small module: each operation is changed once, and texts and annotations are not."""

from __future__ import annotations

import mutate_code

SOURCE = '''
def clipped(value: float, low: float = 0) -> float:
    """Return a value of at least 1."""
    if value < low:
        raise ValueError(f"{1 + 1} is too low")
    log("text")
    return -value * 2
'''


def test_each_operation_is_changed_once() -> None:
    found = [(line, what) for line, what, _ in mutate_code.mutants(SOURCE)]
    assert found == [
        (2, "0  ->  1"),
        (4, "if value < low:  ->  if not value < low:"),
        (4, "value < low  ->  value <= low"),
        (5, "raise ValueError(f'{1 + 1} is too low')  ->  pass"),
        (6, "log('text')  ->  pass"),
        (7, "return -value * 2  ->  return None"),
        (7, "-value * 2  ->  -value / 2"),
        (7, "-value  ->  value"),
        (7, "2  ->  3"),
    ]


def test_every_mutant_is_a_program_that_differs_from_the_source() -> None:
    sources = [changed for _, _, changed in mutate_code.mutants(SOURCE)]
    assert len({*sources}) == len(sources)
    for changed in sources:
        compile(changed, "mutant", "exec")
