"""Images and labels: the built-in digits, folders, Hugging Face data sets, same-class batches."""
