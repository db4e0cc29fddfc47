"""The clinician's side: ingest, the record, the case's result, and the pages.

It imports `broker_config` of ours and nothing else: no model code, no image library. Images pass through untouched,
and every overlay is drawn in the browser from the small grid that a diagnosis carries.
"""
