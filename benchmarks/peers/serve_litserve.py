"""The same model behind LitServe: batches of up to 32, decoded and computed by its one worker."""

import argparse
import base64

import litserve as ls

from fieldguide.commands.judging.models import load_runs
from fieldguide.commands.serve import ready


class Api(ls.LitAPI):
    """Files in base64, as LitServe's documentation sends images."""

    def __init__(self, run, engine):
        super().__init__(max_batch_size=32, batch_timeout=0.01)
        self.run, self.engine = run, engine

    def setup(self, device):
        self.predictor = load_runs(self.run, "cpu", self.engine, draft=True).predictor
        ready(self.predictor)

    def decode_request(self, request):
        return base64.b64decode(request["image"])

    def batch(self, inputs):
        return inputs

    def predict(self, photos):
        return self.predictor.predict(photos, top=5, batch_size=self.predictor.engine_batch_size)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"label": output.label, "confidence": round(output.confidence, 6), "top": output.top}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--engine", default="plain")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = ls.LitServer(Api(options.run, options.engine), accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="error")
