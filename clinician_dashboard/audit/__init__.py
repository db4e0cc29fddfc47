"""The audit: an append-only chain of what people did, and its check."""

from clinician_dashboard.audit.chain import append

__all__ = ["append"]
