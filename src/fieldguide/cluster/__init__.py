"""Other machines: the work of many processes, handed to Ray or Slurm. The only room that knows them."""
