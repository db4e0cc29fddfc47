"""The pages and the JSON API. Server-rendered, with small modules of our own JavaScript; it reads the record, never writes."""
