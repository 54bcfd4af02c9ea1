"""A sentence is English for programs and the reader's language for people, down to its values and plurals."""

from __future__ import annotations

import copy
import pickle
from io import BytesIO

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

from tallystick import sentences
from tallystick.errors import Error
from tallystick.pages import make_environment
from tallystick.sentences import N_, Reader, _, _n, language_of_browser, language_of_shell, spoken, way

GERMAN = Reader(language="de")
SYNC = way("tallystick admin sync", N_("“Carry what waits”"))


@pytest.fixture(autouse=True)
def german(tmp_path, monkeypatch):
    """A German catalog that has a few sentences."""
    catalog = Catalog(locale="de")
    catalog.add("{available} available", "{available} verfügbar")
    catalog.add("then {sync}", "dann {sync}")
    catalog.add("“Carry what waits”", "„Befördern“")
    catalog.add("expected {expected}; saw {seen}", "erwartet: {expected}; gesehen: {seen}")
    catalog.add(("{count} line", "{count} lines"), ("{count} Zeile", "{count} Zeilen"))
    catalog.add("Next", "Weiter")
    file = tmp_path / "de" / "LC_MESSAGES" / "tallystick.mo"
    file.parent.mkdir(parents=True)
    data = BytesIO()
    write_mo(data, catalog)
    file.write_bytes(data.getvalue())
    monkeypatch.setenv(sentences.FOLDER_VARIABLE, str(tmp_path))
    token = sentences.READER.set(Reader())
    yield
    sentences.READER.reset(token)


def test_a_sentence_is_its_english_text_and_is_said_anew_for_another_reader():
    text = _("{available} available", available=3)
    assert text == "3 available"
    assert spoken(text) == "3 available"
    assert spoken(text, GERMAN) == "3 verfügbar"


def test_a_sentence_within_a_sentence_is_translated_with_it_and_a_page_names_what_to_click():
    text = _("then {sync}", sync=SYNC)
    assert text == "then tallystick admin sync"
    assert spoken(text, GERMAN) == "dann tallystick admin sync"
    assert spoken(text, Reader(language="de", is_page=True)) == "dann „Befördern“"
    assert spoken(text, Reader(is_page=True)) == "then “Carry what waits”"


@pytest.mark.parametrize(("count", "text"), [(1, "1 Zeile"), (2, "2 Zeilen"), (0, "0 Zeilen")])
def test_plurals_are_the_languages_own(count, text):
    assert spoken(_n("{count} line", "{count} lines", count=count), GERMAN) == text


def test_what_came_from_outside_is_shown_as_it_is_and_braces_in_it_mean_nothing():
    assert spoken("{available} available", GERMAN) == "{available} available"
    assert spoken(_("{available} available", available="{x.y}"), GERMAN) == "{x.y} verfügbar"


def test_an_error_keeps_english_for_programs_and_sentences_for_people():
    error = Error("not-enough", expected=_("{available} available", available=4), seen="none")
    assert type(error.expected) is str
    assert str(error) == "expected 4 available; saw none"
    assert spoken(error.sentence, GERMAN) == "erwartet: 4 verfügbar; gesehen: none"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda text: pickle.loads(pickle.dumps(text))])
def test_a_copy_is_a_sentence(again):
    assert spoken(again(_("then {sync}", sync=SYNC)), GERMAN) == "dann tallystick admin sync"


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "de_AT.UTF-8"}, "de"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "xx:de"}, "de"),
        ({"LC_ALL": "../../etc", "LANG": "de"}, "en"),
    ],
)
def test_a_shell_is_answered_in_the_first_language_there_is(environ, language):
    assert language_of_shell(environ) == language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("en;q=0.5, de;q=0.9", "de"),
        ("fr, en;q=0.4, de;q=0.2", "en"),
        ("de;q=nan, ;;,,=", "de"),
        ("xx-" * 5000, "en"),
        ("de;q=0", "en"),
    ],
)
def test_a_browser_is_answered_in_the_language_it_wants_most(header, language):
    assert language_of_browser(header) == language


def test_a_template_speaks_the_readers_language_also_where_it_shows_a_sentence():
    page = make_environment("tallystick.administrator.web", static_prefix="/static").from_string(
        "{% trans %}Next{% endtrans %} {{ text }} {{ text | name }} {{ plain }}"
    )
    values = {"text": _("{available} available", available="<3>"), "plain": "{a} & b"}
    assert page.render(values) == ("Next &lt;3&gt; available <bdi>&lt;3&gt; available</bdi> {a} &amp; b")
    sentences.READER.set(GERMAN)
    assert page.render(values) == ("Weiter &lt;3&gt; verfügbar <bdi>&lt;3&gt; verfügbar</bdi> {a} &amp; b")
