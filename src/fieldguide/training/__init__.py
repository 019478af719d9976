"""The method: phases, rounds, epochs, steps. Knows no recipe, no folder and no YAML."""
