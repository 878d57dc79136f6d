"""fewbit."""
