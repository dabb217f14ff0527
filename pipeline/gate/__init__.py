"""The release gate: does a model hold its budgets, and is it no larger and no slower than the one before?"""
