"""Hostile messages, and the site that withstands them: what stands behind ``hemolink bench fuzz``.

The generators are also the list of what Hemolink withstands; each family is a module that can be read by itself:

- `damaged`: valid payloads with damaged bytes
- `cbor_structures` and `json_structures`: what that a decoder may stumble over
- `fields`: every field of every message, missing, null, of a wrong type, out of range, hostile text
- `images`: frames whose image is broken, a bomb, or not what the frame states
- `topics`: good messages where they do not belong, and topics that are none
- `orders`: commands and receipts that an edge must not obey
- `strangers`: invented devices, workers, diagnoses and dead letters that look right
- `packets`: odd MQTT packets; `wire`: raw bytes for a broker's port

`stream` mixes them by a seed, `site` runs the daemons, `ledger` compares what was sent with what was counted.
"""
