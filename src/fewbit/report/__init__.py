"""What quantizing cost: per layer, in accuracy, in time. Engines are handed in as Runners, never imported."""
