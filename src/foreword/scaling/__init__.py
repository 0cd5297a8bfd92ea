"""Beyond one process: replicas behind Ray Serve, files scored over Ray Data. Needs the extra ``ray``."""
