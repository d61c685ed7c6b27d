"""The filter of system calls that `Strict` stands for: its declaration, its document, its page."""
