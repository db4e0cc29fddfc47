"""The plainest loop that could serve a model over MQTT, to compare the worker with.

``python -m hemolink.bench.worker_plain PORT ROOT MODEL``: paho receives and acknowledges at once, one thread decodes, the main
thread infers batches of up to eight and publishes a short answer. It judges nothing, keeps nothing, and loses what it had
taken when it dies.
"""

import json
import queue
import sys
import threading
from typing import Any

import cbor2
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from model_zoo.catalogue import find_package
from model_zoo.image import decode_image
from model_zoo.predictor import Predictor

BATCH = 8


def main() -> None:
    """Serve until killed; prints ``ready`` once it is subscribed."""
    port, root, model = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    predictor = Predictor(find_package(model, ()), max_batch_size=BATCH)
    predictor.start()
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    decoded: queue.Queue[tuple[str, Any]] = queue.Queue(4 * BATCH)

    def decode() -> None:
        while True:
            frame = cbor2.loads(arrived.get())
            decoded.put((frame["frame_id"], predictor.prepare(decode_image(frame["image"]))))

    client = Client(CallbackAPIVersion.VERSION2, client_id="plain-loop", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda _client, _data, message: arrived.put(message.payload)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.connect("127.0.0.1", port)
    client.subscribe(f"{root}/v1/+/+/frame/+", qos=1)
    threading.Thread(target=decode, daemon=True).start()
    client.loop_start()
    while True:
        batch = [decoded.get()]
        while len(batch) < BATCH and not decoded.empty():
            batch.append(decoded.get())
        predictions = predictor.infer([tensor for _, tensor in batch])
        for (frame_id, _), prediction in zip(batch, predictions, strict=True):
            answer = {
                "frame_id": frame_id,
                "prediction": prediction.prediction,
                "probabilities": prediction.probabilities,
            }
            client.publish(f"{root}/v1/bench/scope-1/diagnosis", json.dumps(answer), qos=1)


if __name__ == "__main__":
    main()
