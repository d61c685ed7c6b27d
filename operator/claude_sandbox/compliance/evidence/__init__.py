"""What was read, from where and when: the only input of every control. Pure data; nothing here judges."""
