"""Recipes, ours and SparseML's: read, or refused in one line per fault that says where; never followed into a trap."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from paredown.models.errors import InputError, MissingError
from paredown.models.files import write_whole
from paredown.pipeline.gate.budgets import read_gates
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.sparseml.importer import import_recipe

OURS = """\
name: demo
seed: 0
model: {source: "net.py:net", weights: net.pth, sha256: "0123456789abcdef"}
data:
  source: images
  image_size: 32
  mean: [0.4, 0.4, 0.4]
  std: [0.2, 0.2, 0.2]
  splits: {train: 0.55, calibration: 0.05, validation: 0.15, test: 0.25}
  limit: 100
target: {runtime: onnxruntime, threads: 1, batch: 1, container: gzip}
limits: {latency_p50: 0.5x, size: 2 MiB, accuracy_drop: 1.0}
front: [0.5x, 0.3x]
pipeline:
  - fit: {epochs: 2, batch: 16}
  - baseline: {rounds: 1, runs: 3}
  - profile: {plans: 1, transforms: {quantize: {layers: {"stem.*": fp32}}, narrow: {}, sparsify: {levels: [0.5]}}}
  - sensitivity: {images: 8}
  - search: {rounds: 3, front: 2}
  - compress: {batches: 2}
  - recover: {distil: {epochs: 2, lr: 0.001}}
  - export: {agreement: 0.8}
  - verify
"""
THEIRS = """\
num_epochs: 2.0
half: eval(num_epochs * 0.5)
modifiers:
  - !EpochRangeModifier {start_epoch: 0.0, end_epoch: eval(num_epochs)}
  - !GMPruningModifier
    start_epoch: 0.0
    end_epoch: eval(half)
    update_frequency: 0.5
    init_sparsity: 0.05
    final_sparsity: 0.75
    mask_type: block4
    params: ["re:block.*weight"]
  - !QuantizationModifier {start_epoch: 1.0, ignore: [fc]}
"""
NUMBERS = ("-1", "0", "1e400", ".nan", "-.inf", "9" * 400, "0x10", "1_0", "100", "0.5x", "1 KiB", "5 ms", "-3x")
SHAPES = ("null", "~", "true", '""', "[]", "{}", "[[[]]]", "{a: {b: {c: {}}}}", "&a [*a]", "*a", "<<: {a: 1}", "[1, 2]")
ODD = ("2026-13-45", "!!python/object:os.system", "!!binary aGk=", "!x y", "../etc", "net.py:net\\0", "re:(", "e" * 300)
TEXTS = ("'\\n\\x1b[2J'", '"\\0"', '"\\ud800"', '"\\e[2J.py"', "\u00e9", "\u202e", "x.py", f"{300 * 'x'}.py", "a/..")
SUMS = ("eval(9**9**9)", "eval(__import__('os'))", "eval(half)", "eval(" + "(" * 90 + ")", "eval(1/0)")
PIECES = (*NUMBERS, *SHAPES, *ODD, *TEXTS, *SUMS)

RECIPES = Path(__file__).parents[2] / "recipes"

Attempt = Callable[[str], object]


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """The text with up to four of its words made into something else, or lines taken out, doubled or indented."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        words = lines[at].split(" ")
        match draw(st.sampled_from(["word", "word", "word", "value", "drop", "double", "indent", "insert"])):
            case "word":
                words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(PIECES))
                lines[at] = " ".join(words)
            case "value":
                lines[at] = f"{lines[at].partition(':')[0]}: {draw(st.sampled_from(PIECES))}"
            case "drop" if len(lines) > 1:
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "indent":
                lines[at] = "  " + lines[at]
            case "insert":
                lines.insert(at, draw(st.sampled_from(PIECES)))
    return "\n".join(lines) + "\n"


@st.composite
def replaced(draw: st.DrawFn, text: str) -> str:
    """The document with a value somewhere in it made into any other one."""
    data = yaml.safe_load(text)
    odd = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(PIECES),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=4,
    )
    for _ in range(draw(st.integers(1, 3))):
        inside: Any = data
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(inside[key], dict | list) or draw(st.integers(0, 3)) == 0:
                inside[key] = draw(odd)
                break
            inside = inside[key]
    return yaml.safe_dump(data, allow_unicode=True)


