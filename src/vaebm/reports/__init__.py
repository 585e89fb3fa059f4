"""What a person reads: the HTML report, tables for the terminal and for Markdown, the model card."""
