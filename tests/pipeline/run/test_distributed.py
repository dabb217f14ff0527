"""Under torchrun: one rank writes, the others take part where a stage is distributed, and wait elsewhere."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Write = Callable[..., Path]

NOTE = """
import os, time
time.sleep(0.3 if os.environ["RANK"] == "0" else 0)
(state.root / f"{self.gives}-rank{os.environ['RANK']}").write_text(str(len(state.products)))
if os.environ["RANK"] == "0":
    (state.out / "value").write_text("made")
"""

RUN = """
import sys
from pathlib import Path
from paredown.models.errors import LimitError
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline
try:
    state = run_pipeline(load_recipe("demo.yaml"), Path("runs"))
except LimitError as error:
    sys.exit(f"limit: {error}")
assert all((folder / "value").read_text() == "made" for folder in state.products.values())
"""


def launch(folder: Path, world: int) -> list[tuple[int, str]]:
    """Exit code and stderr of every rank."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN],
            cwd=folder,
            env={**os.environ, "WORLD_SIZE": str(world), "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    return [(process.wait(timeout=60), process.communicate()[1]) for process in processes]


def test_ranks_work_together(write_stage: Write, write_recipe: Write, tmp_path: Path) -> None:
    write_stage("first", NOTE)
    write_stage("second", NOTE, needs=("first",), extra="distributed: ClassVar[bool] = True")
    write_stage("third", NOTE, needs=("second",))
    write_recipe("- first.py\n- second.py\n- third.py")
    assert launch(tmp_path, 2) == [(0, ""), (0, "")]
    ran = {file.name: file.read_text() for file in tmp_path.glob("*-rank*")}
    assert ran == {"first-rank0": "0", "second-rank0": "1", "second-rank1": "1", "third-rank0": "1"}


def test_a_limit_ends_all_ranks(write_stage: Write, write_recipe: Write, tmp_path: Path) -> None:
    write_stage("first", f'{NOTE}\nraise LimitError("too small", keep=True)')
    write_recipe("- first.py")
    for code, err in launch(tmp_path, 2):
        assert (code, err) == (1, "limit: too small\n")
