from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import load_toml, validate


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=1, ge=1)
    colour: str = "red"


class Whole(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    maybe: Part | None = None

    @model_validator(mode="after")
    def _no_bob(self) -> Whole:
        if self.name == "bob":
            raise ValueError("bob is not allowed")
        return self


def test_a_good_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "x"\n[part]\nsize = 2\n[[parts]]\ncolour = "blue"\n')
    assert load_toml(file, Whole) == Whole(name="x", part=Part(size=2), parts=(Part(colour="blue"),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "key 'name' is missing"),
        ('name = "x"\nprat = 1', r"unknown key 'prat' \(did you mean 'part'\?\)"),
        ('name = "x"\n[part]\ncolor = "blue"', r"unknown key 'part.color' in \[part\] \(did you mean 'colour'\?\)"),
        ('name = "x"\n[maybe]\nsise = 1', r"unknown key 'maybe.sise' in \[maybe\] \(did you mean 'size'\?\)"),
        ('name = "x"\n[[parts]]\n[[parts]]\nsise = 1', r"unknown key 'parts\[1\].sise'.*\(did you mean 'size'\?\)"),
        ('name = "x"\n[part]\nsize = "big"', "part.size = 'big': input should be a valid integer"),
        ('name = "x"\n[part]\nsize = 0', "part.size = 0: input should be greater than or equal to 1"),
        ("name = 3", "name = 3: input should be a valid string"),
        ('name = "bob"', "bob is not allowed"),
        ("name = \n", r"not TOML: .*line 1"),
    ],
)
def test_a_fault_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_toml(file, Whole)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        validate({"part": {"size": 0}, "prat": 1}, Whole, "--set")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["--set"] * 3


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_toml(tmp_path / "a.toml", Whole)
    (tmp_path / "b.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(InputError, match="not UTF-8"):
        load_toml(tmp_path / "b.toml", Whole)
