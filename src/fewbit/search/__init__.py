"""Finding out what a network can bear: which layers to keep in float. Engines are handed in, never imported."""
