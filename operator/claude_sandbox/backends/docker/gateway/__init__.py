"""The one way out of a sandbox that does not hold its key: the gateway beside it. (The program in it is
`claude_sandbox.gateway`.) What the relay is for who comes in, this is for what goes out; they are apart, so that who
connects from outside never reaches the program that holds the key."""
