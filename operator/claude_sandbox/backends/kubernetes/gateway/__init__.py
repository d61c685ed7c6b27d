"""The gateway of a namespace's sandboxes: one Deployment, which holds their keys and is their only way out."""
