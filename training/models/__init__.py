"""The models: encoders, the scorer and the baselines."""
