"""What the kernels of nodes say of sandboxes' pods: the agents on the nodes, whom to believe, and what to make of it.

`claude_sandbox.node_agent` is the program that is asked.
"""

NAMESPACE = "claude-sandbox-nodes"
"""Where the agents are, and nothing else: whoever may create pods there has the nodes."""
SELECTOR = "app.kubernetes.io/name=claude-sandbox-node-agent"
TLS_SECRET = "claude-sandbox-node-agent-tls"
"""What agents have as files: their certificate, its key, and whom they answer."""
AUTHORITY_SECRET = "claude-sandbox-node-agent-authority"
"""What the certificates come from; no pod has it."""
