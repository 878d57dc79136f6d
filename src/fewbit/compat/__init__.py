"""Interfaces of other tools over fewbit, for scripts that were written for them."""
