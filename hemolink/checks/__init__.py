"""What ``hemolink doctor`` looks at, one part of the system a module.

Each check is a function that returns findings and never raises for a fault of what it checks.
"""
