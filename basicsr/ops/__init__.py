"""Operators, one folder each: the public function in `__init__.py`, an obvious `reference.py` beside every fast path."""
