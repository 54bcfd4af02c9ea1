"""Device Administrator's pages over a real socket, without JavaScript: follows links, sends forms, waits for operations."""

import re
import time
from urllib.parse import urlsplit

import httpx2


class PageReader:
    """Follows links and sends forms."""

    def __init__(self, link):
        parts = urlsplit(link)
        self.base, self.link = f"{parts.scheme}://{parts.netloc}", link
        self.client = httpx2.Client(base_url=self.base, follow_redirects=True, timeout=300, trust_env=False)
        self.csrf = ""

    def enter(self):
        return self.see(self.link)

    def see(self, path):
        answer = self.client.get(path)
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', answer.text)
        self.csrf = found.group(1) if found else self.csrf
        self.text = answer.text
        return answer

    def send(self, path, data=None, files=None, **fields):
        body = {"csrf": self.csrf, **(data or {}), **fields}
        answer = self.client.post(path, data=body, files=files) if files else self.client.post(path, data=body)
        self.text = answer.text
        self.at = urlsplit(str(answer.url)).path
        return answer

    def wait(self):
        """An operation's page, until it has ended."""
        for _ in range(600):
            self.see(self.at)
            if 'http-equiv="refresh"' not in self.text:
                return self.text
            time.sleep(0.05)
        raise AssertionError("it never ended")

    def close(self):
        self.client.close()
