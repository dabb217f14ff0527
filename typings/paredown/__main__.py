"""`python -m paredown` is the command `paredown`."""

from paredown.pipeline.cli import main

if __name__ == "__main__":
    main()
