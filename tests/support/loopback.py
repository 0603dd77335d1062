"""A server of a test's own on this machine."""

import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer


class LoopbackServer(ThreadingHTTPServer):
    """Says nothing of clients that go or are killed."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


@contextmanager
def serving(server):
    """Have a server answer while the block lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
