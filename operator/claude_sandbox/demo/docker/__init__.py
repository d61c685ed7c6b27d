"""The demo on plain Docker: an engine, a control plane without a node, the operator as a process, a sandbox."""
