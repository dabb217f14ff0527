"""Recipes: what is accepted, and every mistake with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from paredown.models.errors import InputError, MissingError
from paredown.pipeline.recipe.recipe import ComparedTarget, load_recipe
from paredown.stages import plugins
from paredown.stages.limits import Bound, Target
from paredown.stages.recover import Recover
from paredown.stages.training.schedule import Schedule

Write = Callable[..., Path]


@pytest.fixture
def good(write_stage: Write, write_recipe: Write) -> Path:
    write_stage("first", extra='mode: __import__("typing").Literal["fast", "slow"] = "fast"')
    write_stage("second", needs=("first",))
    return write_recipe("- first.py: {steps: 3}\n- second.py")


def complaint(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_recipe(file)
    return str(caught.value).replace(f"{file}:", "")


def test_a_good_recipe(good: Path) -> None:
    recipe = load_recipe(good)
    assert (recipe.name, recipe.seed, recipe.root) == ("demo", 0, good.parent)
    assert recipe.limits.size == Bound(value=0.5, unit="x")
    assert [step.name for step in recipe.pipeline] == ["first.py", "second.py"]
    assert vars(recipe.pipeline[0].stage) == {"steps": 3, "mode": "fast"}
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1


def test_the_digest_is_of_what_is_asked_for(good: Path) -> None:
    text, digest = good.read_text(), load_recipe(good).digest()
    key, *rest = text.splitlines()
    for same in (
        f"# a comment\n{text}",
        "\n".join([*rest, key]),
        f"{text}\nname: another",
        f"{text}\nseed: 0",
        f"{text}\ncard: {{contact: me}}",
        text.replace("first.py: {steps: 3}", "first.py: {mode: fast, steps: 3}"),
    ):
        good.write_text(same)
        assert load_recipe(good).digest() == digest, same
    for other in (f"{text}\nseed: 1", text.replace("steps: 3", "steps: 4"), text.replace("0.5x", "0.6x")):
        good.write_text(other)
        assert load_recipe(good).digest() != digest, other


def test_only_verify_depends_on_the_recipe_as_a_whole(good: Path) -> None:
    fields = load_recipe(good).state_fields()["recipe"]
    assert fields == {"name": "demo", "sha256": load_recipe(good).digest()}
    reading = [name for name in plugins.plugin_names("stages") if "recipe" in plugins.load_plugin("stages", name).reads]
    assert reading == ["verify"]


@pytest.mark.parametrize(
    ("written", "value", "unit"),
    [
        ("0.40x", 0.4, "x"),
        ("8 ms", 8, "ms"),
        ("8.5ms", 8.5, "ms"),
        (".5 x", 0.5, "x"),
        ("1e1ms", 10, "ms"),
        ("4 MiB", 4, "MiB"),
        ("512 KiB", 0.5, "MiB"),
        ("4 GiB", 4096, "MiB"),
        ("262144 B", 0.25, "MiB"),
    ],
)
def test_bounds(written: str, value: float, unit: str) -> None:
    bound = Bound.model_validate(written)
    assert (bound.value, bound.unit) == (value, unit)
    assert Bound.model_validate(str(bound)) == bound


def test_a_bound_resolves_against_the_baseline() -> None:
    assert Bound.model_validate("0.25x").resolve(8) == 2
    assert Bound.model_validate("3 ms").resolve(8) == 3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "image_size: 32",
            "imagesize: 32",
            "2: data.image_size is missing: side in pixels of the square that the model sees\n"
            "2: data.imagesize is not known; did you mean 'image_size'? allowed: source, image_size, "
            "mean, std, splits, augment, classes, limit",
        ),
        (
            "image_size: 32",
            "image_size: 32, mean: [123.7, 116.3, 103.5]",
            "2: data.mean is wrong: 123.7 is over 1, and pixels are scaled to 0..1 first; where mean and std are of "
            "pixels in 0..255, divide both by 255: [0.485, 0.456, 0.406], got [123.7, 116.3, 103.5]",
        ),
        ("image_size: 32", "image_size: 32, std: [1, 0, 1]", "2: data.std.1 should be greater than 0, got 0"),
        ("image_size: 32", "image_size: wide", "2: data.image_size should be a valid integer"),
        ("image_size: 32", "image_size: 4", "2: data.image_size should be greater than or equal to 8, got 4"),
        (
            "image_size: 32",
            "image_size: 32, augment: flop",
            "2: data.augment is not one of them; did you mean 'flip'? allowed: none, flip, dihedral, got 'flop'",
        ),
        (
            "image_size: 32",
            "image_size: 32, splits: {trian: 1}",
            "2: data.splits.trian is not known; did you mean 'train'?",
        ),
        (
            "source: net.py:make",
            "source: 5",
            "1: model.source should be a valid string, got 5",
        ),
        (
            "model:",
            "modell:",
            "1: model is missing: the model to pare down\n1: modell is not known; did you mean 'model'?",
        ),
        (
            "data: {source: images, image_size: 32}",
            "data: images",
            "2: data should be a mapping with the keys",
        ),
        (
            "runtime: runtime.py",
            "runtime: onnxruntme",
            "3: runtimes: 'onnxruntme' is not known; did you mean 'onnxruntime'?",
        ),
        ("runtime: runtime.py", "runtime: gone.py", "3: runtimes: the file"),
        (
            "runtime: runtime.py",
            "threads: 0",
            "3: target.threads should be greater than or equal to 1, got 0",
        ),
        (
            "runtime: runtime.py",
            "runtime: runtime.py, compare: [onnxruntime, openvin]",
            "3: runtimes: 'openvin' is not known; did you mean 'openvino'?",
        ),
        (
            "runtime: runtime.py",
            "runtime: onnxruntime, compare: [onnxruntime]",
            "3: target.compare names onnxruntime, on which the artifact is measured already",
        ),
        ("runtime: runtime.py", "compare: openvino", "3: target.compare should be a valid tuple, got 'openvino'"),
        ("size: 0.5x", "size: 0x", "4: limits.size is wrong: must be above 0, got '0x'"),
        ("size: 0.5x", "size: -1 MiB", "4: limits.size is wrong: must be above 0, got '-1 MiB'"),
        ("size: 0.5x", "size: 3", "4: limits.size is wrong: must be a number with its unit"),
        (
            "size: 0.5x",
            "size: 3 ms",
            "4: limits.size is wrong: the unit ms does not measure it; allowed: x, MiB",
        ),
        (
            "size: 0.5x",
            "latency_p50: 3 MiB",
            "4: limits.latency_p50 is wrong: the unit MiB does not measure it",
        ),
        ("size: 0.5x", "latency_p50: 3 s", "4: limits.latency_p50 is wrong: must be a number with its unit"),
        (
            "size: 0.5x",
            "latency_p50: 8 ms, latency_p95: 7 ms",
            "4: limits is wrong: latency_p95 (7 ms) cannot be under latency_p50 (8 ms)",
        ),
        ("size: 0.5x", "accuracy_drop: 101", "4: limits.accuracy_drop should be less than or equal to 100"),
        ("size: 0.5x", "accuracy_drop: -1", "4: limits.accuracy_drop should be greater than or equal to 0"),
        ("{size: 0.5x}", "{}", "4: limits sets no limit; allowed: latency_p50, latency_p95, size"),
        ("{size: 0.5x}", "", "4: limits should be a mapping with the keys latency_p50"),
        (
            "{steps: 3}",
            "{stesp: 3}",
            "7: first.py.stesp is not known; did you mean 'steps'? allowed: mode, steps",
        ),
        ("{steps: 3}", "{steps: x}", "7: first.py.steps should be a valid integer"),
        ("{steps: 3}", "{mode: fats}", "7: first.py.mode is not one of them; did you mean 'fast'?"),
        ("{steps: 3}", "7", "7: first.py should be a mapping with the keys mode, steps, got 7"),
        ("- second.py", "- serch", "8: stages: 'serch' is not known;"),
        ("- second.py", "- gone.py", "8: stages: the file"),
        (
            "- second.py",
            "- runtime.py",
            "8: the stage runtime.py: TestRuntime must be a paredown.stages.base.Stage",
        ),
        (
            "- second.py",
            "- {a: {}, b: {}}",
            "8: a stage is written `name` or `name: {options}`, got {'a': {}",
        ),
        (
            "- first.py: {steps: 3}\n",
            "\n",
            "8: second.py needs 'first', which no stage before it gives; given so far: nothing",
        ),
        ("- second.py", "- first.py", "8: first.py gives 'first', which first.py gave already"),
        ("pipeline:\n", "pipeline: soon\nrest:\n", "6: pipeline must be a list of stages, got 'soon'"),
        ("model:", "root: /\nmodel:", "1: root is not known; did you mean 'front'? allowed: name, seed, model"),
        ("model:", "seed: -1\nmodel:", "1: seed should be greater than or equal to 0, got -1"),
        ("model:", "name: ../up\nmodel:", "1: name should match pattern"),
        ("model:", "name: .store\nmodel:", "1: name should match pattern"),
        ("model:", "seed: 1\nseed: 2\nmodel:", "2: seed is given twice, first on line 1"),
        ("size: 0.5x", "size: 1x, size: 2x", "4: size is given twice, first on line 4"),
        ("model:", "5: 1\nmodel:", "1: a key must be text in one line, got 5"),
        ("model: {", "model: &a {", None),
        ("limits: {size", "limits: *a\nx: {size", "4: aliases (*a) are not allowed"),
        ("model: {", "model: {{", "not valid YAML"),
        ("model:", "when: 2024-99-99\nmodel:", "1: '2024-99-99' cannot be read"),
        (
            "net.py:make",
            "!!python/object/apply:os.getcwd []",
            "1: the tag tag:yaml.org,2002:python/object/apply",
        ),
        (
            "net.py:make",
            "!!python/name:os.getcwd here",
            "1: not valid YAML: could not determine a constructor",
        ),
    ],
)
def test_mistakes(good: Path, old: str, new: str, expected: str | None) -> None:
    text = good.read_text()
    assert old in text
    good.write_text(text.replace(old, new, 1))
    if expected is None:
        load_recipe(good)
    else:
        assert expected in complaint(good)


def test_all_mistakes_are_told_at_once_in_order(good: Path) -> None:
    good.write_text(good.read_text().replace("size: 0.5x", "szie: 0.5x").replace("image_size: 32", "limit: 0"))
    lines = complaint(good).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["2", "2", "4"]


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    for text, expected in [
        (b"", "a recipe is a mapping"),
        (b"- 1", "a recipe is a mapping"),
        (b"\xff", "UTF-8"),
    ]:
        file.write_bytes(text)
        assert expected in complaint(file)
    assert "cannot be read: No such file" in complaint(tmp_path / "gone.yaml")
    assert "cannot be read: it is no file" in complaint(tmp_path)
    file.write_text("[" * 5000)
    assert "1: nested more than 20 levels deep" in complaint(file)


def test_a_name_that_no_folder_can_have(good: Path) -> None:
    bad = good.with_name("what?.yaml")
    bad.write_text(good.read_text())
    assert "1: name should match pattern" in complaint(bad)
    bad.write_text("name: mine\n" + good.read_text())
    assert load_recipe(bad).name == "mine"


@pytest.mark.parametrize(
    "name", ["my recipe", "Küche é", "猫と犬", "a (2), #1 50% & [x] 'q'", "_draft", "1", "naïve-v1.2 final", "🐈"]
)
def test_a_file_s_name_may_have_spaces_and_any_letters(good: Path, name: str) -> None:
    file = good.with_name(f"{name}.yaml")
    file.write_text(good.read_text())
    recipe = load_recipe(file)
    assert recipe.name == name
    file.write_text(f'name: "{name}"\n{good.read_text()}')
    assert load_recipe(file).name == name
    assert recipe.digest() == load_recipe(good).digest()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "name should match pattern"),
        (" x", "name should match pattern"),
        ("-x", "name should match pattern"),
        ("a/b", "name should match pattern"),
        ("a\\\\b", "name should match pattern"),
        ("a\\tb", "name should match pattern"),
        ("x.", "at the end no space and no dot"),
        ("x ", "at the end no space and no dot"),
        ("a\\u202eb", "allowed are characters that can be printed"),
        ("a\\u2028b", "allowed are characters that can be printed"),
        ("猫" * 67, "it has 201 bytes in UTF-8; allowed are 200"),
        ("x" * 101, "name should match pattern"),
    ],
)
def test_names_that_could_do_harm_are_refused(good: Path, name: str, text: str) -> None:
    good.write_text(f'name: "{name}"\n{good.read_text()}')
    assert text in complaint(good)


def test_an_option_with_a_nested_line(good: Path) -> None:
    good.write_text(good.read_text().replace("{steps: 3}", "\n      mode: fast\n      steps: none"))
    assert complaint(good).startswith("9: first.py.steps should be a valid integer")


def test_a_used_product_that_comes_too_late(good: Path, write_stage: Write) -> None:
    write_stage("first", uses=("second",))
    write_stage("second")
    assert complaint(good) == "7: first.py uses 'second', which comes too late; put second.py before it"


def test_a_stage_that_is_not_installed(good: Path, write_stage: Write) -> None:
    write_stage("second", extra='REQUIRES: ClassVar[dict[str, str]] = {"no_such_module": "extra"}')
    with pytest.raises(MissingError, match=r'demo.yaml:8: .*no_such_module.*pip install "paredown\[extra\]"'):
        load_recipe(good)


def test_a_broken_stage_file(good: Path) -> None:
    for text, expected in [
        ("def f(:\n", r"second.py:1: invalid syntax"),
        ("import no_such_module\nclass A: ...\nPLUGIN = A\n", "cannot be imported: ModuleNotFoundError"),
        ("class A: ...\n", "is no plugin: it must end with 'PLUGIN = TheClass'"),
        ("A = 5\nPLUGIN = A\n", "PLUGIN must be a class, got 5"),
    ]:
        good.with_name("second.py").write_text(text)
        assert expected in complaint(good)


def test_the_default_pipeline_is_all_stages_but_fit(good: Path) -> None:
    good.write_text(good.read_text().partition("pipeline:")[0])
    names = [step.name for step in load_recipe(good).pipeline]
    assert names == [
        "baseline",
        "profile",
        "sensitivity",
        "search",
        "compress",
        "recover",
        "export",
        "verify",
    ]


def test_substitute_needs_a_library(tmp_path: Path) -> None:
    text = "model: {source: a.py:b}\ndata: {source: c, image_size: 32}\nlimits: {size: 1x}\npipeline:\n"
    file = tmp_path / "demo.yaml"
    file.write_text(f"{text}  - baseline\n  - profile: {{transforms: [substitute, quantize]}}\n")
    with pytest.raises(InputError, match=r"demo\.yaml:6: profile needs 'library', which no stage before it gives"):
        load_recipe(file)
    file.write_text(f"{text}  - baseline\n  - library\n  - profile: {{transforms: [substitute, quantize]}}\n")
    assert load_recipe(file).pipeline


def test_stages_are_told_the_whole_target(good: Path) -> None:
    recipe = load_recipe(good)
    asked = ComparedTarget(runtime="other.py", threads=3, batch=2, container="gzip", compare=("openvino",))
    fields = recipe.model_copy(update={"target": asked}).state_fields()
    assert fields["compare"] == ("openvino",)
    assert {name: getattr(fields["target"], name) for name in Target.model_fields} == {
        name: getattr(asked, name) for name in Target.model_fields
    }


def test_caches_are_cold_unless_the_recipe_says_hot_and_digests_stay_what_they_were(good: Path) -> None:
    text, before = good.read_text(), load_recipe(good)
    assert "caches" not in before.target.model_dump()
    for caches, same in (("cold", True), ("hot", False)):
        good.write_text(text.replace("runtime: runtime.py", f"runtime: runtime.py, caches: {caches}"))
        recipe = load_recipe(good)
        assert (recipe.target.caches, recipe.digest() == before.digest()) == (caches, same)
        assert recipe.state_fields()["target"].caches == caches


CHAIN = "- baseline\n- profile\n- sensitivity\n- search\n- compress\n- recover: {recover}"


def phases(file: Path) -> Recover:
    (recover,) = (step.stage for step in load_recipe(file).pipeline if isinstance(step.stage, Recover))
    return recover


def test_a_phase_that_is_written_in_part_keeps_the_rest_of_its_own_defaults(write_recipe: Write) -> None:
    partly = write_recipe(CHAIN.format(recover="{quantize: {epochs: 2}, distil: {batch: 64}}"))
    assert phases(partly) == Recover(distil=Schedule(epochs=8, batch=64, lr=1e-3))
    empty = write_recipe(CHAIN.format(recover="{quantize: {}, distil: {}}"))
    assert (phases(empty), load_recipe(empty).digest()) == (Recover(), recipe_digest(write_recipe, "{}"))


def test_a_phase_that_is_written_as_a_whole_is_what_was_written(write_recipe: Write) -> None:
    whole = "{epochs: 4, batch: 16, lr: 0.001, weight_decay: 0.02, ema: 0.97, bf16: false}"
    written = phases(write_recipe(CHAIN.format(recover=f"{{quantize: {whole}, distil: {whole}}}")))
    assert written.quantize == written.distil == Schedule(batch=16, bf16=False)


def recipe_digest(write_recipe: Write, recover: str) -> str:
    return load_recipe(write_recipe(CHAIN.format(recover=recover))).digest()


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("{epoch: 2}", "recover.quantize.epoch is not known; did you mean 'epochs'?"),
        ("{epochs: few}", "recover.quantize.epochs should be a valid integer"),
        ("{epochs: -1}", "recover.quantize.epochs should be greater than or equal to 0, got -1"),
        ("2", "recover.quantize should be a mapping with the keys epochs, batch, lr, weight_decay, ema, bf16, got 2"),
    ],
)
def test_what_is_wrong_in_a_phase_is_told_with_its_line(write_recipe: Write, phase: str, expected: str) -> None:
    file = write_recipe(CHAIN.format(recover=f"\n    quantize: {phase}"))
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "quantize" in text)
    assert complaint(file).startswith(f"{line}: {expected}")
