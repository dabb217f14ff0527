"""Recipes of SparseML, in and out."""
