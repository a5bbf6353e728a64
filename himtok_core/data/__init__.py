"""Pictures to train and test on: drawn scenes and their questions."""
