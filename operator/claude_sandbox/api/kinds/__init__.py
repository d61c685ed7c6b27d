"""The smaller kinds: what gateways write down of a sandbox, and how somebody is let into one."""
