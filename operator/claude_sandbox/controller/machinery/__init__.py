"""What every controller needs, whatever it looks after: queue, election, events, logs, health. Knows no resource."""
