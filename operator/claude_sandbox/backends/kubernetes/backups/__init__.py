"""Backups in one cluster: what makes them (`helpers`), and snapshots of the volumes they are made of
(`volume_snapshots`, told and judged by `snapshot_documents`)."""
