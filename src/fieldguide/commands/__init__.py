"""One verb a file; each is a command of the program and a function of the library."""
