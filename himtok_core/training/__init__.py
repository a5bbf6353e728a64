"""Training recipes: one visible loop each for the tokenizer and for the language model."""
