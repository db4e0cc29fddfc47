"""The contract: what every Hemolink process agrees on.

If the broker or a second process can see it, it is defined here and nowhere else: topic names, messages, their
encoding, how each is delivered, the MQTT session, roles and access rules, and the brokers' configurations.
The package imports nothing else of Hemolink, and neither torch nor a web framework.
"""
