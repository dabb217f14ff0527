"""What a model file answers on the images of a split, and how often it is right."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from paredown.models.data.dataset import ImageData, Split
from paredown.models.errors import InputError
from paredown.models.onnx.answers import FileOutput, keep_output, output_with_scores, outputs_of
from paredown.models.onnx.checked_file import open_checked
from paredown.models.onnx.edit import save_onnx
from paredown.models.onnx.unsteady_nodes import unsteady_complaint
from paredown.stages.base import State
from paredown.stages.measuring.answers import Answers, accuracy
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.evidence import AccuracyScores
from paredown.stages.runtimes.base import Images, Load, Runtime

__all__ = [
    "Answers",
    "FileAnswers",
    "accuracy",
    "accuracy_scores",
    "answers_by_split",
    "answers_of",
    "finite_answers",
    "logits_of",
    "not_finite",
    "scores_of",
]


@dataclass(frozen=True)
class FileAnswers:
    """A model file whose `output` holds a score for each of `classes`; `outputs` are all that it has."""

    file: Path
    output: FileOutput
    outputs: tuple[FileOutput, ...]
    classes: tuple[str, ...]

    @classmethod
    def read(cls, file: Path, classes: Sequence[str], output: str | None = None) -> "FileAnswers":
        """Raises InputError, one line, where no output of the file, or not the named one, fits the classes, and where
        its answers change from call to call."""
        model = open_checked(file)
        if complaint := unsteady_complaint(model):
            raise InputError(f"{file}: {complaint}")
        outputs = outputs_of(model)
        return cls(file, output_with_scores(outputs, str(file), len(classes), output), outputs, tuple(classes))

    def on(self, data: ImageData, split: Split, runtime: Runtime, load: Load) -> Answers:
        """What the runtime answers on a split, in order. Raises InputError where that is not what the file said."""
        batches = (images for images, _ in data.batches(split, load.batch))
        logits = self._run(runtime, batches, load.threads)
        if logits.shape != (len(split), len(self.classes)):
            wanted = f"one score for each of the data's {len(self.classes)} classes"
            raise InputError(f"{self.file}: its output {self.output} answered {logits.shape}; allowed is {wanted}")
        return Answers(logits, np.asarray(split.labels))

    def _run(self, runtime: Runtime, batches: Iterable[Images], threads: int) -> NDArray[np.float32]:
        """Logits of all batches; of a file with several outputs those of a copy that has only the one."""
        if len(self.outputs) == 1:
            return runtime.run(self.file, batches, threads=threads)
        model = open_checked(self.file)
        keep_output(model, self.output.name)
        with TemporaryDirectory() as folder:
            alone = Path(folder) / self.file.name
            save_onnx(model, alone)
            try:
                return runtime.run(alone, batches, threads=threads)
            except InputError as error:
                raise InputError(str(error).replace(str(alone), str(self.file))) from error


def answers_of(model: Path, data: ImageData, split: Split, state: State) -> Answers:
    """What the target's runtime answers on a split, in order."""
    return FileAnswers.read(model, data.classes).on(data, split, runtime_of(state), Load.of(state.target))


def answers_by_split(model: Path, state: State, data: ImageData, splits: Sequence[str]) -> dict[str, Answers]:
    """What the target's runtime answers on the named splits, in order; the file is read once."""
    file, runtime, load = FileAnswers.read(model, data.classes), runtime_of(state), Load.of(state.target)
    return {name: file.on(data, data.splits[name], runtime, load) for name in splits}


def logits_of(model: Path, data: ImageData, split: Split, state: State) -> NDArray[np.float32]:
    """(images, classes) that the target's runtime computes of a split, in order."""
    return answers_of(model, data, split, state).logits


def scores_of(
    model: Path, state: State, data: ImageData, splits: Sequence[str] = ("validation", "test")
) -> AccuracyScores:
    """A model file's accuracy on the named splits. Raises InputError where its logits are not finite."""
    return accuracy_scores(finite_answers(model, state, data, splits))


def finite_answers(
    model: Path, state: State, data: ImageData, splits: Sequence[str] = ("validation", "test")
) -> dict[str, Answers]:
    """What a model file answers on the named splits. Raises InputError where its logits are not finite."""
    answers = answers_by_split(model, state, data, splits)
    if faults := not_finite(answers):
        raise InputError(f"the model cannot be scored: {faults}")
    return answers


def accuracy_scores(answers: Mapping[str, Answers]) -> AccuracyScores:
    """The accuracy on every split of what was answered there."""
    return AccuracyScores(
        accuracy={name: one.accuracy for name, one in answers.items()},
        images={name: len(one.labels) for name, one in answers.items()},
    )


def not_finite(answers: Mapping[str, Answers]) -> str:
    """`3 of 40 test images: ...` for every split with logits that are not finite; empty where all are."""
    return "; ".join(fault for name, one in answers.items() if (fault := one.not_finite(name)))
