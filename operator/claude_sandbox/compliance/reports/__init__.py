"""From evidence to findings, and to what a status says. On top: knows every room of compliance."""
