"""The ordered run: its loop, its store of products, and what it leaves."""

from paredown.pipeline.run.runner import run_pipeline

__all__ = ["run_pipeline"]
