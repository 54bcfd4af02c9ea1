"""Device Administrator's pages in this process, on a real socket: for tests that choose what goes wrong inside."""

import contextlib
import socket
import threading
import time

import uvicorn

from support.pagereader import PageReader
from tallystick.administrator.app import open_sealer
from tallystick.administrator.memory.database import open_database
from tallystick.administrator.web.app import Pages, make_context, make_gate


@contextlib.contextmanager
def pages_of(home):
    """Somebody who has opened them."""
    database = open_database(home)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        gate, desk = make_gate(port), make_context(database, open_sealer(home))
        server = uvicorn.Server(
            uvicorn.Config(Pages(desk, gate).make_app(), log_level="error", lifespan="off", timeout_graceful_shutdown=2)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        reader = PageReader(f"http://127.0.0.1:{port}{gate.make_link()}")
        try:
            reader.enter()
            reader.see("/add")
            yield reader
        finally:
            reader.close()
            server.should_exit = True
            thread.join()
            desk.jobs.close()
            database.close()
