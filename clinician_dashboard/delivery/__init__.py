"""The way out to the health record: what is to be sent is a row, written in the transaction of what it tells of.

`orders` writes the rows, `courier` takes one after another to its target, `fhir` and `mllp` are the targets. A row stays until
the other side has said that it took it, or a person has looked at why it did not.
"""