def attempt(read: Callable[[Path], object], file: Path) -> Attempt:
    def of(text: str) -> None:
        file.write_bytes(text.encode(errors="surrogatepass"))
        try:
            read(file)
        except MissingError:
            return  # of an optional engine
        except InputError as error:
            assert all(str(file) in line for line in str(error).split("\n")), str(error)
            raise

    return of


def test_ours(fuzz: Any, tmp_path: Path) -> None:
    of = attempt(load_recipe, tmp_path / "demo.yaml")
    of(OURS)
    fuzz(edited(OURS), 150, of)
    fuzz(replaced(OURS), 150, of)


def test_any_text(fuzz: Any, tmp_path: Path) -> None:
    fuzz(st.text(max_size=80), 60, attempt(load_recipe, tmp_path / "demo.yaml"))


def test_any_bytes(fuzz: Any, tmp_path: Path) -> None:
    def of(content: bytes) -> None:
        (tmp_path / "demo.yaml").write_bytes(content)
        load_recipe(tmp_path / "demo.yaml")

    fuzz(st.binary(max_size=80), 60, of)


def test_theirs(fuzz: Any, tmp_path: Path) -> None:
    target = tmp_path / "made.yaml"

    def read(file: Path) -> None:
        target.unlink(missing_ok=True)
        import_recipe(file, "net.py:net", "images", target, 32)
        load_recipe(target)

    of = attempt(read, tmp_path / "theirs.yaml")
    of(THEIRS)
    fuzz(edited(THEIRS), 150, of)


def test_budgets(fuzz: Any, tmp_path: Path) -> None:
    text = (RECIPES / "quickstart.gates.yaml").read_text()
    of = attempt(read_gates, tmp_path / "gates.yaml")
    of(text)
    fuzz(edited(text), 100, of)
    fuzz(replaced(text), 100, of)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "{a: " * 10_000,
        "- " * 5_000,
        "? " * 5_000,
        "a: &a [x]\n" + "".join(f"a{n}: &a{n} [*a, *a]\n" for n in range(50)),
        "seed: " + "9" * 100_000,
        "%YAML 9.9\n---\n",
        "a: b\n---\nc: d\n",
        "\ufeff" * 10,
        "name: !!python/object/apply:os.system [touch ran]",
    ],
)
def test_traps(text: str, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo.yaml").write_text(text)
    for verb in (["check", "demo.yaml"], ["run", "demo.yaml"], ["import-recipe", "demo.yaml", "net.py:net", "images"]):
        code, err = command(*verb)
        assert code == 2, err
        assert "demo.yaml" in err
    assert {path.name for path in tmp_path.iterdir()} == {"demo.yaml"}


def test_what_is_no_file_or_no_small_one(command: Any, peak_of: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with (tmp_path / "large.yaml").open("wb") as stream:
        stream.truncate(2**33)
    for file in (tmp_path, tmp_path / "none.yaml", tmp_path / ("a" * 300), *tmp_path.glob("*.yaml")):
        code, err = command("check", file)
        assert code == 2, err
        assert "cannot be read" in err
    answer, more = peak_of(lambda: load_recipe(tmp_path / "large.yaml"))
    assert answer == "refused"
    assert more < 5


def test_a_key_with_a_line_break_is_told_in_one_line(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text('"a\\nb": 1\n')
    assert "a key must be text in one line, got 'a\\nb'" in refused(lambda: load_recipe(tmp_path / "demo.yaml"))


def test_messages_do_not_steer_the_terminal(command: Any, tmp_path: Path) -> None:
    file = tmp_path / "\x1b[2Jdemo\r.yaml"
    file.write_text('seed: "\\e]0;title\\a"\n')
    code, err = command("check", file)
    assert code == 2
    assert "\\x1b[2Jdemo\\r.yaml" in err
    assert not {"\x1b", "\r", "\a"} & set(err)


def test_a_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("kept")
    for name in ("mine", f".mine.{os.getpid()}.new"):
        (tmp_path / name).symlink_to("theirs")
    write_whole(tmp_path / "mine", "new")
    assert (tmp_path / "theirs").read_text() == "kept"
    assert (tmp_path / "mine").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"theirs", "mine"}
