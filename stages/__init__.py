"""The steps of a run, and the transforms, solvers and runtimes they use."""
