"""The decoy: records every input as the models saw it."""
