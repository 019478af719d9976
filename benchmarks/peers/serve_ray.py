"""The same model behind Ray Serve: one replica, batches of up to 32 by its own batching, on a Ray of its own."""

import argparse
import asyncio
import base64
import time

import ray
from ray import serve
from starlette.requests import Request

from fieldguide.commands.judging.models import load_runs
from fieldguide.commands.serve import ready


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Model:
    """Files in base64, as for LitServe."""

    def __init__(self, run, engine):
        self.predictor = load_runs(run, "cpu", engine, draft=True).predictor
        ready(self.predictor)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.01)
    async def predicted(self, photos):
        size = self.predictor.engine_batch_size
        return await asyncio.to_thread(lambda: self.predictor.predict(photos, top=5, batch_size=size))

    async def __call__(self, request: Request):
        made = await self.predicted(base64.b64decode((await request.json())["image"]))
        return {"label": made.label, "confidence": round(made.confidence, 6), "top": made.top}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", default="openvino")
    options = parser.parse_args()
    ray.init(address="local", include_dashboard=False, num_cpus=4, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    serve.run(Model.bind(options.run, options.engine), route_prefix="/predict")
    while True:
        time.sleep(1)
