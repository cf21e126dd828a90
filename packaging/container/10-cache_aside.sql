-- Run by the entry point of the image when it makes a data directory, in POSTGRES_DB.
CREATE EXTENSION cache_aside;
