"""Programs found in answers of every shape."""

from __future__ import annotations

import pytest

from relid_sumo.sed.programs.answers import MOST_CHARACTERS, program_in

PLAN = "def plan(network, trips, traffic):\n    return {}\n"


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{PLAN}```",
        f"Here is the program:\n\n```python\n{PLAN}```\n\nIt follows the fastest path.",
        f"```\n{PLAN}```",
        f"~~~py\n{PLAN}~~~",
        f"```Python3\n{PLAN}```",
        f"````python\n{PLAN}````\n",
        f"   ```python title='x'\n{PLAN}   ```",
        f"```bash\npip install x\n```\n```python\n{PLAN}```\n```json\n{{}}\n```",
        f"```python\nprint('an example')\n```\n\nand the program:\n\n```python\n{PLAN}```",
        f"```python\ndef plan(network, trips, traffic):\n    return 1\n```\nNo, better:\n```python\n{PLAN}```",
        f"```python\r\n{PLAN}```\r\n",
        PLAN,
        f"Sure!\n\n{PLAN}",
    ],
)
def test_the_program_is_found(answer: str) -> None:
    program, problem = program_in(answer)
    assert problem == ""
    assert (program or "").strip() == PLAN.strip()


def indented(text: str, by: str) -> str:
    return "".join(f"{by}{line}" for line in text.splitlines(keepends=True))


BLOCK = f"```python\n{PLAN}```\n"


@pytest.mark.parametrize(
    "answer",
    [
        indented(BLOCK, "    "),
        indented(BLOCK, "\t"),
        f"1. The program:\n\n{indented(BLOCK, '   ')}\n2. More.",
        f"- ```python\n{indented(PLAN, '  ')}  ```\n",
        f"12) ```py\n{indented(PLAN, '    ')}    ```\n",
        indented(BLOCK, "> "),
        f"```python\n{indented(PLAN, '    ')}```",
        f"```{{.python}}\n{PLAN}```",
        f"```python3.12\n{PLAN}```",
        BLOCK.replace("\n", "\r"),
        f"\ufeff{PLAN}",
        f"~~~\n{PLAN}~~~~~\n",
    ],
)
def test_a_block_is_found_wherever_it_is_without_its_indentation(answer: str) -> None:
    assert program_in(answer) == (PLAN, "")


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>First ```python\ndef plan(x): wrong\n``` no.</think>\n{BLOCK}",
        f"<think>A fence without an end:\n```python\ndef plan(x):\n</think>\n{BLOCK}",
        f"its start is cut off ```python\ndef plan(x): wrong\n```\n</think>\n\n{BLOCK}",
        f"<think>its end is cut off\n\n{BLOCK}",
        f"<Thinking>\n{BLOCK.replace('{}', '[]')}</Thinking>{BLOCK}",
        f"<think>a</think>{BLOCK.replace('{}', '[]')}<think>b</think>\n{BLOCK}",
    ],
)
def test_a_thinking_section_has_no_program_unless_it_has_no_end(answer: str) -> None:
    assert program_in(answer) == (PLAN, "")


def test_lines_of_a_string_keep_their_characters() -> None:
    program = f'TEXT = """a\tb\x0cc\u2028d"""\n{PLAN}'
    assert program_in(f"```python\n{program}```")[0] == program


def test_a_text_behind_a_closing_fence_does_not_open_it_again() -> None:
    answer = f"```python\n{PLAN.replace('{}', '[]')}```**That was wrong.**\n\n{BLOCK}"
    assert program_in(answer) == (PLAN, "")


def test_what_the_service_says_comes_before_what_is_missing() -> None:
    note = "the model refused: no (finish reason stop)"
    program, problem = program_in("", note)
    assert program is None
    assert problem.startswith(f"{note}: the answer is empty; answer with one Python code block")
    assert program_in("<think>hm</think>")[1].startswith("the answer has nothing but a thinking section")
    assert program_in(BLOCK, "the answer was cut off (finish reason length)") == (PLAN, ""), "after its program"


def test_imports_and_helpers_before_it_belong_to_it() -> None:
    whole = f"import math\n\ndef help():\n    return math.inf\n\n{PLAN}"
    assert program_in(f"```python\n{whole}```")[0] == whole
    assert program_in(f"Of course.\n{whole}")[0] == whole


def test_a_fence_within_a_longer_fence_is_text() -> None:
    inner = f'"""Use\n```\nlike this\n```\n"""\n{PLAN}'
    assert program_in(f"````python\n{inner}````")[0] == inner


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("", "the answer is empty"),
        (" \n", "the answer is empty"),
        ("I cannot help with that.", "the answer has no code block"),
        ("plan(network, trips, traffic) should follow the fastest path", "no code block"),
        ("```javascript\nfunction plan() {}\n```", "code is in javascript, not Python"),
        ("```python\nprint(1)\n```", "defines no function plan;"),
        ("```python\nclass A:\n    def plan(self):\n        pass\n```", "defines no function plan;"),
        ("```python\nimport math\n\ndef pl", r"defines no function plan \(it seems to be cut off\)"),
        ("```python\ndef plan(network, trips, traffic):\n    for trip in", "cut off in the middle of its code"),
        ("x" * (MOST_CHARACTERS + 1), "60001 characters, and 60000 are the most"),
    ],
)
def test_why_there_is_none_is_told(answer: str, told: str) -> None:
    program, problem = program_in(answer)
    assert program is None
    assert told.replace("\\", "") in problem
