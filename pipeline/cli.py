"""The command line: verbs and exit codes. Results go to stdout, everything else to stderr.

Exit codes: 0 ok, 1 paredown's own fault (a log file is named), 2 bad input, 3 a limit is not met (or the artifact of a
lock came out otherwise), 4 something optional is not installed, 5 the machine refused (disk, lock), 130 stopped.
"""

import signal
import sys
from collections.abc import Sequence

import click

from paredown.models.errors import InputError
from paredown.pipeline.commands.check import check_verb
from paredown.pipeline.commands.diff import diff_verb
from paredown.pipeline.commands.exit_codes import run_guarded, show_tracebacks
from paredown.pipeline.commands.gate import gate_verb
from paredown.pipeline.commands.init import init_verb
from paredown.pipeline.commands.list import list_verb
from paredown.pipeline.commands.output import TRACEBACK_OPTION, tell
from paredown.pipeline.commands.run import plan_verb, report_verb, run_verb
from paredown.pipeline.commands.runtime import runtime_verbs
from paredown.pipeline.commands.show import show_verb
from paredown.pipeline.commands.sign import sign_verb
from paredown.pipeline.commands.sparseml import export_verb, import_verb
from paredown.pipeline.commands.verify import verify_verb


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paredown")
def cli() -> None:
    """Pares an image classifier down until it fits the device it must run on, with proof."""


for _verb in (
    init_verb,
    check_verb,
    plan_verb,
    run_verb,
    report_verb,
    diff_verb,
    gate_verb,
    verify_verb,
    show_verb,
    sign_verb,
    import_verb,
    export_verb,
    list_verb,
    runtime_verbs,
):
    cli.add_command(_verb)
for _verb in (cli, *cli.commands.values()):
    _verb.params.append(TRACEBACK_OPTION)


def main(argv: Sequence[str] | None = None) -> None:
    """The `paredown` command; ends the process with an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    show_tracebacks(False)
    sys.exit(run_guarded(lambda: _click(argv)))


def _click(argv: Sequence[str] | None) -> None:
    """Runs a verb; what click says about wrong arguments becomes an InputError."""
    try:
        code = cli.main(args=argv, prog_name="paredown", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        tell(error.format_message())
        raise SystemExit(InputError.exit_code) from error
    except click.ClickException as error:
        raise InputError(f"{error.format_message()} (see paredown --help)") from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
