"""Reports of a case: PDF, FHIR R4B and R5, HL7 v2.5.1. Each is a pure function of one `CaseReport`.

`case_report` says what a report may say, `gather` reads it from the record, `vocabulary` holds every code with its source,
`formats` is the list of what can be had. Nothing here is a diagnosis: as long as nobody can sign, every report is
preliminary, and says so.
"""
