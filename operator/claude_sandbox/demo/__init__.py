"""The demo of the README: everything at work, from nothing, and gone again."""
