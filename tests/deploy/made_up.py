"""An engine that computes what a test says."""

from fieldguide.deploy.engines import Engine


class Computes(Engine):
    """A function from inputs to logits as an engine, for batches of any size or of exactly one."""

    def __init__(self, function, batch_size=64):
        self.compute, self.batch_size = function, batch_size

    def compute(self, images):
        raise NotImplementedError
