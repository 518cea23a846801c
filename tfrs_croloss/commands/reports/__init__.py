"""Results on the console, in Markdown and as plots."""
