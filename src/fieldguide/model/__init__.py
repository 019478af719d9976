"""The network: backbone, head, and the bundle in which it leaves the program."""
