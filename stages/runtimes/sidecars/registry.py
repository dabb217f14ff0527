"""The sidecars that there are. A runtime names the one that it needs in its `SIDECAR`."""

from paredown.models.errors import InputError
from paredown.stages.runtimes.sidecars.environment import Sidecar
from paredown.stages.runtimes.support import machine


def no_avx2_linux() -> str:
    """Why DeepSparse's engine cannot run here, or nothing."""
    here = machine.fingerprint()
    if here["system"] != "Linux" or here["arch"] != "x86_64":
        return f"it needs Linux on x86-64, this is {here['system']} on {here['arch']}"
    return "" if "avx2" in here["flags"].split() else "it needs a CPU with AVX2"


_TERMS = (
    "DeepSparse Community is not free software: its licence allows evaluation in development and testing only, not "
    "production, not use on behalf of others, not passing it on."
)

SIDECARS = {
    sidecar.name: sidecar
    for sidecar in (
        Sidecar(
            name="deepsparse",
            requirements=("deepsparse==1.8.0",),
            pythons=("3.11", "3.10", "3.9", "3.8"),
            size="474 MB",
            terms=_TERMS,
            licence="deepsparse-1.8.0.dist-info/LICENSE",
            obstacle=no_avx2_linux,
        ),
        Sidecar(
            name="sparseml",
            requirements=(
                "torch==2.13.0",
                "deepsparse==1.8.0",
                "sparseml==1.8.0",
                "sparsezoo==1.8.1",
                "setuptools<81",
            ),
            pythons=("3.11", "3.10"),
            size="1.7 GB with the CPU build of torch",
            terms=_TERMS,
            licence="deepsparse-1.8.0.dist-info/LICENSE",
            obstacle=no_avx2_linux,
        ),
    )
}
"""Every sidecar by its name."""


def sidecar_of(name: str) -> Sidecar:
    """Raises InputError where there is none of that name."""
    if name not in SIDECARS:
        raise InputError(f"there is no runtime {name!r} to install; allowed: {', '.join(SIDECARS)}")
    return SIDECARS[name]
