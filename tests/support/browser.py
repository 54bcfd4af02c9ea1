"""A browser without JavaScript: follows links and sends forms, as the pages have them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


@dataclass
class Sent:
    """One form of a page."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class Forms(HTMLParser):
    """The forms of a page, with the values that they would be sent with."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.forms: list[Sent] = []
        self._select: str | None = None
        self._area: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Sent(action=values.get("action") or self.path, method=values.get("method", "get")))
        if not self.forms:
            return
        fields = self.forms[-1].fields
        match tag:
            case "input" if values.get("type") == "checkbox":
                if "checked" in values:
                    fields[values["name"]] = values.get("value", "on")
            case "input" if values.get("name") and values.get("type") != "file":
                fields[values["name"]] = values.get("value", "")
            case "select":
                self._select = values["name"]
            case "option" if self._select and (self._select not in fields or "selected" in values):
                fields[self._select] = values.get("value", "")
            case "textarea":
                self._area = values["name"]
                fields[self._area] = ""
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None
        if tag == "textarea":
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1].fields[self._area] += data


@dataclass
class Reader:
    """What a person does with a page."""

    client: Any

    def see(self, path: str) -> Any:
        return self.client.get(path)

    def form(self, path: str, action: str | None = None, **chosen: str) -> Sent:
        parser = Forms(path)
        parser.feed(self.see(path).text)
        wanted = [
            form
            for form in parser.forms
            if form.method == "post"
            and form.action != "/sign-out"
            and (action is None or form.action == action)
            and all(form.fields.get(name) == value for name, value in chosen.items())
        ]
        assert wanted, [(form.action, form.fields) for form in parser.forms]
        return wanted[0]

    def last(self, text: str, action: str) -> dict[str, str]:
        """The fields of a form of a page that was answered."""
        parser = Forms(action)
        parser.feed(text)
        return next(form.fields for form in parser.forms if form.action == action)

    def send(self, path: str, action: str | None = None, chosen: dict[str, str] | None = None, **fields: str) -> Any:
        form = self.form(path, action, **(chosen or {}))
        return self.client.post(form.action, data={**form.fields, **fields})

    def upload(self, *files: tuple[str, bytes]) -> Any:
        csrf = self.form("/deliver").fields["csrf"]
        return self.client.post(
            "/deliver",
            data={"csrf": csrf},
            files=[("files", (name, data, "application/x-tally")) for name, data in files],
        )


def words(text: str) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))
