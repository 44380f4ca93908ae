"""A trained network as one program that runs anywhere: StableHLO with the preprocessing inside."""
