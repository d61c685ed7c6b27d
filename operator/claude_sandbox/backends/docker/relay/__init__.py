"""What publishes a sandbox's declared ports: the relay beside it. (The program in it is `claude_sandbox.relay`.)"""
