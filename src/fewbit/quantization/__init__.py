"""From a float graph and the user's words to a calibrated plan. Engines and targets are handed in, never imported."""
